"""Identity layer: from what a request brings to who it is, for every transport (AU2, AU5). Knows no frames or rooms."""

from __future__ import annotations

import secrets
import string
from collections.abc import Iterable, Mapping
from typing import Final, Literal

from msgspec import Struct

from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.session import Claims

from .auth import Authenticator
from .jwks import JwksSource
from .sessions import SessionStore

BEARER_SUBPROTOCOL: Final = "bearer."
_LETTERS: Final = string.ascii_lowercase + string.digits


class Credentials(Struct, frozen=True):
    """What a request brought to say who it is; its representation does not show the secret."""

    kind: Literal["token", "ticket"]
    secret: str

    def __repr__(self) -> str:
        return f"<{self.kind}>"


def credentials_of(
    headers: Mapping[str, str], subprotocols: Iterable[str] = (), query: Mapping[str, str] | None = None
) -> Credentials | None:
    """The first that is found: `Authorization: Bearer`, a subprotocol `bearer.TOKEN`, `?ticket=`; None: there is none (AU2).

    `headers` by lower-case names. A token in the query string is left where it is; if nothing else came, raises `Refusal`
    (token_invalid), since its sender would else be somebody else without knowing why.
    """
    scheme, _, rest = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer":
        return Credentials("token", rest.strip())
    for offered in subprotocols:
        if offered.startswith(BEARER_SUBPROTOCOL):
            return Credentials("token", offered.removeprefix(BEARER_SUBPROTOCOL))
    query = query or {}
    if "ticket" in query:
        return Credentials("ticket", query["ticket"])
    if "token" in query or "access_token" in query:
        raise Refusal(
            "token_invalid",
            "A token in the query string is not accepted, because it would be logged: send it as `Authorization: Bearer`,"
            " as the subprotocol `bearer.TOKEN` or by `auth.login`, or get a `ticket` from POST /auth/ticket",
        )
    return None


def guest_claims() -> Claims:
    """Somebody without a token, in development only (AU5)."""
    name = "".join(secrets.choice(_LETTERS) for _ in range(6))
    return Claims(f"guest-{name}", f"Guest {secrets.token_hex(2).upper()}", {"*": "player"}, None, "")


class Identity:
    """All that it takes to say who somebody is. With `guests`, whoever brings nothing is one."""

    def __init__(
        self,
        authenticator: Authenticator,
        keys: JwksSource | None,
        sessions: SessionStore,
        *,
        guests: bool = False,
    ) -> None:
        self.authenticator: Final = authenticator
        self.sessions: Final = sessions
        self._keys = keys
        self._guests = guests

    async def of(self, credentials: Credentials | None) -> Claims | None:
        """Who it is; None: not known yet, so a login must come (AU2).

        Raises `Refusal`: `token_invalid`, `token_expired`, `revoked`, `unavailable`.
        """
        if credentials is None:
            return guest_claims() if self._guests else None
        if credentials.kind == "ticket":
            return await self.sessions.redeem(credentials.secret)
        return await self.of_token(credentials.secret)

    async def of_token(self, token: str) -> Claims:
        """As `of`, for a token: also that of `auth.login` and `auth.refresh`."""
        return self.sessions.check(await self.verified(token))

    async def verified(self, token: str) -> Claims:
        """The claims of a good token, though its session may have been ended."""
        if self._keys is not None:
            await self._keys.ready_for(token)
        return self.authenticator.verify(token)
