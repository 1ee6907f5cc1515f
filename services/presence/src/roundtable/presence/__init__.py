"""The presence service: who is in a room, and how."""
