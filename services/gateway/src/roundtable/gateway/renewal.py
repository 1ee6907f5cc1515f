"""Shell layer: a new token for a connection that is at another gateway than the request that brings it (AU3, CO4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
import nats.errors
from msgspec import Struct
from nats.aio.client import Client
from nats.aio.msg import Msg

from roundtable.common.schema.errors import ErrorBody, Refusal
from roundtable.common.schema.session import Claims

SUBJECT: Final = "rt.ctl.renew"
WAIT: Final = 1.0


class Renewed(Struct):
    connection: str
    claims: Claims


class Outcome(Struct):
    error: ErrorBody | None = None


_renewed = msgspec.json.Decoder(Renewed).decode
_outcome = msgspec.json.Decoder(Outcome).decode

Renew = Callable[[str, Claims], bool]
"""Renews a connection of this gateway; False: it is not here. Raises `Refusal`."""


class Renewal:
    def __init__(self, client: Client, renew: Renew) -> None:
        self._client = client
        self._renew = renew

    async def start(self) -> None:
        await self._client.subscribe(SUBJECT, cb=self._asked)

    async def renew(self, connection: str, claims: Claims) -> None:
        """Raises `Refusal`: what the connection's gateway says, or that there is no such connection."""
        if self._renew(connection, claims):
            return
        try:
            request = msgspec.json.encode(Renewed(connection, claims))
            outcome = _outcome((await self._client.request(SUBJECT, request, timeout=WAIT)).data)
        except (nats.errors.TimeoutError, nats.errors.NoRespondersError):
            raise Refusal("invalid_data", "There is no such `connection`") from None
        except nats.errors.Error:
            raise Refusal("unavailable") from None
        if outcome.error is not None:
            raise Refusal.of(outcome.error)

    async def _asked(self, message: Msg) -> None:
        renewed = _renewed(message.data)
        try:
            if not self._renew(renewed.connection, renewed.claims):
                return
            outcome = Outcome()
        except Refusal as refusal:
            outcome = Outcome(refusal.body)
        await message.respond(msgspec.json.encode(outcome))
