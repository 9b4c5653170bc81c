"""Bringing models in: index, fetch, unpack, convert, the model folder."""
