"""The table at which the behaviour suite plays: one running system with two gateways, and players over every transport."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from roundtable.common.testing.forms import TRANSPORTS, Players
from roundtable.common.testing.system import Program, System, system

Gateway = Callable[..., Awaitable[Program]]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "transports(*names): only those of `TRANSPORTS`; `websocket` means all `websocket-…`"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that has players runs over every transport, or those that it is marked with."""
    if "player" not in metafunc.fixturenames:
        return
    mark = metafunc.definition.get_closest_marker("transports")
    meant = [name for name in TRANSPORTS if mark is None or {name, name.partition("-")[0]} & {*mark.args}]
    metafunc.parametrize("transport", meant)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
async def table(anyio_backend: str) -> AsyncIterator[System]:
    """Shared by all tests that leave it as it is: rooms are their own, limits on messages and connections are off."""
    async with system(gateways=2) as running:
        yield running


@pytest.fixture(scope="module")
async def gateway(table: System) -> AsyncIterator[Gateway]:
    """Starts a further gateway of the table with settings of its own; it ends with the module."""
    async with table.further_gateways() as start:
        yield start


@pytest.fixture
def room() -> str:
    return f"room-{secrets.token_hex(6)}"


@pytest.fixture
async def player(table: System, room: str, transport: str) -> AsyncIterator[Players]:
    """The players of this test; see `Players`."""
    players = Players(table, room, transport)
    yield players
    await players.leave()


@pytest.fixture
async def everyone(table: System, room: str) -> AsyncIterator[Players]:
    """As `player`, for tests that name the transport of each themselves."""
    players = Players(table, room, next(iter(TRANSPORTS)))
    yield players
    await players.leave()
