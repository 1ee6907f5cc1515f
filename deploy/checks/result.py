"""What a check says. Knows no check."""

from __future__ import annotations


class Unavailable(Exception):
    """A tool that cannot be had here; the text says which, and how to get it. Loud on a desk, a failure in CI."""


class Broken(Exception):
    """What should be checked is so wrong that no more can be said than this."""
