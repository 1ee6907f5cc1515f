"""The command `roundtable`: a table from the terminal."""

from .commands import main

__all__ = ["main"]
