"""The edge: reads a request, asks one service, writes the answer."""
