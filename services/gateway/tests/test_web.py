"""The table page as it is served: types, headers, packing; and its source, which needs nothing that its policy forbids."""

from __future__ import annotations

import gzip
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from roundtable.gateway import web
from roundtable.gateway.errors_http import EXCEPTION_HANDLERS

SOURCE = Path(__file__).parents[3] / "clients/table/src"
VOID = {"br", "hr", "img", "input", "link", "meta"}
BUILT = {
    "index.html": "<!doctype html><title>Roundtable</title>",
    "main-0123456789.js": "console.log('a table')",
    "main-0123456789.css": "body { margin: 0 }",
    "icon-0123456789.svg": "<svg xmlns='http://www.w3.org/2000/svg'/>",
}


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    app = Starlette(routes=web.web_routes(folder), exception_handlers=EXCEPTION_HANDLERS)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://table.example:8080",
        headers={"Accept-Encoding": ""},
    ) as client:
        yield client


@pytest.fixture
def built(tmp_path: Path) -> Path:
    for name, text in BUILT.items():
        (tmp_path / name).write_text(text)
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "notes.txt").write_text("not for others")
    return tmp_path


@pytest.fixture
async def client(built: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(built) as client:
        yield client


@pytest.mark.rule("CO2")
async def test_the_page_is_served_at_the_root(client: httpx.AsyncClient) -> None:
    answer = await client.get("/?room=lobby")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.text == BUILT["index.html"]


async def test_a_page_that_is_not_built_says_how_to_build_it(tmp_path: Path) -> None:
    async with serving(tmp_path / "nothing") as client:
        answer = await client.get("/")
        assert answer.status_code == 200
        assert "make clients" in answer.text
        assert (await client.get("/static/main.js")).status_code == 404


@pytest.mark.parametrize(
    ("name", "media"),
    [
        ("main-0123456789.js", "text/javascript; charset=utf-8"),
        ("main-0123456789.css", "text/css; charset=utf-8"),
        ("icon-0123456789.svg", "image/svg+xml"),
    ],
)
async def test_what_the_page_needs_has_its_type_and_may_be_kept(
    client: httpx.AsyncClient, name: str, media: str
) -> None:
    answer = await client.get(f"/static/{name}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == media
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.text == BUILT[name]


async def test_the_page_itself_is_asked_for_anew(client: httpx.AsyncClient) -> None:
    assert (await client.get("/")).headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("coding", ["", "gzip"])
@pytest.mark.parametrize("path", ["/", "/static/main-0123456789.js"])
async def test_everything_is_guarded_and_can_be_revalidated(
    client: httpx.AsyncClient, path: str, coding: str
) -> None:
    accepted = {"Accept-Encoding": coding}
    first = await client.get(path, headers=accepted)
    assert first.headers["x-content-type-options"] == "nosniff"
    assert first.headers["referrer-policy"] == "no-referrer"
    assert first.headers["vary"] == "Accept-Encoding"
    tag = first.headers["etag"]
    again = await client.get(path, headers=accepted | {"If-None-Match": f'"other", W/{tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert (await client.get(path, headers=accepted | {"If-None-Match": '"other"'})).status_code == 200
    head = await client.head(path, headers=accepted)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == first.headers["content-length"]


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip", "gzip"),
        ("br, gzip;q=0.5", "gzip"),
        ("GZIP ; q=1", "gzip"),
        ("gzip;q=0", None),
        ("gzip;q=0.0, br", None),
        ("br", None),
        ("", None),
        ("not-gzip", None),
    ],
)
async def test_who_takes_gzip_gets_it(client: httpx.AsyncClient, accepted: str, coding: str | None) -> None:
    plain = await client.get("/", headers={"Accept-Encoding": ""})
    answer = await client.get("/", headers={"Accept-Encoding": accepted})
    assert answer.headers.get("content-encoding") == coding
    assert answer.text == BUILT["index.html"]
    assert (answer.headers["etag"] == plain.headers["etag"]) == (coding is None)


@pytest.mark.parametrize(
    "path",
    [
        "/index.html",
        "/static/",
        "/static/index.html",
        "/static/index.html.gz",
        "/static/notes.txt",
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


# -- the source


class Page(HTMLParser):
    """Tags with their attributes, the text inside scripts and styles, and what is around each tag."""

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

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style") and data.strip():
            self.raw.append(data)


PAGE = Page((SOURCE / "index.html").read_text("utf-8"))
SCRIPTS = sorted(SOURCE.rglob("*.ts"))
IDS = {values["id"] for _, values in PAGE.tags if "id" in values}


def test_no_script_style_or_handler_stands_in_the_page() -> None:
    assert not PAGE.raw
    assert all(tag != "style" and "style" not in values for tag, values in PAGE.tags)
    assert not [name for _, values in PAGE.tags for name in values if name.startswith("on")]


def test_all_that_the_page_loads_is_built_with_it() -> None:
    loaded = [
        values.get("src") or values["href"]
        for tag, values in PAGE.tags
        if tag in ("script", "link", "img", "a", "use")
    ]
    assert {"{main.js}", "{main.css}", "{icon.svg}"} <= set(loaded)
    assert [address for address in loaded if not address.startswith(("#", "{"))] == []
    assert {f"#{name}" for name in IDS} >= {address for address in loaded if address.startswith("#")}


def test_every_field_has_a_label() -> None:
    named = {values["for"] for tag, values in PAGE.tags if tag == "label" and "for" in values}
    bare = [
        values
        for around, values in PAGE.inside
        if values[""] in ("input", "select", "textarea")
        and "label" not in around
        and values.get("id") not in named
    ]
    assert not bare


@pytest.mark.rule("AC9")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_texts_of_others_can_only_become_text(script: Path) -> None:
    """No way from a string to markup or code is in our scripts; the policy's trusted types hold browsers to it."""
    ways = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|setAttribute\(\"(style|on)|srcdoc"
    assert not re.search(ways, script.read_text("utf-8"))


def test_the_scripts_find_all_that_they_look_for() -> None:
    code = "\n".join(script.read_text("utf-8") for script in SCRIPTS)
    sought = set(re.findall(r'\$(?:<\w+>)?\("([\w-]+)"\)', code))
    assert len(sought) > 30
    assert sought <= IDS
    pictures = set(re.findall(r'\bicon(?:Button)?\("([\w-]+)"', code))
    assert {f"i-{name}" for name in pictures} <= IDS
