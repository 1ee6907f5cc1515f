"""`/auth/*` over HTTP, with real sessions behind it, and where credentials may travel (AU2, AU4, AU5)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import jwt
import pytest
from nats.aio.client import Client
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from roundtable.common.config import ConfigError, Settings
from roundtable.common.provision import provision
from roundtable.common.runtime import connect
from roundtable.common.schema.errors import REASONS, Refusal
from roundtable.common.schema.session import Claims
from roundtable.common.testing.nats import NatsServer, nats_server
from roundtable.gateway.auth import Authenticator, Key
from roundtable.gateway.auth_routes import AddressLimit, auth_routes, client_address
from roundtable.gateway.errors_http import EXCEPTION_HANDLERS
from roundtable.gateway.identity import Credentials, Identity, credentials_of, guest_claims
from roundtable.gateway.sessions import SessionStore

SECRET = "a-secret-for-tests-of-more-than-32-bytes"
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Gateway:
    """The routes of one gateway as an application, asked without a socket between."""

    def __init__(self, server: NatsServer, client: Client) -> None:
        self.server = server
        self.client = client
        self.ended: list[str] = []
        self.sessions = SessionStore(client, self.ended.append)
        self.identity = Identity(Authenticator(SECRET, None), None, self.sessions)
        self.now = 0.0

    def http(self, *, address: str = "192.0.2.1", **options: Any) -> httpx.AsyncClient:
        async def broken(_: Request) -> Response:
            raise RuntimeError("something private")

        options = {"dev_auth": True, "requests_per_minute": 0, "clock": lambda: self.now, **options}
        routes = [*auth_routes(self.identity, **options), Route("/broken", broken)]
        app = Starlette(routes=routes, exception_handlers=EXCEPTION_HANDLERS)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(address, 1))
        return httpx.AsyncClient(transport=transport, base_url="http://test")


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with nats_server() as server:
        settings = Settings(nats_url=server.url)
        client = await connect(settings, "gateway")
        await provision(client, settings)
        running = Gateway(server, client)
        await running.sessions.start()
        yield running
        await running.sessions.stop()
        await client.close()


def error_of(response: httpx.Response, reason: str, status: int | None = None) -> str:
    """The text of the contract's error object, after a look at all of it."""
    assert response.status_code == (status or REASONS[reason].status), response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    body = response.json()
    assert body.keys() == {"type", "error", "timestamp"}
    assert body["type"] == "error"
    assert abs(body["timestamp"] / 1_000 - time.time()) < 5
    assert (body["error"]["reason"], body["error"]["code"]) == (reason, REASONS[reason].code)
    assert ("www-authenticate" in response.headers) == (response.status_code == 401)
    return str(body["error"]["message"])


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def login(http: httpx.AsyncClient, **wanted: Any) -> dict[str, Any]:
    response = await http.post("/auth/token", json={"username": "Ann", **wanted})
    assert response.status_code == 200, response.text
    assert response.headers["cache-control"] == "no-store"
    tokens: dict[str, Any] = response.json()
    assert tokens.keys() == {"token", "refreshToken", "expiresAt"}
    return tokens


# -- development tokens


@pytest.mark.rule("AU5")
async def test_in_development_whoever_asks_gets_a_token(gateway: Gateway) -> None:
    async with gateway.http() as http:
        tokens = await login(http, userId="u1", room="den", role="gm", ttl=120)
        claims = await gateway.identity.of_token(tokens["token"])
        assert (claims.user_id, claims.username, claims.rooms, claims.default_room) == (
            "u1",
            "Ann",
            {"den": "gm"},
            "den",
        )
        assert claims.expires_at == tokens["expiresAt"]
        assert abs(tokens["expiresAt"] / 1_000 - time.time() - 120) < 2
        plain = await login(http)
        claims = await gateway.identity.of_token(plain["token"])
        assert (claims.rooms, claims.default_room) == ({"*": "player"}, None)
        assert abs(plain["expiresAt"] / 1_000 - time.time() - 3_600) < 2
        other = await gateway.identity.of_token((await login(http))["token"])
        assert other.user_id != claims.user_id
        assert other.session != claims.session
        odd = await gateway.identity.of_token((await login(http, userId="u2", username="\u0007\n "))["token"])
        assert odd.username == "u2"


