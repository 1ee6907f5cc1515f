"""Transport layer: what every HTTP request to a room goes through before it is served: origin, identity, room."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request

from roundtable.common.schema.basics import Role, is_room
from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.session import Claims

from ..identity import credentials_of

if TYPE_CHECKING:
    from ..service import Gateway


class Admitted(NamedTuple):
    claims: Claims
    room: str
    role: Role
    address: str


def client_address(request: Request) -> str:
    """The peer's, or what a trusted proxy says of it."""
    return request.client.host if request.client else ""


async def enter(gateway: Gateway, request: Request, room: str | None = None) -> Admitted:
    """To that room, else to the one that the query names. Raises `Refusal`.

    In development a request without a token is a guest: the one of its `connection`, if it names one.
    """
    if request.method == "HEAD":
        raise HTTPException(405, "Method Not Allowed")
    gateway.check_serving()
    gateway.check_origin(request.headers.get("origin"), request.headers.get("host"))
    gateway.check_room(request.query_params.get("room"))
    credentials = credentials_of(request.headers, (), request.query_params)
    claims = None
    if credentials is None:
        claims = gateway.guest_of(request.query_params.get("connection", ""))
    if claims is None:
        claims = await gateway.identity.of(credentials)
    if claims is None:
        raise Refusal("auth_required", "Send a token as `Authorization: Bearer`, or a `ticket`")
    room = gateway.room_for(request.query_params.get("room") if room is None else room, claims)
    role = claims.role_in(room)
    assert role is not None
    return Admitted(claims, room, role, client_address(request))


def connection_id(request: Request) -> str:
    """The `connection` that the request names; empty: none. Raises `Refusal` for what none of ours can be."""
    named = request.query_params.get("connection", "")
    if named and not is_room(named):  # the same letters
        raise Refusal("invalid_data", "`connection` is the `connectionId` of a welcome")
    return named
