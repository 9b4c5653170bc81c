"""Pure ASGI, one concern each; `server.py` lists them in order."""