@pytest.mark.rule("AU5")
async def test_outside_development_there_is_no_such_route(gateway: Gateway) -> None:
    async with gateway.http(dev_auth=False) as http:
        error_of(await http.post("/auth/token", json={"username": "Ann"}), "unknown_method")


@pytest.mark.rule("AU5")
def test_development_tokens_need_a_secret() -> None:
    class Keys:
        def find(self, kid: str | None) -> Key | None:
            return None

    sessions = SessionStore(Client())
    identity = Identity(Authenticator(None, Keys()), None, sessions)
    with pytest.raises(ConfigError, match=r"ROUNDTABLE_DEV_AUTH.*ROUNDTABLE_JWT_SECRET"):
        auth_routes(identity, dev_auth=True)
    assert len(auth_routes(identity, dev_auth=False)) == 4


@pytest.mark.rule("AU5")
@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "username"), ({"username": ""}, "username"), ({"username": 5}, "username"), ({"username": "x" * 65}, "username"),
        ({"username": "A", "userId": ""}, "userId"), ({"username": "A", "userId": "x" * 65}, "userId"),
        ({"username": "A", "userId": "a\nb"}, "userId"), ({"username": "A", "room": "a b"}, "room"),
        ({"username": "A", "role": "boss"}, "role"), ({"username": "A", "ttl": 0}, "ttl"),
        ({"username": "A", "ttl": 1.5}, "ttl"), ({"username": "A", "ttl": 10**9}, "ttl"),
        ({"username": "A", "admin": True}, "admin"), ([], "object"), ("Ann", "object"),
    ],
)  # fmt: skip
async def test_a_wrong_field_is_named(gateway: Gateway, body: Any, word: str) -> None:
    async with gateway.http() as http:
        assert word in error_of(await http.post("/auth/token", json=body), "invalid_data")


@pytest.mark.rule("AU5")
def test_guests_are_players_of_their_own() -> None:
    guest, other = guest_claims(), guest_claims()
    assert guest.user_id.startswith("guest-")
    assert len(guest.user_id) == 12
    assert guest.username.startswith("Guest ")
    assert guest.user_id != other.user_id
    assert (guest.role_in("any"), guest.expires_at, guest.session) == ("player", None, "")


# -- tickets


@pytest.mark.rule("AU2")
async def test_a_ticket_stands_for_the_token_once(gateway: Gateway) -> None:
    async with gateway.http() as http:
        tokens = await login(http, userId="u1")
        response = await http.post("/auth/ticket", headers=bearer(tokens["token"]))
        assert response.status_code == 200
        ticket = response.json()
        assert ticket.keys() == {"ticket", "expiresAt"}
        assert abs(ticket["expiresAt"] / 1_000 - time.time() - 30) < 2
    claims = await gateway.identity.of(credentials_of({}, query={"ticket": ticket["ticket"]}))
    assert claims is not None
    assert claims.user_id == "u1"
    with pytest.raises(Refusal, match="token_invalid"):
        await gateway.identity.of(Credentials("ticket", ticket["ticket"]))


@pytest.mark.rule("AU2")
async def test_without_a_good_token_there_is_no_ticket_and_no_logout(gateway: Gateway) -> None:
    async with gateway.http() as http:
        tokens = await login(http)
        old = jwt.encode({"sub": "u", "exp": time.time() - 60, "room": "*", "role": "gm"}, SECRET, "HS256")
        for path in ("/auth/ticket", "/auth/logout"):
            response = await http.post(path)
            error_of(response, "auth_required")
            assert response.headers["www-authenticate"] == "Bearer"
            error_of(await http.post(path, headers={"Authorization": "Basic dTpw"}), "auth_required")
            error_of(await http.post(path, params={"ticket": "x"}), "auth_required")
            response = await http.post(path, headers=bearer("x.y.z"))
            error_of(response, "token_invalid")
            assert response.headers["www-authenticate"] == 'Bearer error="invalid_token"'
            error_of(await http.post(path, headers=bearer("")), "token_invalid")
            error_of(await http.post(path, headers=bearer(tokens["refreshToken"])), "token_invalid")
            error_of(await http.post(path, headers=bearer(old)), "token_expired")


