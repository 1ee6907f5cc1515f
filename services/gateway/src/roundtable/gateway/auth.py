"""Identity layer: tokens, verified and issued (AU1). Pure but for the clock that it is given: no I/O, no HTTP, no NATS.

An algorithm belongs to a key, and a key comes from the configuration. A token's header only says which key it means, and
must agree with that key's algorithm. HS256 is ever checked with the shared secret alone, all else with public keys alone,
so a token "signed" with a public key as the secret has no way in (RFC 8725, 2.1).
"""

from __future__ import annotations

import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from math import ceil, isfinite
from typing import Final, NamedTuple, NoReturn, Protocol

import msgspec
from jwt.algorithms import HMACAlgorithm
from jwt.exceptions import InvalidKeyError
from msgspec import UNSET, Raw, Struct, UnsetType

from roundtable.common.config import ConfigError
from roundtable.common.schema.basics import ROLES, Role, clean_name, is_room
from roundtable.common.schema.envelope import readable
from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.session import Claims

LEEWAY_S: Final = 30
"""For clocks that differ: on `exp`, `nbf` and `iat`."""
MAX_TOKEN: Final = 16_384
MAX_ROOMS: Final = 1_000
MAX_SESSION: Final = 256
LEAST_SECRET: Final = 32
"""Bytes: as long as SHA-256's own output (RFC 7518, 3.2)."""
_LATEST: Final = 9_999_999_999.0
"""The year 2286; what is larger is milliseconds by mistake."""

_COMPACT: Final = re.compile(r"([\w-]+)\.([\w-]+)\.([\w-]+)", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_HEADER: Final = urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=")


class Key(NamedTuple):
    """One key that tokens may be signed by, bound to its one algorithm."""

    kid: str | None
    algorithm: str
    verify: Callable[[bytes, bytes], bool]
    """Takes what was signed, and the signature."""


class KeySource(Protocol):
    """Public keys, in memory."""

    def find(self, kid: str | None) -> Key | None:
        """The key of that id; without an id, the only key there is. Raises `Refusal` (unavailable) until keys have come."""
        ...


class Header(Struct, frozen=True):
    """What a token's header says; nothing in it is trusted."""

    alg: str
    kid: str | None = None
    crit: Raw | UnsetType = UNSET
    b64: Raw | UnsetType = UNSET


class _Payload(Struct, frozen=True):
    """The claims that we read; others are none of our business."""

    sub: str
    exp: float
    name: str | None = None
    room: str | None = None
    role: str | None = None
    rooms: dict[str, str] | None = None
    nbf: float | None = None
    iat: float | None = None
    iss: str | None = None
    aud: str | list[str] | None = None
    sid: str | None = None
    jti: str | None = None


_header_decoder: Final = msgspec.json.Decoder(Header)
_payload_decoder: Final = msgspec.json.Decoder(_Payload)
_UNREADABLE: Final = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)


class Authenticator:
    """Verifies by the secret, by keys, or by both; issues by the secret alone.

    Raises `ConfigError` for a secret that is too short (but in development) or is really a public key, and when there is
    neither secret nor keys. `clock` gives seconds since the epoch.
    """

    def __init__(
        self,
        secret: str | None,
        keys: KeySource | None,
        issuer: str | None = None,
        audience: str | None = None,
        clock: Callable[[], float] = time.time,
        *,
        development: bool = False,
    ) -> None:
        if not secret and keys is None:
            raise ConfigError("set ROUNDTABLE_JWT_SECRET or ROUNDTABLE_JWKS, by which tokens are checked")
        self._secret = _secret_bytes(secret, development) if secret else b""
        self._secret_key = Key(None, "HS256", self._verify_hs256) if secret else None
        self._keys = keys
        self._issuer = issuer or None
        self._audience = audience or None
        self._clock = clock

    @property
    def can_issue(self) -> bool:
        return self._secret_key is not None

    def verify(self, token: str) -> Claims:
        """Who bears this token. Raises `Refusal`: `token_invalid`, `token_expired`, or `unavailable` before keys have come.

        The text of a refusal names the claim that is wrong, and never holds a part of the token's signature or of a claim
        that might be secret.
        """
        head, body, signature = _parts(token)
        key = self._key_for(_header(head))
        if not key.verify(f"{head}.{body}".encode(), _decoded(signature, "signature")):
            _refuse("its signature is not right")
        return self._claims(_decoded(body, "payload"))

    def issue(self, claims: Claims, ttl_s: float) -> tuple[str, int]:
        """A token of ours that says what `claims` do, and when it expires (ms). Raises `ConfigError` without a secret.

        The end is at a full second, not before `ttl_s` from now; `claims.expires_at` is not read.
        """
        if not self.can_issue:
            raise ConfigError("tokens are issued with ROUNDTABLE_JWT_SECRET, which is not set")
        now = self._clock()
        exp = ceil(now + ttl_s)
        fields: dict[str, object] = {
            "sub": claims.user_id,
            "name": claims.username,
            "iat": int(now),
            "exp": exp,
        }
        (room, role), *others = claims.rooms.items() or [("", "")]
        if not others and claims.default_room == (None if room == "*" else room):
            fields |= {"room": room, "role": role}
        else:
            fields |= {"rooms": claims.rooms} | ({"room": claims.default_room} if claims.default_room else {})
        named = {"sid": claims.session, "iss": self._issuer, "aud": self._audience}
        fields |= {name: value for name, value in named.items() if value}
        signed = _HEADER + b"." + _encoded(msgspec.json.encode(fields))
        return (signed + b"." + _encoded(_HS256.sign(signed, self._secret))).decode(), exp * 1_000

    def _verify_hs256(self, signed: bytes, signature: bytes) -> bool:
        return _HS256.verify(signed, self._secret, signature)

    def _key_for(self, header: Header) -> Key:
        """The key that the header names, if that is one for its algorithm.

        The secret is meant by tokens without `kid`, and by all where it is the only key.
        """
        key = self._secret_key
        if self._keys is not None and not (key and header.kid is None and header.alg == key.algorithm):
            key = self._keys.find(header.kid)
        if key is None:
            _refuse(
                "there is no key for its `kid`" if header.kid else "it needs a `kid`, to say by which key"
            )
        if header.alg != key.algorithm:
            _refuse("its `alg` is not that of its key")
        return key

    def _claims(self, payload: bytes) -> Claims:
        try:
            said = _payload_decoder.decode(payload)
        except msgspec.ValidationError as error:
            _refuse(readable(error, "token"))
        except _UNREADABLE:
            _refuse("its payload is not JSON")
        if not 1 <= len(said.sub) <= 64 or has_control(said.sub):
            _refuse("`sub` must have 1 to 64 characters, and no control characters")
        for name, number in (("exp", said.exp), ("nbf", said.nbf), ("iat", said.iat)):
            if number is not None and not (isfinite(number) and 0 <= number <= _LATEST):
                _refuse(f"`{name}` must be in seconds since 1970")
        session = said.sid or said.jti or ""
        if len(session) > MAX_SESSION or has_control(session):
            _refuse(f"`sid` and `jti` have at most {MAX_SESSION} characters, and no control characters")
        rooms = _rooms(said)
        self._check_origin(said)
        self._check_times(said)
        return Claims(
            user_id=said.sub,
            username=clean_name(said.name or "", said.sub),
            rooms=rooms,
            expires_at=int(said.exp * 1_000),
            session=session,
            default_room=None if said.room == "*" else said.room,
            life_ms=max(0.0, said.exp - (self._clock() if said.iat is None else said.iat)) * 1_000,
        )

    def _check_origin(self, said: _Payload) -> None:
        if self._issuer is not None and said.iss != self._issuer:
            _refuse("`iss` is not the issuer that we trust")
        heard = [said.aud] if isinstance(said.aud, str) else said.aud or []
        if self._audience is not None and self._audience not in heard:
            _refuse("`aud` does not name us")

    def _check_times(self, said: _Payload) -> None:
        """The last check: `token_expired` sends the bearer for another token, so it must have been a good one."""
        now = self._clock()
        for name, start in (("nbf", said.nbf), ("iat", said.iat)):
            if start is not None and start > now + LEEWAY_S:
                _refuse(f"`{name}` lies in the future")
        if said.exp <= now - LEEWAY_S:
            raise Refusal("token_expired", "The token's time is over (`exp`)")


