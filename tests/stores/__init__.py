"""Document stores over HTTP, as their users see them."""
