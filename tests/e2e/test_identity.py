"""Who somebody is, how they show it, and when it ends (AU1–AU7)."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from roundtable.common.testing.forms import TRANSPORTS, Players, http, refused, signed, until
from roundtable.common.testing.players import WAIT, Player, stroke, token
from roundtable.common.testing.system import SECRET, Program, System
from roundtable.common.testing.wire import Wire

ONE_EACH = pytest.mark.transports("websocket-json", "sse", "poll-json")


def claims(**changes: Any) -> dict[str, Any]:
    said = {"sub": "ann", "name": "Ann", "exp": time.time() + 600, "room": "*", "role": "player"}
    return {key: value for key, value in (said | changes).items() if value is not None}


async def post(program: Program, path: str, body: Any = None, bearer: str = "") -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    async with http(program) as client:
        answer = await client.post(path, headers=headers, **({"json": body} if body is not None else {}))
    return answer.status_code, answer.json() if answer.content else None


async def ticket(program: Program, user: str, room: str = "*", role: str = "player") -> str:
    status, body = await post(program, "/auth/ticket", bearer=token(user, room, role))
    assert status == 200
    assert body["ticket"]
    return str(body["ticket"])


# Tokens


@pytest.mark.rule("AU1", "CO7")
@pytest.mark.parametrize("role", ["gm", "player", "spectator"])
async def test_a_token_says_who_somebody_is_and_their_role_in_the_room(player: Players, role: str) -> None:
    ann = await player("ann", token=signed(claims(room=player.room, role=role, name="Ann of York")))
    assert (ann.welcome["userId"], ann.welcome["username"], ann.welcome["role"]) == (
        "ann",
        "Ann of York",
        role,
    )


@pytest.mark.rule("AU1")
@ONE_EACH
async def test_a_token_may_name_several_rooms_each_with_its_role(player: Players) -> None:
    room = player.room
    rooms = {room: "gm", f"{room}-2": "spectator"}
    good = signed(claims(room=None, role=None, rooms=rooms))
    assert (await player("ann", token=good)).welcome["role"] == "gm"
    assert (await player("ann", room=f"{room}-2", token=good)).welcome["role"] == "spectator"
    assert await player.turned_away("ann", room=f"{room}-3", token=good) == (1008, "forbidden")
    anywhere = signed(claims(room=None, role=None, rooms={"*": "player", room: "gm"}))
    assert (await player("ann", token=anywhere)).welcome["role"] == "gm"
    assert (await player("ann", room=f"{room}-3", token=anywhere)).welcome["role"] == "player"


@pytest.mark.rule("AU1", "CO1")
async def test_a_token_for_another_room_opens_no_door(player: Players) -> None:
    elsewhere = signed(claims(room=f"{player.room}-2"))
    assert await player.turned_away("ann", token=elsewhere) == (1008, "forbidden")


@pytest.mark.rule("AU1")
@ONE_EACH
async def test_a_user_id_has_up_to_64_characters(player: Players) -> None:
    longest = "ü" * 64
    assert (await player("ann", token=signed(claims(sub=longest)))).welcome["userId"] == longest
    for wrong in ("", "x" * 65, 7, ["ann"], None):
        assert await player.turned_away("ann", token=signed_raw(claims(sub=wrong))) == (1008, "token_invalid")


def signed_raw(
    said: dict[str, Any], header: dict[str, Any] | None = None, secret: str = SECRET, digest: str = "sha256"
) -> str:
    """A token made by hand, where a library would refuse to make it."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    head = {"alg": "HS256", "typ": "JWT"} | (header or {})
    text = f"{part(json.dumps(head).encode())}.{part(json.dumps(said).encode())}"
    return f"{text}.{part(hmac.digest(secret.encode(), text.encode(), digest))}"


def unsigned(said: dict[str, Any], algorithm: str) -> str:
    head, body, _ = signed_raw(said, {"alg": algorithm}).split(".")
    return f"{head}.{body}."


