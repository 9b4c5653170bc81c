"""Sets of URLs over the same promises: each reads a request, asks one service, writes its answer."""
