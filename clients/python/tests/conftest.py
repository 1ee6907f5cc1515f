"""A running system for the client's tests, with two gateways."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import pytest

from roundtable.common.testing.system import System, system


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
async def table(anyio_backend: str) -> AsyncIterator[System]:
    """Shared by all tests that leave it as it is."""
    async with system(gateways=2, settings={"DEV_AUTH": "1", "ENVIRONMENT": "development"}) as running:
        yield running


@pytest.fixture
def room() -> str:
    return f"room-{secrets.token_hex(6)}"
