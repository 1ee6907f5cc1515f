"""The activity service: chat, dice and all else that a room's feed tells."""
