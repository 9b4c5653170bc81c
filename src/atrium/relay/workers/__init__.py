"""Programs of the relay's that run in a child."""
