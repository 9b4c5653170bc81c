"""The gateway's own pages: errors, model listings, status documents."""
