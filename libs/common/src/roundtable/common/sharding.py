"""Pure layer: rooms to partitions, partitions to replicas. A hint for speed only: the log judges (ADR 0004)."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

PARTITIONS: Final = 32


def fnv1a(data: bytes) -> int:
    """FNV-1a, 32 bits (Fowler, Noll, Vo; RFC 9923)."""
    digest = 0x811C9DC5
    for byte in data:
        digest = ((digest ^ byte) * 0x01000193) & 0xFFFFFFFF
    return digest


def partition_of(room: str) -> int:
    return fnv1a(room.encode()) % PARTITIONS


def owner_of(partition: int, replicas: Iterable[str]) -> str | None:
    """Rendezvous (highest random weight) hashing: a replica that comes or goes moves only its own partitions."""
    return max(
        replicas, key=lambda name: (blake2b(f"{partition}\0{name}".encode()).digest(), name), default=None
    )


def owned_by(replica: str, replicas: Iterable[str]) -> frozenset[int]:
    members = tuple(replicas)
    return frozenset(p for p in range(PARTITIONS) if owner_of(p, members) == replica)