BAD: dict[str, Callable[[], str]] = {
    "nothing": lambda: "x",
    "two parts": lambda: "a.b",
    "another's signature": lambda: signed(claims(), "another-secret-of-more-than-32-bytes!"),
    "no signature": lambda: signed(claims()).rpartition(".")[0] + ".",
    "a changed claim": lambda: _changed(signed(claims()), role="gm"),
    "alg none": lambda: unsigned(claims(), "none"),
    "alg None": lambda: unsigned(claims(), "None"),
    "alg none with a signature": lambda: signed_raw(claims(), {"alg": "none"}),
    "another algorithm of the same secret": lambda: signed_raw(claims(), {"alg": "HS512"}, digest="sha512"),
    "a public algorithm with the secret's signature": lambda: signed_raw(claims(), {"alg": "RS256"}),
    "no end": lambda: signed(claims(exp=None)),
    "an end that is a text": lambda: signed_raw(claims(exp="tomorrow")),
    "not yet begun": lambda: signed(claims(nbf=time.time() + 300)),
    "no role": lambda: signed(claims(role=None)),
    "an unknown role": lambda: signed(claims(role="admin")),
    "no room": lambda: signed(claims(room=None, role=None)),
    "a critical header": lambda: signed(claims(), crit=["b64"]),
    "more than a header holds": lambda: signed(claims(name="x" * 20_000)),
}


def _changed(text: str, **changes: Any) -> str:
    head, body, signature = text.split(".")
    said = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))) | changes
    body = base64.urlsafe_b64encode(json.dumps(said).encode()).rstrip(b"=").decode()
    return f"{head}.{body}.{signature}"


@pytest.mark.rule("AU1")
@ONE_EACH
@pytest.mark.parametrize("kind", BAD)
async def test_a_token_that_is_not_right_in_every_way_opens_no_door(player: Players, kind: str) -> None:
    assert await player.turned_away("ann", token=BAD[kind]()) == (1008, "token_invalid")


@pytest.mark.rule("AU1", "AU3")
async def test_a_token_whose_time_is_over_is_told_as_such(player: Players) -> None:
    assert await player.turned_away("ann", token=signed(claims(exp=time.time() - 60))) == (
        1008,
        "token_expired",
    )


@pytest.mark.rule("AU1")
async def test_clocks_may_differ_by_half_a_minute(table: System, player: Players) -> None:
    ahead = signed(claims(iat=time.time() + 20, nbf=time.time() + 20))
    assert (await player("ann", token=ahead)).welcome["userId"] == "ann"
    status, _ = await post(table.gateway, "/auth/ticket", bearer=signed(claims(exp=time.time() - 20)))
    assert status == 200


@pytest.fixture(scope="module")
async def particular(gateway: Any) -> Program:
    """A gateway that wants tokens of a certain issuer, for itself, and is not patient with strangers."""
    program: Program = await gateway(
        JWT_ISSUER="https://issuer.example", JWT_AUDIENCE="table", AUTH_TIMEOUT="0.8",
        ALLOWED_ORIGINS="https://play.example,http://localhost:5173",
    )  # fmt: skip
    return program


@pytest.mark.rule("AU1")
@ONE_EACH
async def test_issuer_and_audience_are_checked_where_they_are_configured(
    player: Players, particular: Program
) -> None:
    right = {"iss": "https://issuer.example", "aud": "table"}
    several = right | {"aud": ["somebody", "table"]}
    for said in (right, several):
        await player("ann", at=particular, token=signed(claims(**said)))
    for wrong in (
        {},
        right | {"iss": "https://other.example"},
        right | {"aud": "chair"},
        {"iss": right["iss"]},
    ):
        end = await player.turned_away("ann", at=particular, token=signed(claims(**wrong)))
        assert end == (1008, "token_invalid")


# Keys that others hold


