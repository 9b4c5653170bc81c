"""Alembic asks for this file; the connection and the steps come from `database.py`."""
