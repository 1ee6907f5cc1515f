"""Tickets, refresh tokens and revocations on a real nats-server, as several gateways share them (AU2, AU4)."""

from __future__ import annotations

import asyncio
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import msgspec
import nats.errors
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nats.aio.client import Client

from roundtable.common import subjects
from roundtable.common.config import Settings
from roundtable.common.provision import provision
from roundtable.common.runtime import connect
from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.session import Claims
from roundtable.common.testing.nats import NatsServer, nats_server
from roundtable.gateway import revocations, session_bucket, sessions
from roundtable.gateway.revocations import KEEP_S, Revocation
from roundtable.gateway.session_bucket import Raced, SessionBucket, fingerprint
from roundtable.gateway.sessions import SessionStore

pytestmark = pytest.mark.rule("AU4")

STREAM = f"KV_{subjects.SESSIONS_BUCKET}"
ANN = Claims(
    "u1", "Ann", {"den": "gm", "*": "player"}, int(time.time() + 3_600) * 1_000, "s1", "den", 3_600_000.0
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Gateway:
    """What a gateway has of sessions: its own connection, its store, and who was told to it as revoked."""

    def __init__(self, client: Client, **options: Any) -> None:
        self.client = client
        self.ended: list[str] = []
        self.store = SessionStore(client, self.ended.append, **options)
        self.bucket = SessionBucket(client)


class Deployment:
    def __init__(self, server: NatsServer) -> None:
        self.server = server
        self._gateways: list[Gateway] = []

    async def gateway(self, *, start: bool = True, **options: Any) -> Gateway:
        configured = Settings(nats_url=self.server.url)
        client = await connect(configured, "gateway", lambda: gateway.store.resync())
        if not self._gateways:
            await provision(client, configured)
        gateway = Gateway(client, **options)
        self._gateways.append(gateway)
        if start:
            await gateway.store.start()
        return gateway

    async def stop(self) -> None:
        for gateway in self._gateways:
            await gateway.store.stop()
            await gateway.client.close()


@pytest.fixture
async def deployment() -> AsyncIterator[Deployment]:
    async with nats_server() as server:
        running = Deployment(server)
        try:
            yield running
        finally:
            await running.stop()


async def reason(work: Awaitable[Any]) -> str:
    """Why the work is refused; empty when it is not."""
    try:
        await work
    except Refusal as refusal:
        return refusal.reason
    return ""


async def until(true: Callable[[], bool], within: float = 5.0) -> float:
    """Seconds that it took."""
    began = time.monotonic()
    with anyio.fail_after(within):
        while not true():
            await asyncio.sleep(0.005)
    return time.monotonic() - began


async def stored(client: Client) -> list[bytes]:
    """Everything that is in the bucket: subjects, headers, values."""
    jetstream = client.jetstream()
    state = (await jetstream.stream_info(STREAM)).state
    found = []
    for sequence in range(state.first_seq, state.last_seq + 1):
        try:
            message = await jetstream.get_msg(STREAM, sequence)
        except nats.errors.Error:
            continue
        found.append(
            b"\n".join(
                ((message.subject or "").encode(), repr(message.headers).encode(), message.data or b"")
            )
        )
    return found


def lose_messages(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this gateway says on core NATS is lost on the way."""
    publish = gateway.client.publish

    async def lossy(subject: str, *arguments: Any, **options: Any) -> None:
        if subject != subjects.REVOKED:
            await publish(subject, *arguments, **options)

    monkeypatch.setattr(gateway.client, "publish", lossy)


# -- tickets


@pytest.mark.rule("AU2")
async def test_a_ticket_is_good_once_at_any_gateway(deployment: Deployment) -> None:
    a, b = await deployment.gateway(), await deployment.gateway()
    ticket, expires_at = await a.store.issue_ticket(ANN)
    assert abs(expires_at / 1_000 - time.time() - 30) < 2
    assert await b.store.redeem(ticket) == ANN
    for again in (a, b):
        assert await reason(again.store.redeem(ticket)) == "token_invalid"


@pytest.mark.rule("AU2")
async def test_of_many_gateways_that_redeem_one_ticket_at_once_one_succeeds(deployment: Deployment) -> None:
    gateways = [await deployment.gateway() for _ in range(3)]
    for _ in range(20):
        ticket, _ = await gateways[0].store.issue_ticket(ANN)
        results = await asyncio.gather(*(reason(gateways[n % 3].store.redeem(ticket)) for n in range(9)))
        assert Counter(results) == {"": 1, "token_invalid": 8}


@pytest.mark.rule("AU2")
async def test_a_ticket_ends_by_itself(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = await deployment.gateway()
    monkeypatch.setattr(sessions, "TICKET_S", 1)
    ticket, _ = await gateway.store.issue_ticket(ANN)
    key = f"ticket.{fingerprint(ticket)}"
    assert await gateway.bucket.get(key)
    with anyio.fail_after(4):
        while await gateway.bucket.get(key):
            await asyncio.sleep(0.02)
    marker = await gateway.bucket.next(key, 1)
    assert marker is not None, "the server leaves a marker"
    assert marker.value == b""
    assert await reason(gateway.store.redeem(ticket)) == "token_invalid"


@pytest.mark.rule("AU2")
@pytest.mark.parametrize("ticket", ["", "x", "../..", "*", ">", "a.b", "\0", "ü" * 30, "x" * 100_000])
async def test_what_was_never_a_ticket_is_refused(deployment: Deployment, ticket: str) -> None:
    assert await reason((await deployment.gateway()).store.redeem(ticket)) == "token_invalid"


@pytest.mark.rule("AU2")
async def test_a_ticket_is_worth_no_more_than_the_token_that_it_stands_for(deployment: Deployment) -> None:
    gateway = await deployment.gateway()
    over = msgspec.structs.replace(ANN, expires_at=int(time.time() - 31) * 1_000)
    ticket, _ = await gateway.store.issue_ticket(over)
    assert await reason(gateway.store.redeem(ticket)) == "token_expired"
    ticket, _ = await gateway.store.issue_ticket(ANN)
    await gateway.store.revoke("s1")
    assert await reason(gateway.store.redeem(ticket)) == "revoked"


# -- refresh tokens


async def test_refresh_tokens_rotate_and_keep_what_was_granted(deployment: Deployment) -> None:
    a, b = await deployment.gateway(), await deployment.gateway()
    grant = await a.store.start_family(ANN, 600)
    assert grant.claims.session not in ("", "s1")
    seen = {grant.refresh_token}
    for gateway in (a, b, a, b):
        renewed = await gateway.store.rotate(grant.refresh_token)
        assert (renewed.claims, renewed.ttl_s) == (grant.claims, 600)
        assert renewed.refresh_token not in seen
        seen.add(renewed.refresh_token)
        grant = renewed
    assert grant.claims.rooms == ANN.rooms


async def test_a_refresh_token_used_twice_ends_its_whole_family(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = await deployment.gateway(), await deployment.gateway()
    first = await a.store.start_family(ANN, 600)
    bystander = await a.store.start_family(ANN, 600)
    second = await a.store.rotate(first.refresh_token)
    third = await b.store.rotate(second.refresh_token)
    assert await reason(b.store.rotate(first.refresh_token)) == "revoked"
    for token in (first, second, third):
        assert await reason(b.store.rotate(token.refresh_token)) == "revoked"
    await until(lambda: a.ended == b.ended == [first.claims.session], 2)
    assert await reason(a.store.rotate(third.refresh_token)) == "revoked"
    told = capsys.readouterr().err
    assert "refresh_token.reused" in told
    assert not any(token.refresh_token[16:] in told for token in (first, second, third))
    await a.store.rotate(bystander.refresh_token)


async def test_one_token_refreshed_twice_at_once_counts_as_used_twice(deployment: Deployment) -> None:
    a, b = await deployment.gateway(), await deployment.gateway()
    for _ in range(10):
        grant = await a.store.start_family(ANN, 600)
        session = grant.claims.session
        rotations = (each.store.rotate(grant.refresh_token) for each in (a, b, a, b))
        results = await asyncio.gather(*rotations, return_exceptions=True)
        refused = [each.reason for each in results if isinstance(each, Refusal)]
        assert set(refused) <= {"revoked", "token_invalid"}
        assert len(refused) >= 3
        with anyio.fail_after(2):
            while not (a.store.is_revoked(session) and b.store.is_revoked(session)):
                await asyncio.sleep(0.005)
        for each in results:
            if not isinstance(each, BaseException):
                assert await reason(b.store.rotate(each.refresh_token)) == "revoked"


async def test_who_knows_only_the_session_cannot_end_its_family(deployment: Deployment) -> None:
    gateway = await deployment.gateway()
    grant = await gateway.store.start_family(ANN, 600)
    family = urlsafe_b64decode(grant.claims.session)
    guess = urlsafe_b64encode(family + bytes(42)).decode()
    assert await reason(gateway.store.rotate(guess)) == "token_invalid"
    assert (await gateway.store.rotate(grant.refresh_token)).claims == grant.claims


async def test_a_refresh_token_ends_by_itself(deployment: Deployment) -> None:
    gateway = await deployment.gateway(refresh_days=1 / 86_400)
    grant = await gateway.store.start_family(ANN, 600)
    with anyio.fail_after(4):
        while await gateway.bucket.get(f"family.{fingerprint(grant.claims.session)}"):
            await asyncio.sleep(0.02)
    assert await reason(gateway.store.rotate(grant.refresh_token)) == "token_invalid"


async def test_a_rotation_whose_acknowledgement_is_lost_inside_still_counts_once(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await deployment.gateway()
    grant = await gateway.store.start_family(ANN, 600)
    put = SessionBucket.put

    async def lossy(*arguments: Any) -> int:
        await put(*arguments)
        raise Refusal("unavailable")

    monkeypatch.setattr(SessionBucket, "put", lossy)
    renewed = await gateway.store.rotate(grant.refresh_token)
    monkeypatch.undo()
    assert (await gateway.store.rotate(renewed.refresh_token)).claims == grant.claims


async def test_garbage_is_no_refresh_token(deployment: Deployment) -> None:
    gateway = await deployment.gateway()
    real = (await gateway.store.start_family(ANN, 600)).refresh_token
    for token in (
        "",
        "x",
        "a.b.c",
        real[:-1],
        real + "A",
        real[:-1] + "!",
        real[:-4] + "====",
        " " + real[1:],
        "ü" * 72,
        "x" * 16_384,
    ):
        assert await reason(gateway.store.rotate(token)) == "token_invalid"


@given(
    st.text(max_size=90)
    | st.binary(min_size=54, max_size=54).map(lambda raw: urlsafe_b64encode(raw).decode())
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_reads_as_a_refresh_token_or_is_refused(text: str) -> None:
    try:
        assert str(sessions._RefreshToken.read(text)) == text
    except Refusal as refusal:
        assert refusal.reason == "token_invalid"  # noqa: PT017


async def test_no_secret_stands_in_the_bucket_and_everything_in_it_has_an_end(deployment: Deployment) -> None:
    gateway = await deployment.gateway()
    store = gateway.store
    ticket, _ = await store.issue_ticket(ANN)
    used, _ = await store.issue_ticket(ANN)
    await store.redeem(used)
    first = await store.start_family(ANN, 600)
    second = await store.rotate(first.refresh_token)
    await store.revoke((await store.start_family(ANN, 600)).claims.session)
    messages = await stored(gateway.client)
    assert len(messages) == 5
    everything = b"".join(messages)
    for secret in (ticket, used, *(grant.refresh_token[16:] for grant in (first, second))):
        assert secret.encode() not in everything
    for grant in (first, second):
        raw = urlsafe_b64decode(grant.refresh_token)
        assert raw[12:30] not in everything
        assert raw[30:] not in everything
    assert all(b"Nats-TTL" in message for message in messages)


# -- revocations


async def test_a_revoked_session_is_known_to_every_gateway_at_once(deployment: Deployment) -> None:
    gateways = [await deployment.gateway(poll_s=60) for _ in range(3)]
    await gateways[0].store.revoke("s1")
    assert gateways[0].store.is_revoked("s1")
    assert await until(lambda: all(each.store.is_revoked("s1") for each in gateways)) < 2
    assert not any(each.store.is_revoked("s2") or each.store.is_revoked("") for each in gateways)
    await gateways[1].store.revoke("s1")
    await gateways[1].store.revoke("s2")
    await until(lambda: all(each.ended == ["s1", "s2"] for each in gateways))


async def test_a_revocation_is_known_within_two_seconds_though_its_message_was_lost(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = await deployment.gateway(), await deployment.gateway()
    lose_messages(a, monkeypatch)
    await a.store.revoke("s1")
    assert await until(lambda: b.ended == ["s1"]) < 2


@pytest.mark.parametrize("crash", [True, False])
async def test_a_revocation_is_known_within_two_seconds_after_a_restart_of_nats(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, crash: bool
) -> None:
    a, b = await deployment.gateway(), await deployment.gateway()
    await a.store.revoke("before")
    await deployment.server.restart(crash=crash)
    lose_messages(a, monkeypatch)
    with anyio.fail_after(5):
        while await reason(a.store.revoke("after")):
            await asyncio.sleep(0.02)
    assert await until(lambda: b.store.is_revoked("after")) < 2
    late = await deployment.gateway()
    assert late.store.is_revoked("before")
    assert late.store.is_revoked("after")
    assert b.ended == ["before", "after"]


async def test_a_frozen_nats_costs_no_revocation(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_bucket, "TIMEOUT", 0.2)
    a, b = await deployment.gateway(poll_s=0.1), await deployment.gateway(poll_s=0.1)
    deployment.server.freeze()
    with anyio.fail_after(5):  # the signal takes its time on a busy machine
        while not await reason(a.store.issue_ticket(ANN)):
            pass
    assert await reason(a.store.revoke("s1")) == "unavailable"
    deployment.server.thaw()
    with anyio.fail_after(5):
        while await reason(a.store.revoke("s1")):
            pass
    assert await until(lambda: b.store.is_revoked("s1")) < 2


async def test_a_bucket_made_anew_is_noticed(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = await deployment.gateway(), await deployment.gateway()
    for number in range(5):
        await a.store.revoke(f"old{number}")
    await until(lambda: len(b.ended) == 5)
    seen = (await b.bucket.incarnation())[1]
    await until(lambda: b.store.revocations._seen >= seen - 1)
    jetstream = a.client.jetstream()
    await jetstream.delete_stream(STREAM)
    await provision(a.client, Settings(nats_url=deployment.server.url))
    lose_messages(a, monkeypatch)
    await a.store.revoke("new")
    b.store.resync()
    await until(lambda: b.ended[5:] == ["new"], 2)
    assert b.store.is_revoked("old0")


async def test_thousands_of_revocations_are_known_when_a_gateway_starts(deployment: Deployment) -> None:
    first = await deployment.gateway()
    end = int(time.time()) + 60
    names = [f"s{number}" for number in range(2_000)]
    for start in range(0, len(names), 200):
        await asyncio.gather(
            *(
                first.bucket.put(
                    f"revoked.{fingerprint(name)}", msgspec.msgpack.encode(Revocation(name, end)), 60
                )
                for name in names[start : start + 200]
            )
        )
    late = await deployment.gateway(start=False)
    with anyio.fail_after(10):
        await late.store.start()
    assert all(late.store.is_revoked(name) for name in names)
    await until(lambda: all(first.store.is_revoked(name) for name in names))
    with anyio.fail_after(5):
        while (await first.client.jetstream().stream_info(STREAM)).state.consumer_count:
            await asyncio.sleep(0.02)


async def test_a_revocation_lasts_as_long_as_any_token_of_its_session(deployment: Deployment) -> None:
    now = time.time()
    a = await deployment.gateway()
    await a.store.revoke("ours")
    await a.store.revoke("long", int(now + 90 * 86_400) * 1_000)
    await a.store.revoke("endless", 9_999_999_999_000)
    lasts = {}
    for name in ("ours", "long", "endless"):
        entry = await a.bucket.get(f"revoked.{fingerprint(name)}")
        assert entry is not None
        lasts[name] = msgspec.msgpack.decode(entry.value, type=Revocation).until - now
    assert abs(lasts["ours"] - KEEP_S) < 5
    assert lasts["long"] > 90 * 86_400
    assert lasts["endless"] > 9 * 365 * 86_400


async def test_revocations_that_are_over_leave_the_memory_and_the_rest_is_bounded(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    a = await deployment.gateway(clock=lambda: now)
    known = a.store.revocations
    monkeypatch.setattr(revocations, "MAX_KNOWN", 3)
    for name in ("s1", "s2", "s3", "s4"):
        await a.store.revoke(name)
    assert [name for name in ("s1", "s2", "s3", "s4") if a.store.is_revoked(name)] == ["s2", "s3", "s4"]
    now += KEEP_S + 1
    await a.store.revoke("s5")
    assert len(known._until) == 1
    assert a.store.is_revoked("s5")


async def test_junk_and_faults_of_a_listener_do_not_end_the_listening(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = await deployment.gateway(), await deployment.gateway()

    def broken(session: str) -> None:
        b.ended.append(session)
        raise RuntimeError("no")

    b.store.revocations._on_revoked = broken
    for junk in (b"", b"junk", msgspec.msgpack.encode({"session": 1, "until": "x"}), b"\xff" * 100):
        await a.client.publish(subjects.REVOKED, junk)
    await a.bucket.put("revoked.junk", b"junk", 60)
    await a.store.revoke("s1")
    await a.store.revoke("s2")
    await until(lambda: b.ended == ["s1", "s2"])
    assert await until(lambda: b.store.revocations.age < 1) < 2
    told = capsys.readouterr().err
    assert "revocations.unreadable" in told
    assert "revocations.listener_failed" in told


async def test_a_gateway_stops_at_once_whatever_it_was_just_asking(deployment: Deployment) -> None:
    a = await deployment.gateway(poll_s=0)
    for pause in range(150):
        a.store.resync()
        await asyncio.sleep(pause * 0.00002)
        with anyio.fail_after(3):
            await a.store.stop()
            await a.store.start()


async def test_without_its_bucket_a_gateway_does_not_start(deployment: Deployment) -> None:
    a = await deployment.gateway(start=False)
    await a.client.jetstream().delete_stream(STREAM)
    with pytest.raises(TimeoutError, match="revoked"):
        await a.store.revocations.start(within=0.3)
    assert a.store.revocations.age == float("inf")


async def test_without_nats_everything_is_unavailable_at_once(deployment: Deployment) -> None:
    a = await deployment.gateway()
    ticket, _ = await a.store.issue_ticket(ANN)
    grant = await a.store.start_family(ANN, 600)
    await deployment.server.kill()
    await until(lambda: not a.client.is_connected)
    for work in (
        a.store.issue_ticket(ANN), a.store.redeem(ticket), a.store.start_family(ANN, 600),
        a.store.rotate(grant.refresh_token), a.store.revoke("s1"),
    ):  # fmt: skip
        with anyio.fail_after(1):
            assert await reason(work) == "unavailable"
    await deployment.server.start()
    await until(lambda: a.client.is_connected)
    assert await a.store.redeem(ticket) == ANN
    assert (await a.store.rotate(grant.refresh_token)).claims == grant.claims


async def test_only_the_expected_revision_is_replaced_or_removed(deployment: Deployment) -> None:
    bucket = (await deployment.gateway()).bucket
    first = await bucket.put("family.x", b"1", 60)
    second = await bucket.put("family.x", b"2", 60, first)
    with pytest.raises(Raced):
        await bucket.put("family.x", b"3", 60, first)
    with pytest.raises(Raced):
        await bucket.remove("family.x", first)
    await bucket.remove("family.x", second)
    assert await bucket.get("family.x") is None