def has_control(text: str) -> bool:
    return _CONTROL.search(text) is not None


def header_of(token: str) -> Header:
    """What an unverified token says of its key. Raises `Refusal` (token_invalid) for what can't be a token."""
    return _header(_parts(token)[0])


_HS256: Final = HMACAlgorithm(HMACAlgorithm.SHA256)


def _secret_bytes(secret: str, development: bool) -> bytes:
    if len(secret.encode()) < LEAST_SECRET and not development:
        raise ConfigError(f"ROUNDTABLE_JWT_SECRET is too short: HS256 wants at least {LEAST_SECRET} bytes")
    try:
        return _HS256.prepare_key(secret)
    except InvalidKeyError:
        raise ConfigError(
            "ROUNDTABLE_JWT_SECRET looks like a public key or a JWK, which is no secret: give it by ROUNDTABLE_JWKS"
        ) from None


def _refuse(fault: str) -> NoReturn:
    raise Refusal("token_invalid", f"The token is not valid: {fault}") from None


def _parts(token: str) -> tuple[str, str, str]:
    if len(token) > MAX_TOKEN:
        _refuse(f"it is longer than {MAX_TOKEN} characters")
    match = _COMPACT.fullmatch(token)
    if match is None:
        _refuse("it is not three parts of base64url with dots between")
    return match[1], match[2], match[3]


def _header(segment: str) -> Header:
    try:
        header = _header_decoder.decode(_decoded(segment, "header"))
    except _UNREADABLE:
        _refuse("its header is not a JSON object with `alg`")
    if header.crit is not UNSET:
        _refuse("its header has `crit`, and we know no extensions")  # RFC 7515, 4.1.11
    if header.b64 is not UNSET and bytes(header.b64) != b"true":
        _refuse("its payload must be base64url (`b64`)")
    return header


def _decoded(segment: str, part: str) -> bytes:
    """Strict base64url: one text for each value (RFC 4648, 3.5)."""
    try:
        data = urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except Base64Error:
        _refuse(f"its {part} is not base64url")
    if _encoded(data) != segment.encode():
        _refuse(f"its {part} is not base64url")
    return data


def _encoded(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


def _rooms(said: _Payload) -> dict[str, Role]:
    """Room to role. `rooms` rules where it is there; `room` beside it is only the room to go to first."""
    if said.room is not None and not (said.room == "*" or is_room(said.room)):
        _refuse("`room` is not the name of a room")
    if said.rooms is None:
        if said.room is None:
            _refuse("it needs `room` and `role`, or `rooms`")
        return {said.room: _role(said.role, "role")}
    if len(said.rooms) > MAX_ROOMS:
        _refuse(f"`rooms` has more than {MAX_ROOMS} rooms")
    for room in said.rooms:
        if room != "*" and not is_room(room):
            _refuse("`rooms` has a key that is not the name of a room")
    return {room: _role(role, f"rooms.{room}") for room, role in said.rooms.items()}


def _role(role: str | None, claim: str) -> Role:
    if role not in ROLES:
        _refuse(f"`{claim}` must be one of {', '.join(ROLES)}")
    return role
