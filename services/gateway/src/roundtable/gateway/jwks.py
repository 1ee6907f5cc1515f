"""Identity layer: the public keys of the JWKS, from a file or a URL, kept fresh (AU1). Knows no claims, rooms or connections.

The fetch is our own, on asyncio and the parser that the gateway has anyway: one GET with a hard end in time and size, no
redirects, no proxies, no cookies. A library in a thread has no such end: a server that sends a byte now and then holds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import time
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import httptools
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK
from msgspec import Raw, Struct

from roundtable.common import VERSION
from roundtable.common.config import ConfigError
from roundtable.common.schema.errors import Refusal
from roundtable.common.telemetry import log

from .auth import Key, header_of

MAX_BYTES: Final = 1_048_576
MAX_KEYS: Final = 100
RSA_BITS: Final = (2_048, 8_192)
"""Less is weak (NIST SP 800-131A); more makes each verification dear."""
_MODULUS_TEXT: Final = 1_400
"""Characters of the largest modulus: a longer one is not even read."""

_ALGORITHMS: Final = {("RSA", ""): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}
"""The one algorithm of each kind of key: `kty` and, where there are several, `crv`."""


_VISIBLE: Final = re.compile("[!-~]+")


class _Jwk(Struct, frozen=True):
    kty: str
    kid: str | None = None
    use: str | None = None
    key_ops: list[str] | None = None
    alg: str | None = None
    crv: str = ""
    n: str = ""
    d: Any = None
    k: Any = None


class _Set(Struct, frozen=True):
    keys: list[Raw]


def parse(document: bytes) -> tuple[Key, ...]:
    """The keys of a JWKS that we can use, in its order; the others are skipped, each with a line in the log.

    Raises `ValueError` when the document is no JWKS, or none of its keys can be used: better to stay with the old ones.
    """
    try:
        entries = msgspec.json.decode(document, type=_Set).keys
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(f"not a JWKS: {error}") from None
    keys: dict[str | None, Key] = {}
    for index, entry in enumerate(entries):
        kid: str | None = None
        try:
            if len(keys) >= MAX_KEYS:
                raise ValueError(f"more than {MAX_KEYS} keys")
            jwk = msgspec.json.decode(entry, type=_Jwk)
            kid = jwk.kid
            if kid in keys:
                raise ValueError("its `kid` stands there already")
            keys[kid] = _key(jwk, entry)
        except Exception as error:  # noqa: BLE001 - whatever one key does to the library, the others still count
            # Our own texts and those of msgspec hold no key material; a library's might.
            why = str(error) if type(error) in (ValueError, msgspec.ValidationError) else type(error).__name__
            log.warning("jwks.key_skipped", index=index, kid=(kid or "")[:64], why=why[:200])
    if not keys:
        raise ValueError("it has no key that we can use")
    return tuple(keys.values())


def _key(jwk: _Jwk, entry: Raw) -> Key:
    """Raises `ValueError` for a key that is not for us, and whatever the library does for a broken one."""
    if jwk.kty == "oct" or jwk.k is not None:
        raise ValueError("a symmetric key: whoever can read it could sign")
    if jwk.d is not None:
        raise ValueError("a private key: only the issuer may have it")
    if jwk.use not in (None, "sig") or (jwk.key_ops is not None and "verify" not in jwk.key_ops):
        raise ValueError("not for signatures")
    algorithm = _ALGORITHMS.get((jwk.kty, jwk.crv))
    if algorithm is None or jwk.alg not in (None, algorithm):
        raise ValueError("not for RS256, ES256 or EdDSA (Ed25519)")
    if len(jwk.n) > _MODULUS_TEXT:
        raise ValueError(f"an RSA key of more than {RSA_BITS[1]} bits")
    made = PyJWK(msgspec.json.decode(entry, type=dict[str, Any]), algorithm)
    if isinstance(made.key, RSAPublicKey) and not RSA_BITS[0] <= made.key.key_size <= RSA_BITS[1]:
        raise ValueError(f"an RSA key of {made.key.key_size} bits")
    return Key(jwk.kid, algorithm, partial(_verify, made))


def _verify(made: PyJWK, signed: bytes, signature: bytes) -> bool:
    return bool(made.Algorithm.verify(signed, made.key, signature))


class JwksSource:
    """A `KeySource` that reads its document at start, every `refresh_s`, and when a token names a key that is not there.

    A read that fails keeps the keys that there are; `age` tells for how long. `location` is a path, or an `https` URL.
    Plain `http` lets whoever sits on the way put in keys of their own, so it is for development, loopback, and names
    that only the own network knows: without a dot (a neighbour in the same compose project or namespace) or under `.svc`
    or `.svc.cluster.local` (a Kubernetes service). Raises `ConfigError` for any other.
    """

    def __init__(
        self,
        location: str,
        *,
        development: bool = False,
        refresh_s: float = 300.0,
        cooldown_s: float = 10.0,
        timeout_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = _checked(location, development) if "://" in location else None
        self._path = Path(location)
        self._refresh_s = refresh_s
        self._cooldown_s = cooldown_s
        self._timeout_s = timeout_s
        self._clock = clock
        self._keys: dict[str | None, Key] = {}
        self._document: bytes | None = None
        self._good_at = float("-inf")
        self._tried_at = float("-inf")
        self._reading: asyncio.Task[bool] | None = None
        self._keeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Reads once, then goes on in the background. A URL may come later; raises `ConfigError` if a file is no good."""
        good = await self._refresh()
        if not good and self._url is None:
            raise ConfigError(f"ROUNDTABLE_JWKS: there is no usable JWKS in the file {self._path}")
        self._keeping = asyncio.create_task(self._keep(good), name="jwks")

    async def stop(self) -> None:
        for task in (self._keeping, self._reading):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    @property
    def age(self) -> float:
        """Seconds since the last good read; infinite before the first."""
        return self._clock() - self._good_at

    def find(self, kid: str | None) -> Key | None:
        if not self._keys:
            raise Refusal("unavailable", "The keys to check tokens by have not come yet", retry_after=2)
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(kid)

    async def ready_for(self, token: str) -> None:
        """Call it before `Authenticator.verify`: reads again, at most once in `cooldown_s`, if the token's key is not there.

        Bounded by the time limit of one read. Raises `Refusal` (token_invalid) for what can't be a token.
        """
        header = header_of(token)
        there = bool(self._keys) and (header.kid is None or header.kid in self._keys)
        if there or header.alg not in _ALGORITHMS.values():
            return
        reading = self._reading is not None and not self._reading.done()
        if reading or self._clock() - self._tried_at >= self._cooldown_s:
            await self._refresh()

    async def _keep(self, good: bool) -> None:
        wait = 1.0
        while True:
            wait = self._refresh_s if good else min(2 * wait, 30.0, self._refresh_s)
            await asyncio.sleep(wait)
            good = await self._refresh()

    async def _refresh(self) -> bool:
        """Whoever comes while a read is under way waits for that one; one who gives up does not end it for the others."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read(), name="jwks-read")
        return await asyncio.shield(self._reading)

    async def _read(self) -> bool:
        self._tried_at = self._clock()
        try:
            async with asyncio.timeout(self._timeout_s):
                if self._url is not None:
                    document = await fetch(self._url, MAX_BYTES)
                else:
                    document = await asyncio.to_thread(_file, self._path)
            if document != self._document:
                self._keys = {key.kid: key for key in parse(document)}
                self._document = document
                log.info("jwks.read", keys=len(self._keys))
        except Exception as error:  # noqa: BLE001 - whatever it was: the keys that we have stay, and we try again
            log.warning("jwks.read_failed", error=str(error) or type(error).__name__, keys=len(self._keys))
            return False
        self._good_at = self._clock()
        return True


def _checked(location: str, development: bool) -> SplitResult:
    try:
        url = urlsplit(location)
        host, _ = url.hostname or "", url.port
    except ValueError as error:
        raise ConfigError(f"ROUNDTABLE_JWKS is not a URL: {error}") from None
    if (
        url.scheme not in ("http", "https")
        or not host
        or "@" in url.netloc
        or not _VISIBLE.fullmatch(location)
    ):
        raise ConfigError("ROUNDTABLE_JWKS must be a path or an https URL, without a password")
    if url.scheme == "http" and not (development or _near(host)):
        raise ConfigError(
            f"ROUNDTABLE_JWKS: plain http to {host} would let others put in their keys: use https (http is for"
            " ROUNDTABLE_ENVIRONMENT=development, loopback and names inside the cluster)"
        )
    return url


def _near(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return "." not in host or host.endswith((".localhost", ".svc", ".svc.cluster.local"))


def _file(path: Path) -> bytes:
    with path.open("rb") as file:
        document = file.read(MAX_BYTES + 1)
    if len(document) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES} bytes")
    return document


class _Answer:
    """Gathers what httptools reads of one response."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.whole = False
        self.until_end = True
        """Without a length or chunks, the body ends with the connection."""

    def on_header(self, name: bytes, _: bytes) -> None:
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self.until_end = False

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.whole = True