KEYS: dict[str, Any] = {
    "RS256": rsa.generate_private_key(65_537, 2_048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
NEW = ec.generate_private_key(ec.SECP256R1())


def jwk(algorithm: str, kid: str, key: Any) -> dict[str, Any]:
    kind: Any = jwt.get_algorithm_by_name(algorithm)
    return {**kind.to_jwk(key.public_key(), as_dict=True), "kid": kid, "alg": algorithm, "use": "sig"}


def pem(key: Any) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    text: bytes = key.public_key().public_bytes(serialization.Encoding.PEM, form)
    return text.decode()


@pytest.fixture(scope="module")
def jwks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "jwks.json"
    path.write_text(json.dumps({"keys": [jwk(name, name.lower(), key) for name, key in KEYS.items()]}))
    return path


@pytest.fixture(scope="module")
async def keyed(gateway: Any, jwks: Path) -> Program:
    program: Program = await gateway(JWKS=str(jwks))
    return program


@pytest.mark.rule("AU1")
@pytest.mark.transports("websocket-json", "sse")
@pytest.mark.parametrize("algorithm", KEYS)
async def test_tokens_are_checked_by_published_keys(player: Players, keyed: Program, algorithm: str) -> None:
    good = signed(claims(), KEYS[algorithm], algorithm, kid=algorithm.lower())
    assert (await player("ann", at=keyed, token=good)).welcome["userId"] == "ann"
    tampered = _changed(good, role="gm")
    assert await player.turned_away("ann", at=keyed, token=tampered) == (1008, "token_invalid")
    stranger = signed(claims(), KEYS[algorithm], algorithm, kid="nobody")
    assert await player.turned_away("ann", at=keyed, token=stranger) == (1008, "token_invalid")


@pytest.mark.rule("AU1")
@pytest.mark.transports("websocket-json", "sse")
async def test_a_public_key_is_no_secret_and_a_key_has_one_algorithm(player: Players, keyed: Program) -> None:
    confused = signed_raw(claims(), {"kid": "rs256"}, pem(KEYS["RS256"]))
    assert await player.turned_away("ann", at=keyed, token=confused) == (1008, "token_invalid")
    other = signed(claims(), KEYS["RS256"], "RS384", kid="rs256")
    assert await player.turned_away("ann", at=keyed, token=other) == (1008, "token_invalid")
    swapped = signed(claims(), KEYS["ES256"], "ES256", kid="eddsa")
    assert await player.turned_away("ann", at=keyed, token=swapped) == (1008, "token_invalid")


# Where a token travels


@pytest.mark.rule("AU2", "CO5")
@pytest.mark.parametrize(
    "protocols", ["bearer.{}", "roundtable.v1.json, bearer.{}", "bearer.{}, roundtable.v1.json"]
)
async def test_a_token_may_come_as_a_subprotocol_and_is_never_repeated(
    table: System, room: str, protocols: str
) -> None:
    secret = token("ann")
    async with Wire(table.gateway) as wire:
        status, answer = await wire.upgrade(room, Sec_WebSocket_Protocol=protocols.format(secret))
        assert status == 101
        assert answer.get("sec-websocket-protocol") in (None, "roundtable.v1.json")
        assert secret not in str(answer)
        welcome = await wire.message("event", method="session.welcome")
        assert welcome["data"]["userId"] == "ann"


@pytest.mark.rule("AU2")
async def test_a_ticket_opens_one_door_once_at_any_gateway(player: Players) -> None:
    table = player.system
    one = await ticket(table.gateway, "ann", player.room)
    query = (
        {"query": f"room={player.room}&ticket={one}"}
        if player.transport.startswith("websocket")
        else {"ticket": one}
    )
    if player.transport.startswith("websocket"):
        ann = await player("ann", at=1, token="", **query)
        assert ann.welcome["userId"] == "ann"
        assert await player.turned_away("ann", token="", **query) == (1008, "token_invalid")
        return
    path = "/sse" if player.transport == "sse" else "/poll"
    async with http(table.of("gateway")[1]) as client:
        async with client.stream("GET", path, params={"room": player.room, "ticket": one}) as stream:
            assert stream.status_code == 200
        again = await client.get(path, params={"room": player.room, "ticket": one})
        assert (again.status_code, again.json()["error"]["reason"]) == (401, "token_invalid")


@pytest.mark.rule("AU2")
async def test_a_ticket_is_given_to_whoever_has_a_token_and_opens_no_room_that_the_token_does_not(
    table: System, everyone: Players
) -> None:
    assert (await post(table.gateway, "/auth/ticket"))[0] == 401
    status, body = await post(table.gateway, "/auth/ticket", bearer=signed(claims(), "x" * 40))
    assert (status, body["error"]["reason"]) == (401, "token_invalid")
    one = await ticket(table.gateway, "ann", everyone.room)
    elsewhere = await everyone.turned_away("ann", token="", query=f"room={everyone.room}-2&ticket={one}")
    assert elsewhere == (1008, "forbidden")


@pytest.mark.rule("AU2")
async def test_the_first_that_is_found_counts(table: System, everyone: Players) -> None:
    one = await ticket(table.gateway, "bob")
    query = f"room={everyone.room}&ticket={one}"
    assert (await everyone("ann", query=query)).welcome["userId"] == "ann"
    offered = ["roundtable.v1.json", f"bearer.{token('carol')}"]
    assert (await everyone("ann", subprotocols=offered)).welcome["userId"] == "ann"
    assert (await everyone("", token="", query=query, subprotocols=offered)).welcome["userId"] == "carol"
    bad = await everyone.turned_away("ann", token="nonsense", query=query)
    assert bad == (1008, "token_invalid")
    assert (await everyone("", token="", query=query)).welcome["userId"] == "bob"


@pytest.mark.rule("AU2")
@pytest.mark.transports("websocket")
async def test_a_token_may_come_as_the_first_message(player: Players) -> None:
    ann = player.new("ann", token="")
    await ann.open("")
    early = await refused(ann.draw("too-early"))
    assert early.word == (1008, "auth_required")
    answer = await ann.request("auth.login", {"token": token("ann")})
    assert answer["userId"] == "ann"
    welcome = await ann.event("session.welcome")
    assert welcome["data"]["userId"] == "ann"
    assert (await ann.snapshots())["canvas"] == []
    await ann.draw("now")


@pytest.mark.rule("AU2")
@pytest.mark.transports("websocket-json", "websocket-msgpack")
async def test_whoever_does_not_say_who_they_are_in_time_is_sent_away(
    player: Players, particular: Program
) -> None:
    began = time.monotonic()
    assert await player.turned_away("", at=particular) == (1008, "auth_timeout")
    assert time.monotonic() - began >= 0.7


@pytest.mark.rule("AU2")
@pytest.mark.transports("websocket-json")
async def test_a_login_with_a_bad_token_is_refused(player: Players) -> None:
    ann = player.new("ann", token="")
    await ann.open("")
    assert (await refused(ann.request("auth.login", {"token": "nonsense"}))).word == (1008, "token_invalid")
    assert "session.welcome" not in ann.told()


@pytest.mark.rule("AU2")
@pytest.mark.parametrize("name", ["token", "access_token", "bearer", "jwt"])
async def test_a_token_in_the_query_string_counts_for_nothing(table: System, room: str, name: str) -> None:
    secret = token("ann")
    async with http(table.gateway) as client:
        for path in ("/sse", "/poll"):
            answer = await client.get(path, params={"room": room, name: secret})
            assert answer.status_code == 401
        answer = await client.post("/rpc", params={"room": room, name: secret}, json=[])
        assert answer.status_code == 401
    async with Wire(table.gateway) as wire:
        await wire.upgrade(room, query=f"room={room}&{name}={secret}")
        await wire.say({"type": "request", "id": "1", "method": "canvas.state"})
        kind = "close"
        came = await wire.frame()
        if came.opcode == 1:
            kind = json.loads(came.payload)["type"]
        assert kind in ("close", "error")


@pytest.mark.rule("AU2", "EN7")
@pytest.mark.transports("sse", "poll-json")
async def test_over_http_a_token_is_required(player: Players) -> None:
    assert await player.turned_away("") == (1008, "auth_required")


# The end of a token


@pytest.mark.rule("AU3")
async def test_a_token_can_be_exchanged_in_a_living_connection(player: Players) -> None:
    ann = await player("ann", token=token("ann", player.room, ttl=100))
    fresh = token("ann", player.room, "spectator", ttl=5_000)
    answer = await ann.request("auth.refresh", {"token": fresh})
    assert (answer["userId"], answer["role"]) == ("ann", "spectator")
    assert answer["tokenExpiresAt"] > (time.time() + 4_000) * 1000
    ann.options["token"] = fresh
    assert (await refused(ann.draw("s"))).word == (1008, "forbidden")


@pytest.mark.rule("AU3")
async def test_nobody_exchanges_their_token_for_anothers(player: Players) -> None:
    ann = await player("ann")
    for wrong, word in {
        token("bob"): (1008, "forbidden"),
        token("ann", f"{player.room}-2"): (1008, "forbidden"),
        "nonsense": (1008, "token_invalid"),
        token("ann", ttl=-60): (1008, "token_expired"),
    }.items():
        assert (await refused(ann.request("auth.refresh", {"token": wrong}))).word == word
    await ann.draw("still-ann")
    drawn = await ann.event("canvas.draw")
    assert drawn["data"]["operations"][0]["userId"] == "ann"


@pytest.mark.rule("AU3")
async def test_the_end_of_a_token_is_told_before_it_comes_and_ends_the_connection(everyone: Players) -> None:
    """All at once, as it takes its time: of each transport one who gets a new token and one who does not."""

    async def lives(transport: str, renews: bool) -> Player:
        life = 4.0
        expires = time.time() + life
        short = token("ann", everyone.room, exp=expires)
        who = await everyone("ann", transport=transport, token=short, timeout="1")
        told = await who.event("session.token_expiring", wait=2 * WAIT)
        assert "id" not in told
        assert time.time() > expires - life / 3 - 0.5
        if renews:
            who.options["token"] = token("ann", everyone.room)
            await who.request("auth.refresh", {"token": who.options["token"]})
        else:
            assert await who.close_code(2 * WAIT) == (1008, "token_expired")
            assert time.time() > expires - 0.1
        return who

    async with asyncio.timeout(4 * WAIT):
        there = await asyncio.gather(
            *(lives(name, renews) for name in TRANSPORTS for renews in (True, False))
        )
    for each in there[::2]:
        await each.request("heartbeat")
        assert not each.closed.done()


# Sessions


@pytest.fixture(scope="module")
async def generous(gateway: Any) -> Program:
    """A development gateway: it gives tokens to anybody."""
    program: Program = await gateway(DEV_AUTH="1", ENVIRONMENT="development")
    return program


@pytest.mark.rule("AU4", "AU5")
async def test_a_refresh_token_gives_new_tokens_once(generous: Program, everyone: Players) -> None:
    wanted = {"userId": "ann", "username": "Ann", "room": everyone.room, "role": "gm", "ttl": 120}
    status, first = await post(generous, "/auth/token", wanted)
    assert status == 200
    assert first.keys() == {"token", "refreshToken", "expiresAt"}
    assert abs(first["expiresAt"] / 1000 - time.time() - 120) < 10
    status, second = await post(generous, "/auth/refresh", {"refreshToken": first["refreshToken"]})
    assert status == 200
    assert second.keys() == first.keys()
    assert second["refreshToken"] != first["refreshToken"]
    ann = await everyone("ann", token=second["token"])
    assert (ann.welcome["userId"], ann.welcome["role"]) == ("ann", "gm")
    # Somebody else had a copy of the first: the whole line of tokens is worth nothing from now on.
    status, answer = await post(generous, "/auth/refresh", {"refreshToken": first["refreshToken"]})
    assert status == 401
    assert answer["error"]["reason"] in ("revoked", "token_invalid")
    assert await ann.close_code() == (1008, "revoked")
    assert (await post(generous, "/auth/refresh", {"refreshToken": second["refreshToken"]}))[0] == 401
    assert await everyone.turned_away("ann", token=second["token"]) == (1008, "revoked")


@pytest.mark.rule("AU4")
async def test_a_refresh_token_that_is_none_is_refused(generous: Program) -> None:
    for wrong in ("x", "x" * 96, token("ann")):
        status, answer = await post(generous, "/auth/refresh", {"refreshToken": wrong})
        assert (status, answer["error"]["reason"]) == (401, "token_invalid")
    assert (await post(generous, "/auth/refresh", {}))[0] in (400, 422)


@pytest.mark.rule("AU4")
@pytest.mark.parametrize("claim", ["sid", "jti"])
async def test_a_logout_ends_all_connections_of_the_session_at_every_gateway_within_two_seconds(
    table: System, everyone: Players, claim: str
) -> None:
    session = f"{claim}-{everyone.room}"
    ours = signed(claims(**{claim: session}))
    theirs = signed(claims(**{claim: f"{session}-2"}))
    there = [
        await everyone("ann", transport=name, at=number % 2, token=ours)
        for number, name in enumerate(TRANSPORTS)
    ]
    other = await everyone("ann", token=theirs)
    status, _ = await post(table.gateway, "/auth/logout", bearer=ours)
    assert status in (200, 204)
    began = time.monotonic()
    ends = await asyncio.gather(*(each.close_code() for each in there))
    assert ends == [(1008, "revoked")] * len(there)
    assert time.monotonic() - began < 3
    for at in (0, 1):
        assert await everyone.turned_away("ann", at=at, token=ours) == (1008, "revoked")
    await other.request("heartbeat")
    assert not other.closed.done()


# Development


@pytest.mark.rule("AU5")
async def test_in_development_whoever_brings_no_token_is_a_guest_who_plays(
    player: Players, generous: Program
) -> None:
    guest = player.new("", at=generous)
    await guest.connect()
    await guest.snapshots()
    assert guest.welcome["role"] == "player"
    assert guest.welcome["userId"]
    assert guest.welcome["username"]
    await guest.draw("s")
    await guest.event("canvas.draw", lambda data: data["operations"][0]["userId"] == guest.welcome["userId"])
    another = player.new("", at=generous)
    await another.connect()
    assert another.welcome["userId"] != guest.welcome["userId"]


@pytest.mark.rule("AU5")
async def test_in_development_a_token_is_given_for_a_name_alone(generous: Program, everyone: Players) -> None:
    status, given = await post(generous, "/auth/token", {"username": "Bob"})
    assert status == 200
    bob = await everyone("bob", token=given["token"])
    assert (bob.welcome["username"], bob.welcome["role"]) == ("Bob", "player")
    for room, opens in (("*", True), (everyone.room, True), (f"{everyone.room}-2", False)):
        status, given = await post(generous, "/auth/token", {"username": "Ann", "room": room, "role": "gm"})
        assert status == 200
        if opens:
            assert (await everyone("ann", token=given["token"])).welcome["role"] == "gm"
        else:
            assert await everyone.turned_away("ann", token=given["token"]) == (1008, "forbidden")


@pytest.mark.rule("AU5", "EN7")
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"username": ""},
        {"username": "x", "role": "god"},
        {"username": "x", "room": "a b"},
        {"username": "x", "userId": "x" * 65},
        {"username": "x", "ttl": -1},
        {"username": "x", "admin": True},
        {"username": 7},
        [],
    ],
)
async def test_a_wrong_request_for_a_token_is_refused(generous: Program, body: Any) -> None:
    status, answer = await post(generous, "/auth/token", body)
    assert status in (400, 422)
    assert answer["error"]["reason"] == "invalid_data"