# -- refresh and logout


@pytest.mark.rule("AU4")
async def test_a_refresh_gives_a_new_pair_for_the_same_person(gateway: Gateway) -> None:
    async with gateway.http() as http:
        tokens = await login(http, userId="u1", room="den", role="gm", ttl=50)
        response = await http.post("/auth/refresh", json={"refreshToken": tokens["refreshToken"]})
        assert response.status_code == 200
        renewed = response.json()
        assert renewed.keys() == tokens.keys()
        assert renewed["refreshToken"] != tokens["refreshToken"]
        before, after = [await gateway.identity.of_token(each["token"]) for each in (tokens, renewed)]
        assert (after.user_id, after.rooms, after.session) == ("u1", {"den": "gm"}, before.session)
        assert abs(renewed["expiresAt"] / 1_000 - time.time() - 50) < 2


@pytest.mark.rule("AU4")
async def test_a_refresh_token_used_twice_ends_the_session_of_both_who_have_it(gateway: Gateway) -> None:
    async with gateway.http() as http:
        tokens = await login(http)
        renewed = (await http.post("/auth/refresh", json={"refreshToken": tokens["refreshToken"]})).json()
        error_of(await http.post("/auth/refresh", json={"refreshToken": tokens["refreshToken"]}), "revoked")
        error_of(await http.post("/auth/refresh", json={"refreshToken": renewed["refreshToken"]}), "revoked")
        error_of(await http.post("/auth/ticket", headers=bearer(renewed["token"])), "revoked")
    assert len(gateway.ended) == 1


@pytest.mark.rule("AU4")
async def test_a_logout_ends_the_session_and_its_refresh_tokens_and_may_be_repeated(gateway: Gateway) -> None:
    async with gateway.http() as http:
        tokens, other = await login(http, userId="u1"), await login(http, userId="u1")
        for _ in range(2):
            response = await http.post("/auth/logout", headers=bearer(tokens["token"]))
            assert (response.status_code, response.content) == (204, b"")
        error_of(await http.post("/auth/ticket", headers=bearer(tokens["token"])), "revoked")
        error_of(await http.post("/auth/refresh", json={"refreshToken": tokens["refreshToken"]}), "revoked")
        assert (await http.post("/auth/ticket", headers=bearer(other["token"]))).status_code == 200
    assert gateway.ended == [(await gateway.identity.verified(tokens["token"])).session]


@pytest.mark.rule("AU4")
async def test_a_token_that_names_no_session_cannot_be_logged_out(gateway: Gateway) -> None:
    fields = {"sub": "u", "exp": time.time() + 60, "room": "*", "role": "gm"}
    async with gateway.http() as http:
        response = await http.post("/auth/logout", headers=bearer(jwt.encode(fields, SECRET, "HS256")))
        assert "sid" in error_of(response, "invalid_data")
        token = jwt.encode({**fields, "jti": "j1"}, SECRET, "HS256")
        assert (await http.post("/auth/logout", headers=bearer(token))).status_code == 204
    assert gateway.ended == ["j1"]


@pytest.mark.rule("AU4")
@pytest.mark.parametrize("token", ["", 5, None, "x" * 16_385])
async def test_a_refresh_with_no_token_is_invalid_data(gateway: Gateway, token: Any) -> None:
    async with gateway.http() as http:
        assert "refreshToken" in error_of(
            await http.post("/auth/refresh", json={"refreshToken": token}), "invalid_data"
        )
        error_of(await http.post("/auth/refresh", json={"refreshToken": "never was one"}), "token_invalid")


