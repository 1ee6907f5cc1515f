"""The table page as it is served: types, headers, and a document that needs nothing which its policy forbids."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from importlib import resources

import httpx
import pytest
from starlette.applications import Starlette

from roundtable.gateway import web
from roundtable.gateway.errors_http import EXCEPTION_HANDLERS

SCRIPTS = ("app.js", "board.js", "wire.js")
VOID = {"br", "hr", "img", "input", "link", "meta"}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = Starlette(routes=web.web_routes(), exception_handlers=EXCEPTION_HANDLERS)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://table.example:8080"
    ) as client:
        yield client


def source(name: str) -> str:
    return resources.files(web.__name__).joinpath(name).read_text("utf-8")


class Page(HTMLParser):
    """Tags with their attributes, the text inside scripts and styles, and labels' targets."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.raw: list[str] = []
        self.open: list[str] = []
        self.inside: list[tuple[tuple[str, ...], dict[str, str]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.tags.append((tag, values))
        if tag not in VOID:
            self.open.append(tag)
        self.inside.append((tuple(self.open), values | {"": tag}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style") and data.strip():
            self.raw.append(data)


PAGE = Page(source(web.PAGE))


@pytest.mark.rule("CO2")
async def test_the_page_is_served_at_the_root(client: httpx.AsyncClient) -> None:
    answer = await client.get("/?room=lobby")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.text == source(web.PAGE)


@pytest.mark.parametrize(
    ("name", "media"),
    [
        *((script, "text/javascript; charset=utf-8") for script in SCRIPTS),
        ("style.css", "text/css; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    ],
)
async def test_what_the_page_needs_has_its_type(client: httpx.AsyncClient, name: str, media: str) -> None:
    answer = await client.get(f"/static/{name}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == media
    assert answer.text == source(name)


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/static/style.css"])
async def test_everything_is_guarded_and_revalidated(client: httpx.AsyncClient, path: str) -> None:
    first = await client.get(path)
    assert first.headers["x-content-type-options"] == "nosniff"
    assert first.headers["referrer-policy"] == "no-referrer"
    assert first.headers["cache-control"] == "no-cache"
    tag = first.headers["etag"]
    again = await client.get(path, headers={"If-None-Match": f'"other", W/{tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert (await client.get(path, headers={"If-None-Match": '"other"'})).status_code == 200
    head = await client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(first.content))


@pytest.mark.parametrize(
    "path",
    [
        "/index.html",
        "/static/",
        "/static/index.html",
        "/static/__init__.py",
        "/static/%2e%2e/app.py",
        "/nothing",
    ],
)
async def test_nothing_else_is_there(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 404
    assert answer.json()["error"]["reason"] == "unknown_method"


async def test_the_page_is_only_for_reading(client: httpx.AsyncClient) -> None:
    assert (await client.post("/")).status_code == 405


# -- the policy


def directives(text: str) -> dict[str, list[str]]:
    return {name: values for name, *values in (part.split() for part in text.split(";"))}


async def test_the_policy_allows_our_own_files_and_our_own_sockets_alone(client: httpx.AsyncClient) -> None:
    policy = directives((await client.get("/")).headers["content-security-policy"])
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == ["'none'"]
    assert policy["frame-ancestors"] == ["'none'"]
    assert policy["script-src"] == policy["style-src"] == policy["img-src"] == ["'self'"]
    assert policy["connect-src"] == ["'self'", "ws://table.example:8080", "wss://table.example:8080"]
    assert policy["require-trusted-types-for"] == ["'script'"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:80", "[::1]:8080", "a-b.example:65535"])
def test_a_host_is_named_in_the_policy(host: str) -> None:
    assert directives(web.policy(host))["connect-src"][1:] == [f"ws://{host}", f"wss://{host}"]


@pytest.mark.parametrize(
    "host", ["", "*", "a b", "a;script-src *", "a,b", "a/b", "a:b", "[x]", "a\r\nX: y", "é"]
)
def test_what_is_no_host_does_not_get_into_the_policy(host: str) -> None:
    assert directives(web.policy(host))["connect-src"] == ["'self'"]


# -- the document


def test_no_script_style_or_handler_stands_in_the_page() -> None:
    assert not PAGE.raw
    assert all(tag != "style" and "style" not in values for tag, values in PAGE.tags)
    assert not [name for _, values in PAGE.tags for name in values if name.startswith("on")]
    assert not [
        value
        for _, values in PAGE.tags
        for value in values.values()
        if value.strip().startswith("javascript:")
    ]


async def test_all_that_the_page_loads_is_served_by_us(client: httpx.AsyncClient) -> None:
    loaded = [
        values.get("src") or values["href"] for tag, values in PAGE.tags if tag in ("script", "link", "img")
    ]
    imported = [
        f"/static/{name}"
        for script in SCRIPTS
        for name in re.findall(r'^import .* from "\./(.+)";$', source(script), re.M)
    ]
    assert {"/static/app.js", "/static/style.css"} <= set(loaded)
    assert {"/static/board.js", "/static/wire.js"} <= set(imported)
    for path in {*loaded, *imported}:
        assert (await client.get(path)).status_code == 200


def test_every_field_has_a_label() -> None:
    named = {values["for"] for tag, values in PAGE.tags if tag == "label" and "for" in values}
    bare = [
        values
        for around, values in PAGE.inside
        if values[""] in ("input", "select") and "label" not in around and values.get("id") not in named
    ]
    assert not bare


@pytest.mark.rule("AC9")
@pytest.mark.parametrize("script", SCRIPTS)
def test_texts_of_others_can_only_become_text(script: str) -> None:
    """No way from a string to markup or code is in our scripts; the policy's trusted types hold browsers to it."""
    ways = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|setAttribute\(\"(style|on)|srcdoc"
    assert not re.search(ways, source(script))


def test_the_scripts_find_all_that_they_look_for() -> None:
    ids = {values["id"] for _, values in PAGE.tags if "id" in values}
    sought = set(re.findall(r'\$\("([\w-]+)"\)', source("app.js")))
    assert sought
    assert sought <= ids
