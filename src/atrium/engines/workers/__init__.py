"""Programs that run in the child. Each is started by name and imported by nobody."""
