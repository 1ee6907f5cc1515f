"""Adapter layer: snapshots of rooms, in a KV bucket; large ones in an object store. Knows no service's state.

A snapshot only saves replay: it may be old, or missing, and nothing is lost. So an unreadable one is as good as none.
"""

from __future__ import annotations

import asyncio
import zlib
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import nats.js.errors
from nats.aio.client import Client
from nats.js.client import JetStreamContext
from nats.js.kv import KeyValue
from nats.js.object_store import ObjectStore

from . import subjects
from .schema.log import Service
from .telemetry import log

VERSION: Final = 1
INLINE_BYTES: Final = 900_000
IN_THREAD_FROM: Final = 100_000
"""Bytes from which compressing would hold up the loop for milliseconds."""
TIMEOUT: Final = 2.0
_INLINE: Final = b"I"
_LARGE: Final = b"L"


class Snapshot(NamedTuple):
    seq: int
    """The room's state after the log's message with this sequence."""
    state: Any
    """What MessagePack can carry; or a `Raw` of it, to save."""


class Snapshots(Protocol):
    async def load(self, room: str) -> Snapshot | None:
        """None when there is none that can be read. Raises nothing: the log alone is enough."""
        ...

    async def save(self, room: str, snapshot: Snapshot) -> int:
        """Returns the bytes that it took. Raises whatever went wrong."""
        ...


async def pack(snapshot: Snapshot) -> bytes:
    encoded = msgspec.msgpack.encode((VERSION, snapshot.seq, snapshot.state))
    if len(encoded) < IN_THREAD_FROM:
        return zlib.compress(encoded, 1)
    return await asyncio.to_thread(zlib.compress, encoded, 1)


def unpack(packed: bytes) -> Snapshot | None:
    """None for a snapshot of another version, or a broken one."""
    try:
        version, seq, state = msgspec.msgpack.decode(zlib.decompress(packed))
    except (zlib.error, msgspec.MsgspecError, RecursionError, ValueError, TypeError):
        return None
    return Snapshot(seq, state) if version == VERSION and type(seq) is int and seq >= 0 else None


class MemorySnapshots:
    def __init__(self) -> None:
        self.packed: dict[str, bytes] = {}

    async def load(self, room: str) -> Snapshot | None:
        packed = self.packed.get(room)
        return None if packed is None else unpack(packed)

    async def save(self, room: str, snapshot: Snapshot) -> int:
        self.packed[room] = await pack(snapshot)
        return len(self.packed[room])


class JetStreamSnapshots:
    """Small ones stand in the bucket itself; a large one's entry there points to the object of the same name."""

    def __init__(self, client: Client, service: Service) -> None:
        self._client = client
        self._jetstream: JetStreamContext = client.jetstream(timeout=TIMEOUT)
        self._bucket = subjects.snapshot_bucket(service)
        self._objects = subjects.snapshot_objects(service)
        self._kv: KeyValue | None = None
        self._store: ObjectStore | None = None

    async def load(self, room: str) -> Snapshot | None:
        if not self._client.is_connected:
            return None
        try:
            # nats-py waits for ever for the parts of an object that was replaced meanwhile.
            async with asyncio.timeout(TIMEOUT):
                entry = await (await self._bucket_kv()).get(room)
                value = entry.value or b""
                if value[:1] == _LARGE:
                    value = _INLINE + ((await (await self._object_store()).get(room)).data or b"")
        except nats.js.errors.NotFoundError:
            return None
        except Exception as error:  # noqa: BLE001 - nats-py lets through what its own parsing meets
            log.warning("snapshot.not_loaded", room=room, error=repr(error))
            return None
        return unpack(value[1:]) if value[:1] == _INLINE else None

    async def save(self, room: str, snapshot: Snapshot) -> int:
        packed = await pack(snapshot)
        if not self._client.is_connected:
            raise ConnectionError("not connected")
        kv = await self._bucket_kv()
        if len(packed) <= INLINE_BYTES:
            await kv.put(room, _INLINE + packed)
        else:
            await (await self._object_store()).put(room, packed)
            await kv.put(room, _LARGE)
        return len(packed)

    async def _bucket_kv(self) -> KeyValue:
        if self._kv is None:
            self._kv = await self._jetstream.key_value(self._bucket)
        return self._kv

    async def _object_store(self) -> ObjectStore:
        if self._store is None:
            self._store = await self._jetstream.object_store(self._objects)
        return self._store
