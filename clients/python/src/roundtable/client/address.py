"""Pure layer: from the one address that a user gives to those of the transports. Knows no network."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qs, quote, urlencode, urlsplit

_SCHEMES = {"http": ("http", "ws"), "ws": ("http", "ws"), "https": ("https", "wss"), "wss": ("https", "wss")}
_PATHS = ("/ws", "/sse", "/poll", "/rpc")


class Address(NamedTuple):
    http: str
    """Scheme, host and what a reverse proxy puts before our paths."""
    ws: str
    room: str | None

    def of(self, path: str, **query: str | None) -> str:
        """The address of `/sse`, `/poll`, … with what of the query is not None."""
        return self._with(self.http + path, query)

    def socket(self, **query: str | None) -> str:
        return self._with(f"{self.ws}/ws", query)

    def export(self, room: str, file: str) -> str:
        return f"{self.http}/rooms/{quote(room, safe='')}/{file}"

    def _with(self, address: str, query: dict[str, str | None]) -> str:
        said = {name: value for name, value in {"room": self.room, **query}.items() if value is not None}
        return f"{address}?{urlencode(said)}" if said else address


def address_of(url: str, room: str | None = None) -> Address:
    """From any of `ws://HOST`, `http://HOST/sse`, `https://HOST/prefix?room=inn`, … Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES or not parts.hostname:
        raise ValueError(f"{url!r} is no address like ws://localhost:8080 or https://table.example")
    http, ws = _SCHEMES[parts.scheme]
    path = parts.path.rstrip("/")
    for known in _PATHS:
        path = path.removesuffix(known)
    if room is None:
        room = parse_qs(parts.query).get("room", [None])[0]
    return Address(f"{http}://{parts.netloc}{path}", f"{ws}://{parts.netloc}{path}", room)
