"""Shell layer: the logs and sessions on disk, and back: `python -m roundtable.common.backup save|restore FOLDER [--replace]`.

Uses JetStream's own snapshots, so sequences, times and settings stay: FOLDER/STREAM/backup.json has the settings, and
stream.tar.s2 is as the server gave it. May save while everything runs. Rooms' snapshots, leases and places of
followers are not saved: all of them are made anew from the logs.

A restored log may lack what was stored after it was saved, and its next events take the sequences of those. So it gets a new
epoch: every client's cursor is refused, and they get snapshots (RS3), for a part may be missing. Before the epoch's dot stands
what the log was called at first, by which the feed knows how far it has followed it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import msgspec
import nats.errors
import nats.js.errors
from nats.aio.client import Client

from . import subjects
from .config import ConfigError, Settings, load
from .provision import EPOCH
from .schema.log import SERVICES
from .telemetry import log

SESSIONS: Final = f"KV_{subjects.SESSIONS_BUCKET}"
STREAMS: Final = (
    subjects.stream("activity"),
    subjects.stream("canvas"),
    subjects.stream("presence"),
    SESSIONS,
)
"""The feed first: it must not know more of the other logs than is saved of them."""
MADE: Final = tuple(
    name
    for service in SERVICES
    for name in (f"KV_{subjects.snapshot_bucket(service)}", f"OBJ_{subjects.snapshot_objects(service)}")
)
"""What services have made from the logs, and can make again."""
CHUNK: Final = 128 * 1024
ANSWER_TIMEOUT: Final = 10.0
SILENCE: Final = 30.0
"""Seconds without a chunk after which the server counts as gone."""


class BackupFailed(Exception):
    """The text says which stream, and why."""


async def save(client: Client, folder: Path, streams: tuple[str, ...] = STREAMS) -> dict[str, int]:
    """Writes the streams into the folder; returns the last sequence of each. Raises `BackupFailed`."""
    saved: dict[str, int] = {}
    for stream in streams:
        target, making = folder / stream, folder / f".{stream}.part"
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        inbox = client.new_inbox()
        request = {"deliver_subject": inbox, "no_consumers": True, "chunk_size": CHUNK}
        chunks = await client.subscribe(inbox)
        try:
            about = await _ask(client, f"$JS.API.STREAM.SNAPSHOT.{stream}", request)
            with (making / "stream.tar.s2").open("wb") as file:
                while True:
                    chunk = await chunks.next_msg(timeout=SILENCE)
                    if not chunk.data:
                        break
                    file.write(chunk.data)
                    if chunk.reply:
                        await client.publish(chunk.reply, b"")
            status = (chunk.headers or {}).get("Status", "204")
            if status not in ("204", "200"):
                raise BackupFailed(f"{stream}: {(chunk.headers or {}).get('Description', status)}")
        except (nats.errors.Error, TimeoutError) as error:
            raise BackupFailed(f"{stream}: {error!r}") from error
        finally:
            with contextlib.suppress(nats.errors.Error):
                await chunks.unsubscribe()
        parts = {"config": about["config"], "state": about["state"]}
        (making / "backup.json").write_bytes(msgspec.json.format(msgspec.json.encode(parts), indent=2))
        shutil.rmtree(target, ignore_errors=True)
        making.rename(target)
        saved[stream] = int(about["state"]["last_seq"])
        log.info("backup.saved", stream=stream, **_counts(about))
    return saved


async def restore(
    client: Client, folder: Path, *, replace: bool = False, streams: tuple[str, ...] = STREAMS
) -> None:
    """Puts the saved streams back, the logs under a new epoch. Raises `BackupFailed`; then some may be back already.

    If one of them is there, nothing is done at all; with `replace` it is deleted first. What was made from the logs that were
    there (rooms' snapshots, places of followers) goes: it may know of what is not in these.
    """
    jetstream = client.jetstream(timeout=ANSWER_TIMEOUT)
    there = [stream for stream in streams if await _exists(jetstream, stream)]
    missing = [stream for stream in streams if not (folder / stream / "backup.json").exists()]
    if missing:
        raise BackupFailed(f"{folder} holds no {', '.join(missing)}")
    if there and not replace:
        raise BackupFailed(f"{', '.join(there)}: there already; --replace deletes what they hold")
    for made in MADE:
        if await _exists(jetstream, made):
            await jetstream.purge_stream(made)
    for stream in streams:
        about = msgspec.json.decode((folder / stream / "backup.json").read_bytes())
        if stream in there:
            await jetstream.delete_stream(stream)
        metadata = about["config"].get("metadata") or {}
        if EPOCH in metadata:
            metadata[EPOCH] = f"{metadata[EPOCH].partition('.')[0]}.{secrets.token_hex(4)}"
        try:
            answer = await _ask(client, f"$JS.API.STREAM.RESTORE.{stream}", about)
            async for chunk in _chunks(folder / stream / "stream.tar.s2"):
                await _put(client, answer["deliver_subject"], chunk)
            await _put(client, answer["deliver_subject"], b"")
            info = await jetstream.stream_info(stream)
            if (info.config.metadata or {}).get(EPOCH) != metadata.get(EPOCH):
                info = await jetstream.update_stream(info.config.evolve(metadata=metadata))
        except (nats.errors.Error, TimeoutError) as error:
            raise BackupFailed(f"{stream}: {error!r}") from error
        if (info.config.metadata or {}).get(EPOCH) != metadata.get(EPOCH):
            raise BackupFailed(
                f"{stream}: its epoch is still the old one, with which clients would miss events"
            )
        log.info("backup.restored", stream=stream, **_counts({"state": vars(info.state)}))


def _counts(about: dict[str, Any]) -> dict[str, Any]:
    return {name: about["state"][name] for name in ("messages", "bytes", "last_seq")}


async def _exists(jetstream: Any, stream: str) -> bool:
    try:
        await jetstream.stream_info(stream)
    except nats.js.errors.NotFoundError:
        return False
    return True


async def _ask(client: Client, subject: str, request: dict[str, Any]) -> dict[str, Any]:
    message = await client.request(subject, msgspec.json.encode(request), timeout=ANSWER_TIMEOUT)
    answer: dict[str, Any] = msgspec.json.decode(message.data)
    if "error" in answer:
        raise BackupFailed(f"{subject.rpartition('.')[2]}: {answer['error'].get('description', 'refused')}")
    return answer


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK):
            yield chunk


async def _put(client: Client, subject: str, chunk: bytes) -> None:
    message = await client.request(subject, chunk, timeout=SILENCE)
    if message.data:
        answer = msgspec.json.decode(message.data)
        if "error" in answer:
            raise BackupFailed(str(answer["error"].get("description", "refused")))


async def _main(arguments: list[str]) -> int:
    from .runtime import connect

    replace = "--replace" in arguments
    words = [word for word in arguments if word != "--replace"]
    if len(words) != 2 or words[0] not in ("save", "restore") or (replace and words[0] == "save"):
        print("usage: python -m roundtable.common.backup save|restore FOLDER [--replace]", file=sys.stderr)
        return 2
    try:
        settings = load(Settings)
    except ConfigError as error:
        print(f"backup: {error}", file=sys.stderr)
        return 2
    log.configure("backup", settings.instance, settings.log_level)
    try:
        client = await connect(settings, "backup")
        try:
            if words[0] == "save":
                await save(client, Path(words[1]))
            else:
                await restore(client, Path(words[1]), replace=replace)
        finally:
            await client.close()
    except (BackupFailed, nats.errors.Error, TimeoutError, OSError, msgspec.MsgspecError) as error:
        log.error("backup.failed", error=str(error) or repr(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(_main(sys.argv[1:])))
