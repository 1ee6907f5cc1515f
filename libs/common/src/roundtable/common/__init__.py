"""What gateway and services share: the schema, the event log, the command handler, the runtime."""

from typing import Final

VERSION: Final = "0.1.0"
