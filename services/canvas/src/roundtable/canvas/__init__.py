"""The canvas service: what is drawn, cleared, undone and redone in a room."""
