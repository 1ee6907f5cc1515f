"""Who owns which rooms: everybody reckons the same, evenly, and little moves."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundtable.common.sharding import PARTITIONS, fnv1a, owned_by, owner_of, partition_of

replicas = st.lists(
    st.text("abcdef0123456789.-", min_size=1, max_size=20), min_size=1, max_size=8, unique=True
)


@pytest.mark.parametrize(
    ("data", "digest"), [(b"", 0x811C9DC5), (b"a", 0xE40C292C), (b"foobar", 0xBF9CF968)]
)  # the vectors of RFC 9923
def test_the_hash_is_fnv_1a(data: bytes, digest: int) -> None:
    assert fnv1a(data) == digest


def test_rooms_are_spread_evenly_over_the_partitions() -> None:
    for pattern in ("room-{}", "{}", "table_{:05}", "Campaign-{}-night"):
        rooms = Counter(partition_of(pattern.format(number)) for number in range(6_400))
        assert set(rooms) == set(range(PARTITIONS))
        assert max(rooms.values()) < 2 * 6_400 / PARTITIONS


@given(replicas, st.randoms(use_true_random=False))
def test_each_partition_has_one_owner_whatever_order_the_replicas_are_known_in(
    names: list[str], random: object
) -> None:
    shuffled = list(names)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    owned = [owned_by(name, shuffled) for name in names]
    assert sum(map(len, owned)) == PARTITIONS
    assert frozenset().union(*owned) == frozenset(range(PARTITIONS))
    assert all(owner_of(partition, names) == owner_of(partition, shuffled) for partition in range(PARTITIONS))


@given(replicas.filter(lambda names: len(names) > 1), st.data())
def test_a_lost_replica_moves_its_own_partitions_only(names: list[str], data: st.DataObject) -> None:
    lost = data.draw(st.sampled_from(names))
    left = [name for name in names if name != lost]
    for partition in range(PARTITIONS):
        before = owner_of(partition, names)
        assert before == lost or owner_of(partition, left) == before


def test_without_replicas_nobody_owns_anything() -> None:
    assert owner_of(0, ()) is None
    assert owned_by("ada", ("bob",)) == frozenset()


@pytest.mark.parametrize("number", [2, 3, 5])
def test_the_replicas_shares_are_fair_on_the_whole(number: int) -> None:
    shares = Counter[int]()
    for deployment in range(100):
        names = [f"canvas-{deployment}-{replica}" for replica in range(number)]
        shares.update({replica: len(owned_by(name, names)) for replica, name in enumerate(names)})
    assert all(0.8 < share * number / (100 * PARTITIONS) < 1.2 for share in shares.values())
