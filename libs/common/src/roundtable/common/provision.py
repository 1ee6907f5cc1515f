"""Shell layer: creates streams and buckets; idempotent. Run as `python -m roundtable.common.provision`.

What exists is brought to the configuration where JetStream allows that; events are never deleted. Each stream carries in its
metadata an epoch, made once: it tells this incarnation of the log from any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js.api import (
    KeyValueConfig,
    ObjectStoreConfig,
    RePublish,
    StorageType,
    StreamConfig,
    StreamInfo,
)
from nats.js.client import JetStreamContext

from . import subjects
from .config import ConfigError, Settings, load
from .leases import provision_leases
from .schema.log import SERVICES, Service
from .telemetry import log

EPOCH: Final = "roundtable.epoch"
ANSWER_TIMEOUT: Final = 5.0
_NAME_IN_USE: Final = 10058


async def provision(client: Client, settings: Settings) -> None:
    """Raises `nats.errors.Error` when the server refuses or does not answer."""
    jetstream = client.jetstream(timeout=ANSWER_TIMEOUT)
    for service in SERVICES:
        await _log(jetstream, service, settings)
        await _bucket(jetstream, KeyValueConfig(subjects.snapshot_bucket(service)), settings)
        await _objects(jetstream, subjects.snapshot_objects(service), settings)
    await _bucket(jetstream, KeyValueConfig(subjects.SESSIONS_BUCKET, limit_marker_ttl=60), settings)
    await provision_leases(jetstream, settings.replicas)


async def _log(jetstream: JetStreamContext, service: Service, settings: Settings) -> None:
    name, ours = subjects.stream(service), subjects.events(service, "*")
    mutable: dict[str, Any] = {
        "num_replicas": settings.replicas,
        "max_age": settings.retention_days * 86_400.0,
        "allow_direct": True,
        "allow_atomic": True,
        "republish": RePublish(src=ours, dest=f"{subjects.OUT}.{service}.{{{{wildcard(1)}}}}"),
    }

    async def create() -> None:
        fixed = StreamConfig(name, subjects=[ours], storage=StorageType.FILE, deny_delete=True)
        await jetstream.add_stream(fixed.evolve(**mutable, metadata={EPOCH: secrets.token_hex(8)}))

    info = await _there(jetstream, name, create)
    if info is not None:
        metadata = {**(info.config.metadata or {}), EPOCH: _epoch(info)}
        await _adapt(jetstream, info, metadata=metadata, **mutable)


async def _bucket(jetstream: JetStreamContext, config: KeyValueConfig, settings: Settings) -> None:
    async def create() -> None:
        await jetstream.create_key_value(config.evolve(replicas=settings.replicas))

    info = await _there(jetstream, f"KV_{config.bucket}", create)
    if info is not None:
        await _adapt(jetstream, info, num_replicas=settings.replicas)


async def _objects(jetstream: JetStreamContext, bucket: str, settings: Settings) -> None:
    async def create() -> None:
        await jetstream.create_object_store(bucket, ObjectStoreConfig(bucket, replicas=settings.replicas))

    info = await _there(jetstream, f"OBJ_{bucket}", create)
    if info is not None:
        await _adapt(jetstream, info, num_replicas=settings.replicas)


async def _there(
    jetstream: JetStreamContext, name: str, create: Callable[[], Awaitable[None]]
) -> StreamInfo | None:
    """What the server has under that name; None if it had nothing, and now has what was wanted."""
    try:
        return await jetstream.stream_info(name)
    except nats.js.errors.NotFoundError:
        pass
    try:
        await create()
    except nats.js.errors.BadRequestError as error:
        if error.err_code != _NAME_IN_USE:  # else another instance was faster
            raise
        return await jetstream.stream_info(name)
    log.info("stream.created", stream=name)
    return None


async def _adapt(jetstream: JetStreamContext, info: StreamInfo, **wanted: Any) -> None:
    """Changes what differs, and leaves all else as it is: an operator may have set it."""
    if any((getattr(info.config, name) or 0) != (value or 0) for name, value in wanted.items()):
        await jetstream.update_stream(info.config.evolve(**wanted))
        log.info("stream.updated", stream=info.config.name)


def _epoch(info: StreamInfo) -> str:
    """For a stream that others have made, the moment of its making: all instances find the same."""
    return (info.config.metadata or {}).get(EPOCH) or f"{info.created:%Y%m%d%H%M%S%f}"


async def epochs(client: Client) -> tuple[str, ...]:
    """The three logs' epochs, in the order of `SERVICES`. Raises `nats.errors.Error` while one is missing."""
    jetstream = client.jetstream(timeout=2)
    return tuple([_epoch(await jetstream.stream_info(subjects.stream(service))) for service in SERVICES])


async def _main() -> int:
    from .runtime import connect

    try:
        settings = load(Settings)
    except ConfigError as error:
        print(f"provision: {error}", file=sys.stderr)
        return 2
    log.configure("provision", settings.instance, settings.log_level)
    try:
        client = await connect(settings, "provision")
        await provision(client, settings)
        with contextlib.suppress(OSError):
            await client.close()
    except (nats.errors.Error, TimeoutError, OSError) as error:
        log.error("provision.failed", error=repr(error))
        return 1
    log.info("provision.done")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(_main()))