@pytest.mark.rule("AU5")
async def test_outside_development_nobody_gets_a_token_and_there_are_no_guests(
    table: System, everyone: Players
) -> None:
    status, _ = await post(table.gateway, "/auth/token", {"username": "Bob"})
    assert status in (403, 404)
    guest = everyone.new("")
    await guest.open("")
    assert (await refused(guest.draw("s"))).word == (1008, "auth_required")


@pytest.mark.rule("AU5")
async def test_a_gateway_that_would_give_tokens_to_anybody_does_not_start_elsewhere(table: System) -> None:
    careless = await table.add("gateway", "careless", DEV_AUTH="1", ENVIRONMENT="production")
    try:
        await until(lambda: _ended(careless), 4 * WAIT)
        assert await careless.end() != 0
        assert "ROUNDTABLE_DEV_AUTH" in careless.log()
    finally:
        table.programs.remove(careless)


async def _ended(program: Program) -> bool:
    return not program.running


@pytest.mark.rule("AU5")
async def test_where_no_environment_is_named_the_wish_for_development_is_enough(
    gateway: Any, room: str
) -> None:
    program: Program = await gateway(DEV_AUTH="1", ENVIRONMENT="")
    status, body = await post(program, "/auth/token", {"username": "Ann", "room": room})
    assert status == 200
    assert (await post(program, "/auth/ticket", bearer=body["token"]))[0] == 200