async def fetch(url: SplitResult, limit: int) -> bytes:
    """The body of one GET that answers 200. Raises `OSError`, `ValueError`, httptools' errors; the caller limits the time."""
    port, tls = (443, ssl.create_default_context()) if url.scheme == "https" else (80, None)
    reader, writer = await asyncio.open_connection(url.hostname, url.port or port, ssl=tls)
    try:
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        writer.write(
            f"GET {target} HTTP/1.1\r\nHost: {url.netloc}\r\nUser-Agent: roundtable/{VERSION}\r\n"
            "Accept: application/jwk-set+json, application/json\r\nConnection: close\r\n\r\n".encode()
        )
        answer, taken = _Answer(), 0
        parser = httptools.HttpResponseParser(answer)
        while not answer.whole:
            data = await reader.read(65_536)
            if not data:
                break
            taken += len(data)
            parser.feed_data(data)
            if taken > limit + 65_536 or len(answer.body) > limit:
                raise ValueError(f"it is larger than {limit} bytes")
        status = parser.get_status_code()
        if status != 200:
            raise ValueError(f"the server answered {status}" if status else "the server did not answer")
        if not (answer.whole or answer.until_end):
            raise ValueError("the answer was cut short")
        return bytes(answer.body)
    finally:
        writer.transport.abort()
