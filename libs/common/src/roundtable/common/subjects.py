"""Pure layer: the names of subjects, streams and buckets: one place, as in docs/architecture.md. Room names are safe tokens."""

from __future__ import annotations

from typing import Final

from .schema.log import Service

EVENTS: Final = "rt.evt"
OUT: Final = "rt.out"


def command_to_owner(service: Service, partition: int | str, room: str) -> str:
    return f"rt.cmd.{service}.p.{partition}.{room}"


def command_to_any(service: Service, room: str) -> str:
    return f"rt.cmd.{service}.any.{room}"


def command_to_all(service: Service, room: str) -> str:
    return f"rt.cmd.{service}.all.{room}"


def is_to_all(subject: str) -> bool:
    return subject.split(".", 4)[3] == "all"


def events(service: Service, room: str) -> str:
    """Where that service alone appends; the stream's own subject. Nobody but the stream listens to it."""
    return f"{EVENTS}.{service}.{room}"


def out(service: Service | str, room: str) -> str:
    """Where the server republishes what it has stored."""
    return f"{OUT}.{service}.{room}"


def ephemeral(room: str) -> str:
    return f"rt.eph.{room}"


def replicas(service: Service) -> str:
    """Heartbeats of a service's replicas."""
    return f"rt.ctl.replica.{service}"


def ping(service: Service) -> str:
    """Any replica answers: the gateway's readiness."""
    return f"rt.ctl.ping.{service}"


REVOKED: Final = "rt.ctl.revoked"


def stream(service: Service) -> str:
    return service.upper()


def snapshot_bucket(service: Service) -> str:
    return f"rt_{service}_snapshots"


def snapshot_objects(service: Service) -> str:
    return f"rt_{service}_large"


GATEWAYS_BUCKET: Final = "rt_gateways"
SESSIONS_BUCKET: Final = "rt_sessions"


def room_of(subject: str) -> str:
    """The last token."""
    return subject.rpartition(".")[2]