# -- HTTP


@pytest.mark.rule("EN7")
async def test_whatever_goes_wrong_the_body_is_an_error_object(gateway: Gateway) -> None:
    async with gateway.http(body_seconds=0.1) as http:
        post = http.post
        error_of(await post("/auth/token", content=b"{", headers=JSON), "invalid_data")
        error_of(await post("/auth/token", content=b"\xff", headers=JSON), "invalid_data")
        error_of(await post("/auth/token", content=b"[" * 60_000, headers=JSON), "invalid_data")
        error_of(
            await post("/auth/token", content=b'{"username":"' + b"x" * 65_536 + b'"}', headers=JSON),
            "too_big",
        )
        error_of(await post("/auth/token", content=b"{}"), "unsupported_data")
        error_of(await post("/auth/token", data={"username": "Ann"}), "unsupported_data")
        error_of(
            await post("/auth/token", content=b"{}", headers={**JSON, "Content-Encoding": "gzip"}),
            "unsupported_data",
        )
        response = await http.get("/auth/token")
        error_of(response, "unknown_method", 405)
        assert response.headers["allow"] == "POST"
        error_of(await post("/auth/none"), "unknown_method")
        assert "private" not in error_of(await http.get("/broken"), "internal")

        async def stalling() -> AsyncIterator[bytes]:
            yield b"{"
            await asyncio.sleep(30)

        assert "0.1 s" in error_of(
            await post("/auth/token", content=stalling(), headers=JSON), "invalid_data"
        )
        charset = {"Content-Type": "Application/JSON; charset=utf-8"}
        assert (await post("/auth/token", content=b'{"username":"Ann"}', headers=charset)).status_code == 200


@pytest.mark.rule("EN7")
async def test_a_store_that_does_not_answer_is_503_and_says_when_to_come_again(gateway: Gateway) -> None:
    async with gateway.http() as http:
        tokens = await login(http)
        await gateway.server.kill()
        for response in (
            await http.post("/auth/token", json={"username": "Ann"}),
            await http.post("/auth/refresh", json={"refreshToken": tokens["refreshToken"]}),
            await http.post("/auth/ticket", headers=bearer(tokens["token"])),
            await http.post("/auth/logout", headers=bearer(tokens["token"])),
        ):
            error_of(response, "unavailable")
            assert response.headers["retry-after"] == "1"


@pytest.mark.rule("EN7")
async def test_too_many_requests_of_one_address_are_429_with_the_time_to_wait(gateway: Gateway) -> None:
    async with gateway.http(requests_per_minute=3) as http:
        for path in ("/auth/ticket", "/auth/refresh", "/auth/token"):
            assert (await http.post(path)).status_code != 429
        for path in ("/auth/ticket", "/auth/refresh", "/auth/logout", "/auth/token"):
            response = await http.post(path)
            error_of(response, "rate_limited")
            assert response.headers["retry-after"] == "20"
            assert response.json()["error"]["retryAfter"] == 20
        gateway.now = 20.1
        assert (await http.post("/auth/ticket")).status_code == 401
        assert (await http.post("/auth/ticket")).status_code == 429


def test_addresses_are_counted_apart_and_an_ipv6_network_as_one() -> None:
    limit = AddressLimit(1, lambda: 0.0)
    for address in (
        "192.0.2.1",
        "192.0.2.2",
        "2001:db8:0:1::1",
        "2001:db8:0:2::1",
        "::ffff:192.0.2.3",
        "unix",
        "",
    ):
        limit.take(address)
    for address in ("192.0.2.1", "2001:db8:0:1:ffff::2", "192.0.2.3", "unix", ""):
        with pytest.raises(Refusal, match="rate_limited"):
            limit.take(address)


