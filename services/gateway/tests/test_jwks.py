"""The JWKS: which keys are taken, how they rotate, and what a bad file or server can do (nothing) (AU1)."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from roundtable.common.config import ConfigError
from roundtable.common.schema.errors import Refusal
from roundtable.gateway.auth import Authenticator
from roundtable.gateway.jwks import MAX_BYTES, MAX_KEYS, JwksSource, fetch, parse

pytestmark = pytest.mark.rule("AU1")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _in_time() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 10


class Signer:
    """A key pair under an id, with the algorithm of its kind."""

    def __init__(self, kid: str, private: Any = None) -> None:
        self.kid = kid
        self.private = private or ed25519.Ed25519PrivateKey.generate()
        kinds = {
            rsa.RSAPrivateKey: "RS256",
            ec.EllipticCurvePrivateKey: "ES256",
            ed25519.Ed25519PrivateKey: "EdDSA",
        }
        self.algorithm = next(name for kind, name in kinds.items() if isinstance(self.private, kind))

    def jwk(self, **changes: Any) -> dict[str, Any]:
        """The public key; a change to None takes the field away."""
        made = jwt.get_algorithm_by_name(self.algorithm).to_jwk(self.private.public_key(), as_dict=True)
        made.pop("key_ops", None)
        return {
            name: value
            for name, value in {**made, "kid": self.kid, "use": "sig", **changes}.items()
            if value is not None
        }

    def token(self, **headers: Any) -> str:
        payload = {"sub": self.kid, "exp": int(time.time()) + 60, "room": "*", "role": "player"}
        return jwt.encode(payload, self.private, self.algorithm, headers={"kid": self.kid, **headers})


RSA = Signer("rsa", rsa.generate_private_key(65_537, 2_048))
EC = Signer("ec", ec.generate_private_key(ec.SECP256R1()))
ED = Signer("ed")
OLD, NEW = Signer("old"), Signer("new")


def jwks(*keys: Signer | dict[str, Any] | Any) -> bytes:
    return json.dumps({"keys": [key.jwk() if isinstance(key, Signer) else key for key in keys]}).encode()


async def says(source: JwksSource, token: str) -> str:
    """The user id of a token by these keys, or the reason why it is refused."""
    try:
        await source.ready_for(token)
        return Authenticator(None, source).verify(token).user_id
    except Refusal as refusal:
        return refusal.reason


@asynccontextmanager
async def started(location: str, **options: Any) -> AsyncIterator[JwksSource]:
    source = JwksSource(location, **options)
    await source.start()
    try:
        yield source
    finally:
        await source.stop()


class Server:
    """A real HTTP server on loopback that answers with `answer` and counts."""

    def __init__(self, body: bytes = b"") -> None:
        self.requests: list[bytes] = []
        self.url = ""
        self.pause = 0.0
        self.serve(body)

    def serve(self, body: bytes) -> None:
        self.answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    def answer(self, *parts: bytes) -> None:
        self._parts = parts

    @asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[Server]:
        server = await asyncio.start_server(self._handle, "127.0.0.1", port, ssl=tls)
        port = server.sockets[0].getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/keys?set=1"
        async with server:
            yield self

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            for part in self._parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(self.pause)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server(jwks(OLD)).running() as running:
        yield running


async def until(true: Callable[[], bool]) -> None:
    with anyio.fail_after(5):
        while not true():
            await asyncio.sleep(0.01)


async def test_keys_of_each_kind_are_taken_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_bytes(jwks(RSA, EC, ED))
    async with started(str(tmp_path / "keys.json")) as source:
        for signer in (RSA, EC, ED):
            assert await says(source, signer.token()) == signer.kid
        assert await says(source, ED.token(kid="ec")) == "token_invalid"
        assert source.age < 5


async def test_a_lone_key_needs_no_id_in_the_token(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_bytes(jwks(ED.jwk(kid=None)))
    token = jwt.encode({"sub": "u", "exp": time.time() + 9, "room": "*", "role": "gm"}, ED.private, "EdDSA")
    async with started(str(tmp_path / "keys.json")) as source:
        assert await says(source, token) == "u"


async def test_a_new_key_in_the_file_is_found_when_the_first_token_names_it(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_bytes(jwks(OLD))
    async with started(str(file), cooldown_s=0) as source:
        assert await says(source, OLD.token()) == "old"
        assert await says(source, NEW.token()) == "token_invalid"
        file.write_bytes(jwks(OLD, NEW))
        assert await says(source, NEW.token()) == "new"
        assert await says(source, OLD.token()) == "old"
        file.write_bytes(jwks(NEW))
        assert await says(source, Signer("other").token()) == "token_invalid"
        assert await says(source, OLD.token()) == "token_invalid"


async def test_a_new_key_at_the_url_is_found_when_the_first_token_names_it(server: Server) -> None:
    async with started(server.url, cooldown_s=0) as source:
        assert await says(source, OLD.token()) == "old"
        server.serve(jwks(NEW))
        assert await says(source, NEW.token()) == "new"
        assert await says(source, OLD.token()) == "token_invalid"
    assert server.requests[0].startswith(b"GET /keys?set=1 HTTP/1.1\r\nHost: 127.0.0.1:")


async def test_keys_are_read_again_at_intervals(server: Server) -> None:
    async with started(server.url, refresh_s=0.03) as source:
        server.serve(jwks(NEW))
        await until(lambda: source.find("new") is not None)
        assert source.find("old") is None


async def test_unknown_ids_cause_one_read_in_ten_seconds_however_many_come(server: Server) -> None:
    now = 0.0
    async with started(server.url, clock=lambda: now) as source:
        strangers = [Signer(f"stranger{number}").token() for number in range(50)]
        now = 9.9
        assert {await says(source, token) for token in strangers} == {"token_invalid"}
        assert len(server.requests) == 1
        now = 10.1
        server.pause = 0.05
        answers = await asyncio.gather(*(says(source, token) for token in strangers))
        assert set(answers) == {"token_invalid"}
        assert len(server.requests) == 2
        now = 30.0
        for token in ("garbage", jwt.encode({}, "x" * 32, "HS256", headers={"kid": "?"})):
            assert await says(source, token) == "token_invalid"
        assert await says(source, OLD.token()) == "old"
        assert len(server.requests) == 2


async def test_who_gives_up_waiting_does_not_end_the_read_for_the_others(server: Server) -> None:
    async with started(server.url, cooldown_s=0) as source:
        server.serve(jwks(NEW))
        server.pause = 0.1
        impatient = asyncio.create_task(source.ready_for(NEW.token()))
        patient = asyncio.create_task(says(source, NEW.token()))
        await asyncio.sleep(0.02)
        impatient.cancel()
        assert await patient == "new"


async def test_until_the_url_answers_tokens_are_unavailable_not_invalid() -> None:
    quiet = Server(jwks(OLD))
    async with quiet.running():
        pass
    async with started(quiet.url, refresh_s=0.05, cooldown_s=60) as source:
        assert await says(source, OLD.token()) == "unavailable"
        assert source.age == float("inf")
        async with quiet.running(port=urlsplit(quiet.url).port or 0):
            await until(lambda: source.age < 5)
            assert await says(source, OLD.token()) == "old"


async def test_a_read_that_fails_keeps_the_old_keys_and_tells_their_age(server: Server) -> None:
    now = 100.0
    async with started(server.url, cooldown_s=0, clock=lambda: now) as source:
        now = 400.0
        for answer in (
            b"",
            b"HTTP/1.1 500 No\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n" + b'{"keys":[]}',
        ):
            server.answer(answer)
            assert await says(source, NEW.token()) == "token_invalid"
            assert await says(source, OLD.token()) == "old"
            assert source.age == 300
        server.serve(jwks(OLD))
        await source.ready_for(NEW.token())
        assert source.age == 0


@pytest.mark.parametrize(
    "parts",
    [
        [b""],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{"],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}"],
        [b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n"],
        [b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"],
        [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"],
        [b"SSH-2.0-OpenSSH_9.2\r\n"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnope"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (MAX_BYTES + 1), *[b" " * 65_536] * 17],
        [b"HTTP/1.1 200 OK\r\n\r\n", *[b" " * 65_536] * 60],
        [b"HTTP/1.1 200 OK\r\n", *[b"X-Long: " + b"x" * 65_000 + b"\r\n"] * 60],
    ],
)
async def test_a_broken_server_gives_no_keys(server: Server, parts: list[bytes]) -> None:
    server.answer(*parts)
    async with started(server.url, timeout_s=2) as source:
        assert await says(source, OLD.token()) == "unavailable"


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nX-A: ", b"HTTP/1.1 200 OK\r\n\r\n"])
async def test_a_server_that_drips_is_given_up_after_the_time_limit(server: Server, head: bytes) -> None:
    server.pause = 0.02
    server.answer(head, *[b" "] * 500)
    began = time.monotonic()
    async with started(server.url, timeout_s=0.3) as source:
        assert time.monotonic() - began < 5
        assert await says(source, OLD.token()) == "unavailable"


@pytest.mark.parametrize("framing", ["chunked", "close"])
async def test_a_body_may_come_in_chunks_or_end_with_the_connection(server: Server, framing: str) -> None:
    body = jwks(OLD)
    if framing == "chunked":
        server.answer(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body),
        )
    else:
        server.answer(b"HTTP/1.0 200 OK\r\n\r\n", body[:20], body[20:])
    assert await fetch(urlsplit(server.url), MAX_BYTES) == body


async def test_https_is_believed_by_its_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, tls = _tls(tmp_path)
    async with Server(jwks(OLD)).running(tls) as secure:
        async with started(secure.url) as source:
            assert await says(source, OLD.token()) == "unavailable"
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        async with started(secure.url) as source:
            assert await says(source, OLD.token()) == "old"


def _tls(folder: Path) -> tuple[Path, ssl.SSLContext]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(
            name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1)
        )
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / "cert.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, private)
    return certificate, tls


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"nope",
        b"[]",
        b'{"keys":{}}',
        b'{"keys":[]}',
        b'{"keys":[{}]}',
        b"[" * 90_000,
        b" " * (MAX_BYTES + 1),
    ],
)
async def test_a_file_without_usable_keys_ends_the_start(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "keys.json").write_bytes(content)
    with pytest.raises(ConfigError, match="ROUNDTABLE_JWKS"):
        await JwksSource(str(tmp_path / "keys.json")).start()


@pytest.mark.parametrize(
    "location",
    [
        "http://id.example/keys", "http://10.0.0.7/keys", "http://loopback.example", "http://127.0.0.1.example/x",
        "ftp://id.example/keys", "file:///etc/keys.json", "https://", "https:///x", "https://user:word@id.example/keys",
        "https://id.example:port/", "https://[::1/", "https://id.example/a b", "https://id.example/\r\nX: y", "https://ü.example/",
    ],
)  # fmt: skip
def test_a_url_that_others_could_listen_in_on_or_that_is_none_is_refused(location: str) -> None:
    with pytest.raises(ConfigError, match="ROUNDTABLE_JWKS"):
        JwksSource(location)


@pytest.mark.parametrize(
    "location",
    [
        "https://id.example/keys", "http://127.0.0.1:8/keys", "http://[::1]/keys", "http://localhost/keys",
        "http://keycloak:8080/realms/x", "http://id.auth.svc/keys", "http://id.auth.svc.cluster.local:8080/keys", "keys.json",
    ],
)  # fmt: skip
def test_https_and_http_to_near_by_names_are_taken(location: str) -> None:
    JwksSource(location)


def test_in_development_any_http_will_do() -> None:
    JwksSource("http://id.example/keys", development=True)


SMALL = Signer("small", rsa.generate_private_key(65_537, 1_024))


@pytest.mark.parametrize(
    "bad",
    [
        {"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "kid": "s"},
        EC.jwk(kid="x", k="c2VjcmV0"),
        EC.jwk(kid="x", use="enc"),
        EC.jwk(kid="x", key_ops=["encrypt"]),
        EC.jwk(kid="x", alg="ES384"),
        EC.jwk(kid="x", crv="P-521"),
        EC.jwk(kid="x", y=None),
        EC.jwk(kid="x", y=EC.jwk()["x"]),
        EC.jwk(kid="x", d="AAAA"),
        RSA.jwk(kid="x", alg="HS256"),
        RSA.jwk(kid="x", alg="PS256"),
        RSA.jwk(kid="x", n="A" * 100_000),
        RSA.jwk(kid="x", e="AA"),
        RSA.jwk(kid="x", n=None),
        SMALL.jwk(),
        ED.jwk(kid="x", crv="Ed448"),
        ED.jwk(kid="x", x="AAAA"),
        ED.jwk(kid=7),
        {"kty": "none", "kid": "x"},
        {"kid": "x"},
        "key",
        None,
        [],
    ],
)
def test_a_key_that_is_not_for_us_is_skipped_and_the_others_count(
    bad: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [key.kid for key in parse(jwks(ED, bad, RSA))] == ["ed", "rsa"]
    assert "jwks.key_skipped" in capsys.readouterr().err


def test_a_skipped_key_is_told_without_its_material(capsys: pytest.CaptureFixture[str]) -> None:
    private = json.loads(jwt.get_algorithm_by_name("EdDSA").to_jwk(ED.private))
    parse(jwks(EC, {**private, "kid": "leak"}, {"kty": "oct", "k": "c2VjcmV0"}))
    told = capsys.readouterr().err
    assert "leak" in told
    assert private["d"] not in told
    assert private["x"] not in told
    assert "c2VjcmV0" not in told


def test_of_two_keys_with_one_id_the_first_counts_and_there_is_an_end_to_keys() -> None:
    [key] = parse(jwks(ED, RSA.jwk(kid="ed")))
    assert key.algorithm == "EdDSA"
    many = [ED.jwk(kid=str(number)) for number in range(MAX_KEYS + 5)]
    assert len(parse(jwks(*many))) == MAX_KEYS


texts = st.text(max_size=40) | st.sampled_from(
    ["RSA", "EC", "OKP", "oct", "P-256", "Ed25519", "AQAB", "sig", "A" * 43]
)
values = (
    texts
    | st.none()
    | st.integers()
    | st.lists(texts, max_size=2)
    | st.binary(max_size=300).map(lambda data: urlsafe_b64encode(data).rstrip(b"=").decode())
)


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["kty", "crv", "kid", "alg", "use", "n", "e", "x", "y", "d"]), values
        ),
        max_size=4,
    )
)
def test_no_document_breaks_the_reading_of_a_good_key(keys: list[dict[str, Any]]) -> None:
    assert "ed" in [key.kid for key in parse(jwks(ED, *keys))]


@given(st.binary(max_size=200))
def test_no_bytes_are_taken_for_keys(document: bytes) -> None:
    with pytest.raises(ValueError, match=r"JWKS|key"):
        parse(document)
