"""Starts the command: `python -m roundtable.client.cli`."""

import sys

from .commands import main

if __name__ == "__main__":
    sys.exit(main())