def test_the_memory_for_addresses_is_bounded_and_the_busy_ones_stay() -> None:
    limit = AddressLimit(2, lambda: 0.0)
    limit.take("192.0.2.1")
    for number in range(30_000):
        limit.take(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        if number == 5_000:
            limit.take("192.0.2.1")
        if number % 5_000 == 4_999 and number > 5_000:
            with pytest.raises(Refusal):
                limit.take("192.0.2.1")
    assert len(limit._buckets) == 10_000


def test_a_request_without_a_peer_has_no_address() -> None:
    assert client_address(Request({"type": "http", "client": None})) == ""


# -- where credentials travel

TOKEN, OTHER, TICKET = "a.b.c", "d.e.f", "t1"


@pytest.mark.rule("AU2")
@pytest.mark.parametrize(
    ("headers", "offered", "query", "found"),
    [
        ({"authorization": f"Bearer {TOKEN}"}, [f"bearer.{OTHER}"], {"ticket": TICKET}, ("token", TOKEN)),
        ({"authorization": f"bearer  {TOKEN} "}, [], {}, ("token", TOKEN)),
        ({"authorization": "Bearer"}, [f"bearer.{OTHER}"], {}, ("token", "")),
        (
            {"authorization": "Basic dTpw"},
            ["roundtable.v1.json", f"bearer.{TOKEN}"],
            {"ticket": TICKET},
            ("token", TOKEN),
        ),
        ({"authorization": f"Bearerx {TOKEN}"}, [], {"ticket": TICKET}, ("ticket", TICKET)),
        ({}, [f"Bearer.{TOKEN}", f"bearer{TOKEN}"], {"ticket": TICKET, "token": TOKEN}, ("ticket", TICKET)),
        ({}, [f"bearer.{TOKEN}"], {"access_token": OTHER}, ("token", TOKEN)),
        ({}, [], {"ticket": ""}, ("ticket", "")),
        ({}, ["roundtable.v1.json"], {"room": "den"}, None),
    ],
)
def test_the_first_credentials_that_are_found_count(
    headers: Mapping[str, str], offered: list[str], query: Mapping[str, str], found: tuple[str, str] | None
) -> None:
    credentials = credentials_of(headers, offered, query)
    assert (None if credentials is None else (credentials.kind, credentials.secret)) == found


@pytest.mark.rule("AU2")
@pytest.mark.parametrize("name", ["token", "access_token"])
def test_a_token_in_the_query_string_is_not_accepted_and_the_refusal_says_why(name: str) -> None:
    with pytest.raises(Refusal, match="query string") as caught:
        credentials_of({}, [], {name: TOKEN})
    assert caught.value.reason == "token_invalid"
    assert TOKEN not in str(caught.value)


@pytest.mark.rule("AU2")
def test_credentials_do_not_show_their_secret() -> None:
    assert TOKEN not in repr(Credentials("token", TOKEN)) + str([Credentials("ticket", TOKEN)])


@pytest.mark.rule("AU2", "AU5")
async def test_who_brings_nothing_must_log_in_or_is_a_guest_in_development(gateway: Gateway) -> None:
    assert await gateway.identity.of(None) is None
    open_house = Identity(gateway.identity.authenticator, None, gateway.sessions, guests=True)
    guest = await open_house.of(None)
    assert guest is not None
    assert guest.role_in("den") == "player"
    with pytest.raises(Refusal, match="token_invalid"):
        await open_house.of(Credentials("token", "a.b.c"))


@pytest.mark.rule("AU4")
async def test_a_token_of_a_revoked_session_is_refused_wherever_it_comes_from(gateway: Gateway) -> None:
    claims = Claims("u1", "Ann", {"*": "gm"}, None, "s1")
    token, _ = gateway.identity.authenticator.issue(claims, 60)
    ticket, _ = await gateway.sessions.issue_ticket(await gateway.identity.of_token(token))
    await gateway.sessions.revoke("s1")
    for credentials in (Credentials("token", token), Credentials("ticket", ticket)):
        with pytest.raises(Refusal, match="revoked"):
            await gateway.identity.of(credentials)
