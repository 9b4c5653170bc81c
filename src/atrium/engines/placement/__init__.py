"""Where a child runs."""