# Origins


@pytest.mark.rule("AU6")
@ONE_EACH
async def test_a_page_of_another_origin_is_refused_and_one_of_our_own_host_is_not(player: Players) -> None:
    own = player.system.gateway.http
    await player("ann", headers={"Origin": own})
    for other in ("https://elsewhere.example", "null", f"{own}.example", "http://127.0.0.1:1"):
        assert await player.turned_away("ann", headers={"Origin": other}) == (1008, "origin_refused")


@pytest.mark.rule("AU6")
@ONE_EACH
async def test_the_list_of_allowed_origins_is_a_setting(player: Players, particular: Program) -> None:
    good = signed(claims(iss="https://issuer.example", aud="table"))
    for origin in ("https://play.example", "http://localhost:5173"):
        await player("ann", at=particular, token=good, headers={"Origin": origin})
    for other in ("https://play.example.org", "http://play.example", "https://notplay.example"):
        end = await player.turned_away("ann", at=particular, token=good, headers={"Origin": other})
        assert end == (1008, "origin_refused")


@pytest.mark.rule("AU6")
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/rpc"), ("GET", "/poll"), ("GET", "/sse"), ("POST", "/auth/ticket")]
)
async def test_a_page_on_the_list_may_read_what_it_is_answered_errors_too(
    particular: Program, method: str, path: str
) -> None:
    """CORS: without these headers a browser shows its page nothing."""
    page, other = "https://play.example", "https://elsewhere.example"
    asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "authorization"}
    async with http(particular) as client:
        leave = await client.options(path, headers=asked | {"Origin": page})
        none = await client.options(path, headers=asked | {"Origin": other})
        answer = await client.request(method, path, params={"room": "inn"}, headers={"Origin": page})
        foreign = await client.request(method, path, params={"room": "inn"}, headers={"Origin": other})
    assert leave.status_code == 200
    assert "authorization" in leave.headers["access-control-allow-headers"].lower()
    for each in (leave, answer):
        assert each.headers["access-control-allow-origin"] == page
    assert answer.status_code in (401, 415)
    for each in (none, foreign):
        assert "access-control-allow-origin" not in each.headers


