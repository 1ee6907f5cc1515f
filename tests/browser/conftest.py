"""Real browsers at a real system. Each test runs in every browser, or in those that it is marked with."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from roundtable.common.testing.system import Program, System, system

from .drivers import BROWSERS, Browser, Missing, Page
from .gate import Gate
from .person import Person

People = Callable[..., Awaitable[Person]]
BUILT = Path(__file__).parents[2] / "services/gateway/src/roundtable/gateway/web/dist/index.html"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "browsers(*names): only those of `BROWSERS`")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "browser_name" not in metafunc.fixturenames:
        return
    mark = metafunc.definition.get_closest_marker("browsers")
    metafunc.parametrize("browser_name", mark.args if mark else [*BROWSERS], scope="session")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
async def table(anyio_backend: str) -> AsyncIterator[System]:
    """Two gateways, as players sit at different ones; limits as they are by default."""
    assert BUILT.exists(), "the page is not built: make clients"
    settings = {"ENVIRONMENT": "development", "DEV_AUTH": "1", "MESSAGES_PER_MINUTE": "100"}
    async with system(gateways=2, settings=settings) as running:
        yield running


@pytest.fixture(scope="session")
async def browser(browser_name: str, anyio_backend: str) -> AsyncIterator[Browser]:
    """One for all its tests. Where a browser is missing, a test is skipped, unless all of them are demanded."""
    chosen = BROWSERS[browser_name]()
    try:
        await chosen.start()
    except Missing as what:
        await chosen.stop()
        if os.environ.get("ROUNDTABLE_ALL_BROWSERS"):
            raise
        pytest.skip(f"not on this machine: {what}")
    yield chosen
    await chosen.stop()


@pytest.fixture
async def pages(browser: Browser) -> AsyncIterator[Callable[..., Awaitable[Page]]]:
    """Opens pages; they are closed after the test."""
    opened: list[Page] = []

    async def open_page(**options: object) -> Page:
        page = await browser.page(**options)
        opened.append(page)
        return page

    yield open_page
    for page in opened:
        await page.close()


@pytest.fixture
def room() -> str:
    return f"room-{secrets.token_hex(6)}"


@pytest.fixture
async def gate(table: System) -> AsyncIterator[Gate]:
    async with Gate(table.gateway.port) as gate:
        yield gate


@pytest.fixture
async def person(table: System, pages: Callable[..., Awaitable[Page]]) -> People:
    """A person at a page of the first gateway, or of the address that is given."""

    async def arrive(address: str = "", **options: object) -> Person:
        return Person(await pages(**options), address or table.gateway.http)

    return arrive


@pytest.fixture
async def own_gateway(table: System) -> AsyncIterator[Callable[..., Awaitable[Program]]]:
    """Starts a further gateway, for what is done to it, or with settings of its own; it ends with the test."""
    async with table.further_gateways() as start:
        yield start
