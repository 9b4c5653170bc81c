"""The gateway, against fake endpoints that are programs of their own."""