@pytest.mark.rule("AU6", "AU2", "AU4")
@pytest.mark.parametrize("path", ["/auth/ticket", "/auth/refresh", "/auth/logout"])
async def test_nobody_asks_for_tokens_from_a_page_of_another_origin(table: System, path: str) -> None:
    headers = {"Authorization": f"Bearer {token('ann')}"}
    async with http(table.gateway) as client:
        theirs = await client.post(path, headers=headers | {"Origin": "https://elsewhere.example"})
        ours = await client.post(path, headers=headers | {"Origin": table.gateway.http})
    assert (theirs.status_code, theirs.json()["error"]["reason"]) == (403, "origin_refused")
    assert ours.status_code != 403


# Roles


@pytest.mark.rule("AU7")
async def test_a_spectator_reads_and_points_but_neither_draws_nor_posts(player: Players) -> None:
    eve = await player("eve", "spectator")
    ann = await player("ann")
    await ann.draw("s")
    await eve.event("canvas.draw")
    for method, params in {
        "canvas.draw": {"operations": [stroke("t")]},
        "canvas.clear": {},
        "canvas.undo": {},
        "canvas.redo": {},
        "activity.post": {"type": "chat_message", "data": {"text": "hello"}},
    }.items():
        assert (await refused(eve.request(method, params))).word == (1008, "forbidden"), method
    ink = {"id": "p", "tool": "pen", "color": "#fff", "size": 1, "points": [{"x": 1, "y": 1}]}
    await eve.tell("canvas.preview", ink)
    await eve.tell("presence.cursor", {"x": 5, "y": 6})
    moved = await ann.event("presence.cursor")
    assert moved["data"]["cursors"] == [{"userId": "eve", "x": 5, "y": 6}]
    assert [each["id"] for each in (await eve.request("canvas.state"))["operations"]] == ["s"]
    assert (await eve.request("presence.list"))["presence"]
    assert "activities" in await eve.request("activity.list")
    assert [each["reason"] for each in eve.errors()].count("forbidden") == 6
    assert "canvas.preview" not in ann.told()


