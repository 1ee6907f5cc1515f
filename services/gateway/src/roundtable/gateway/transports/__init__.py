"""Transports: each moves bytes between one kind of client and a `Connection`, and knows no rooms."""
