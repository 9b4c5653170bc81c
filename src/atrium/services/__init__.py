"""Promises to a user, one file each. They see core, decisions and ports; no part and no wire."""
