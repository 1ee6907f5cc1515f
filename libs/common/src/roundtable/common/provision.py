"""Shell layer: creates streams and buckets; idempotent. Run as `python -m roundtable.common.provision`.

What exists is brought to the configuration where JetStream allows that; events are never deleted. Each stream carries in its
metadata an epoch, made once: it tells this incarnation of the log from any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
from typing import Final

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js.api import (
    KeyValueConfig,
    ObjectStoreConfig,
    RePublish,
    StorageType,
    StreamConfig,
)
from nats.js.client import JetStreamContext

from . import subjects
from .config import ConfigError, Settings, load
from .leases import provision_leases
from .schema.log import SERVICES, Service
from .telemetry import log

EPOCH: Final = "roundtable.epoch"
_NAME_IN_USE: Final = 10058


async def provision(client: Client, settings: Settings) -> None:
    """Raises `nats.errors.Error` when the server refuses or does not answer."""
    jetstream = client.jetstream(timeout=10)
    for service in SERVICES:
        await _stream(jetstream, service, settings)
        await _bucket(
            jetstream, KeyValueConfig(subjects.snapshot_bucket(service), replicas=settings.replicas)
        )
        bucket = subjects.snapshot_objects(service)
        with contextlib.suppress(nats.js.errors.BadRequestError):
            await jetstream.create_object_store(bucket, ObjectStoreConfig(bucket, replicas=settings.replicas))
    await _bucket(
        jetstream, KeyValueConfig(subjects.SESSIONS_BUCKET, replicas=settings.replicas, limit_marker_ttl=60)
    )
    await provision_leases(jetstream, settings.replicas)


async def _stream(jetstream: JetStreamContext, service: Service, settings: Settings) -> None:
    config = StreamConfig(
        name=subjects.stream(service),
        subjects=[subjects.events(service, "*")],
        storage=StorageType.FILE,
        num_replicas=settings.replicas,
        max_age=settings.retention_days * 86_400.0,
        allow_direct=True,
        deny_delete=True,
        republish=RePublish(
            src=subjects.events(service, "*"), dest=f"{subjects.OUT}.{service}.{{{{wildcard(1)}}}}"
        ),
        metadata={EPOCH: secrets.token_hex(8)},
    )
    try:
        info = await jetstream.stream_info(subjects.stream(service))
    except nats.js.errors.NotFoundError:
        try:
            await jetstream.add_stream(config)
            log.info("stream.created", stream=config.name)
        except nats.js.errors.BadRequestError as error:
            if error.err_code != _NAME_IN_USE:  # else another instance was faster
                raise
        return
    config.metadata = {**(info.config.metadata or {})}
    config.metadata.setdefault(EPOCH, secrets.token_hex(8))
    wanted = (config.num_replicas, config.max_age, config.metadata[EPOCH])
    there = (info.config.num_replicas, info.config.max_age or 0.0, (info.config.metadata or {}).get(EPOCH))
    if wanted != there:
        await jetstream.update_stream(config)
        log.info("stream.updated", stream=config.name)


async def _bucket(jetstream: JetStreamContext, config: KeyValueConfig) -> None:
    try:
        await jetstream.key_value(config.bucket)
    except nats.js.errors.NotFoundError:
        with contextlib.suppress(nats.js.errors.BadRequestError):
            await jetstream.create_key_value(config)
            log.info("bucket.created", bucket=config.bucket)


async def epochs(client: Client) -> tuple[str, ...]:
    """The three logs' epochs, in the order of `SERVICES`. Raises `nats.errors.Error` while one is missing."""
    jetstream = client.jetstream(timeout=2)
    infos = [await jetstream.stream_info(subjects.stream(service)) for service in SERVICES]
    return tuple((info.config.metadata or {}).get(EPOCH, "") for info in infos)


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
        await client.close()
    except (nats.errors.Error, TimeoutError, OSError) as error:
        log.error("provision.failed", error=repr(error))
        return 1
    log.info("provision.done")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(_main()))