@pytest.mark.rule("AU7")
async def test_what_is_the_gms_is_forbidden_to_players(player: Players) -> None:
    ann = await player("ann")
    bob = await player("bob")
    gm = await player("gm", "gm", at=1)
    await ann.draw("s")
    for method, params in {
        "canvas.clear": {"scope": "all"},
        "canvas.undo": {"userId": "ann"},
        "canvas.redo": {"userId": "ann"},
    }.items():
        assert (await refused(bob.request(method, params))).word == (1008, "forbidden")
    assert (await ann.request("canvas.undo", {"userId": "ann"}))["undone"] == ["s"]
    assert (await gm.request("canvas.redo", {"userId": "ann"}))["redone"] == ["s"]
    assert (await gm.request("canvas.undo", {"userId": "ann"}))["undone"] == ["s"]
    await gm.request("canvas.redo", {"userId": "ann"})
    assert (await gm.request("canvas.clear", {"scope": "all"}))["cleared"] == ["s"]


# Last, as the gateway reads its keys again only now and then.


@pytest.mark.rule("AU1")
async def test_keys_may_be_exchanged_while_the_gateway_runs(
    everyone: Players, keyed: Program, jwks: Path
) -> None:
    good = signed(claims(), NEW, "ES256", kid="new")
    await asyncio.to_thread(jwks.write_text, json.dumps({"keys": [jwk("ES256", "new", NEW)]}))

    async def let_in() -> bool:
        comer = everyone.new("ann", at=keyed, token=good)
        await comer.open("")
        async with asyncio.timeout(WAIT):
            await comer.wait_for(lambda: bool(comer.messages) or comer.closed.done())
        return not comer.closed.done()

    await until(let_in, 4 * WAIT, 0.25)
    old = signed(claims(), KEYS["RS256"], "RS256", kid="rs256")
    assert await everyone.turned_away("ann", at=keyed, token=old) == (1008, "token_invalid")


@pytest.mark.rule("AU2", "AU4")
async def test_no_secret_stands_in_any_log(table: System) -> None:
    """After all that the tests above have sent."""
    for program in table.programs:
        log = program.log()
        assert SECRET not in log
        assert "eyJ" not in log, f"{program.name}: a token"
        assert "ticket=" not in log
