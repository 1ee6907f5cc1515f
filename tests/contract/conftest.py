"""What the contract suites share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from roundtable.common.testing.jetstream import shared_server
from roundtable.common.testing.nats import NatsServer


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    with shared_server() as running:
        yield running
