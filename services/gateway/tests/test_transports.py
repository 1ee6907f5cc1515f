"""The transports' own ends: peers that go, or do not read, at the worst moment."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from roundtable.common.schema.envelope import decode_client, rest_of_batch
from roundtable.common.schema.errors import Refusal
from roundtable.gateway.codecs import SSE, SSE_PLAIN
from roundtable.gateway.frames import FrameParser
from roundtable.gateway.transports import http_protocol, websocket_protocol
from roundtable.gateway.transports.http_protocol import HEAD_AT_MOST, protocol_class
from roundtable.gateway.transports.sse import EventStream
from roundtable.gateway.transports.websocket_protocol import WebSocketProtocol


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Transport(asyncio.Transport):
    """Keeps what is written; as strict as uvloop's about writing after the end."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closing = self.gone = self.aborted = False

    def write(self, data: Any) -> None:
        assert not self.gone, "uvloop raises here"
        self.written += bytes(data)

    def get_write_buffer_size(self) -> int:
        return len(self.written)

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


class Receiver:
    def __init__(self, fault: Exception | None = None) -> None:
        self.received: list[bytes] = []
        self.losses = 0
        self._fault = fault

    def receive(self, data: bytes) -> None:
        self.received.append(data)
        if self._fault is not None:
            raise self._fault

    def alive(self) -> None: ...

    def keeps_up(self, ready: bool) -> None: ...

    def lost(self) -> None:
        self.losses += 1


def socket() -> tuple[WebSocketProtocol, Transport]:
    transport = Transport()
    protocol = WebSocketProtocol(transport, 65_536)
    protocol._parser = FrameParser(65_536)
    return protocol, transport


def masked(first: int, payload: bytes) -> bytes:
    return bytes((first, 0x80 | len(payload), 0, 0, 0, 0)) + payload


async def test_a_peer_that_closes_and_reads_nothing_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_protocol, "CLOSE_WAIT", 0.01)
    protocol, transport = socket()
    protocol.hand_to(Receiver())
    protocol.data_received(masked(0x88, b"\x03\xe8"))
    assert transport.closing
    assert not transport.aborted
    await asyncio.sleep(0.05)
    assert transport.aborted


async def test_whoever_takes_over_a_socket_that_has_ended_is_told_so() -> None:
    protocol, transport = socket()
    transport.closing = True
    receiver = Receiver()
    protocol.hand_to(receiver)
    assert receiver.losses == 1


async def test_a_message_on_which_we_fail_closes_with_internal() -> None:
    protocol, transport = socket()
    receiver = Receiver(ValueError("ours"))
    protocol.hand_to(receiver)
    protocol.data_received(masked(0x81, b"{}") + masked(0x81, b"[]"))
    assert receiver.received == [b"{}"]
    assert transport.written[2:4] == (1011).to_bytes(2, "big")
    protocol.connection_lost(None)


def stream(plain: bool = False) -> tuple[EventStream, Transport, Any]:
    transport, cycle = Transport(), SimpleNamespace(chunked_encoding=None, disconnected=False)
    protocol: Any = SimpleNamespace(transport=transport, stream=None)
    return EventStream(protocol, cycle, SSE_PLAIN if plain else SSE, lambda: 1, 60.0), transport, cycle  # type: ignore[arg-type]


async def test_an_event_stream_whose_peer_has_gone_before_its_beginning_ends_at_once() -> None:
    events, transport, cycle = stream()
    transport.closing = transport.gone = True
    connection: Any = SimpleNamespace()
    events.begin(connection)
    assert events.ended.is_set()
    assert cycle.disconnected
    events.write(b"no more")
    events.end(Refusal("draining"))


async def test_an_old_proxy_is_announced_no_chunks() -> None:
    for plain in (False, True):
        events, _, cycle = stream(plain)
        events.announce()
        assert (cycle.chunked_encoding is False) is plain


async def test_headers_without_an_end_are_refused_long_before_memory_ends() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    protocol = protocol_class(10, 65_536)(Config(app, lifespan="off", log_config=None), ServerState(), {})
    transport = Transport()
    protocol.connection_made(transport)
    protocol.data_received(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ")
    sent = 0
    while not transport.closing and sent < 10 * HEAD_AT_MOST:
        protocol.data_received(b"a" * 10_000)
        sent += 10_000
    assert sent <= HEAD_AT_MOST + 10_000
    assert transport.written.startswith(b"HTTP/1.1 400 ")
    protocol.connection_lost(None)


def test_each_request_finds_its_own_state_though_the_next_has_been_read() -> None:
    first, second = SimpleNamespace(), SimpleNamespace()
    cycle: Any
    for cycle in (first, second):
        assert http_protocol.cycle_of({"roundtable.cycle": cycle}) is cycle


@pytest.mark.rule("AU2", "EN1")
def test_what_follows_a_login_in_its_batch_is_not_lost() -> None:
    login = b'{"type":"request","id":"1","method":"auth.login","params":{"token":"t"}}'
    batch = b'[%b,{"type":"request","id":"2","method":"heartbeat"}]' % login
    rest = rest_of_batch(batch, "json", 1)
    assert [getattr(message, "id", "") for message in decode_client(rest, "json")] == ["2"]
    assert rest_of_batch(batch, "json", 2) == b""
    assert rest_of_batch(b'{"type":"request"}', "json", 1) == b""


@pytest.mark.rule("EN2")
def test_an_id_is_short_on_events_too() -> None:
    (read,) = decode_client(b'{"type":"event","id":"%b","method":"canvas.draw"}' % (b"x" * 65), "json")
    assert isinstance(read, tuple)
    refusal, ident, _ = read
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, len(ident)) == ("invalid_data", 64)
