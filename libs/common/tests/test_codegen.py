"""Generated documents say what the code does: real messages are valid by them, refused ones are not."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from msgspec import Struct

from roundtable.common.codegen import __main__ as codegen
from roundtable.common.codegen import catalog, pages
from roundtable.common.codegen.asyncapi import asyncapi
from roundtable.common.codegen.inventory import configuration_page, metrics_page
from roundtable.common.codegen.json_schema import definitions, json_schema, references
from roundtable.common.codegen.openapi import openapi
from roundtable.common.codegen.typescript import typescript
from roundtable.common.schema import activity, canvas, errors, presence, session
from roundtable.common.schema.basics import Point
from roundtable.common.schema.envelope import (
    ClientMessage,
    ErrorMessage,
    Response,
    ServerEvent,
    ServerMessage,
    decode_client,
    decode_params,
    encode,
    encode_sse,
    to_json,
)
from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.methods import METHODS, SERVER_EVENTS

SCHEMA = json_schema()
AT = 1_700_000_000_000
CURSOR = "abc.1.2.3"

POINTS = (Point(0, 0), Point(1.5, -2))
STROKE = canvas.StoredOperation("draw", "pen", POINTS, "#123", 4, "ann", "o1")
ANN = presence.PresenceData("ann", "online", AT, "Ann", presence.DoingNow("drawing", "map"), Point(1, 2))
AWAY = presence.PresenceData("bob", "away", AT, "Bob")
CHAT = activity.Activity("a1", "chat_message", "ann", "Ann", {"text": "hi"}, AT, to=("bob",))
ROLL = activity.Activity(
    "a2",
    "dice_roll",
    "ann",
    "Ann",
    activity.DiceResult("1d6", 3, "1d6 (3) = 3", (activity.Die(6, 3, True),), "luck"),
    AT,
    visibility="gm",
)
BLIND = activity.Activity("a3", "dice_roll", "ann", "Ann", {"expression": "1d20"}, AT, visibility="blind")
TOLD: tuple[tuple[activity.ActivityType, Any], ...] = (
    ("user_joined", {}),
    ("turn_changed", {"current": "Ann", "round": 2, "order": ["Ann", "Bob"]}),
    ("map_updated", {"mapId": "cave", "change": "cleared", "cleared": 3}),
    ("note_edited", {"noteId": "n", "title": "Plot"}),
)
OTHERS = tuple(activity.Activity(f"b{kind}", kind, "ann", "Ann", data, AT) for kind, data in TOLD)
WELCOME = session.Welcome(
    connection_id="c",
    user_id="ann",
    username="Ann",
    role="gm",
    room="lobby",
    transport="websocket",
    cursor=CURSOR,
    recovered=False,
    token_expires_at=None,
    heartbeat_interval=30_000,
    limits=session.Limits(65_536, 100, 60),
    server=session.Server("roundtable", "0.1.0"),
)

EVENTS: dict[str, Struct] = {
    "session.welcome": WELCOME,
    "session.cursor": session.CursorMoved(),
    "session.token_expiring": session.TokenExpiring(AT),
    "heartbeat": session.HeartbeatAnswer(AT),
    "canvas.snapshot": canvas.Snapshot((STROKE,), False),
    "presence.snapshot": presence.Snapshot((ANN, AWAY), True),
    "activity.snapshot": activity.Snapshot((CHAT, ROLL, BLIND, *OTHERS), False),
    "canvas.draw": canvas.Drawn((STROKE,)),
    "canvas.clear": canvas.Cleared("mine", "ann", ("o1",)),
    "canvas.undo": canvas.Undone("ann", ("o1",), ()),
    "canvas.redo": canvas.Redone("ann", ("o1",), ()),
    "canvas.preview": canvas.Previews((canvas.PreviewShown("ann", "o2", "pen", "#123456", 1, POINTS),)),
    "presence.update": ANN,
    "presence.cursor": presence.Cursors((presence.CursorShown("ann", 1, 2.5),)),
    "activity.post": ROLL,
}
ANSWERS: dict[str, Struct] = {
    "heartbeat": session.HeartbeatAnswer(AT),
    "auth.login": session.LoggedIn("ann", "Ann", "player", AT),
    "auth.refresh": session.LoggedIn("ann", "Ann", "player", None),
    "canvas.draw": canvas.DrawAnswer(("o1",), CURSOR),
    "canvas.clear": canvas.ClearAnswer((), CURSOR),
    "canvas.undo": canvas.UndoAnswer(("o1",), CURSOR),
    "canvas.redo": canvas.RedoAnswer(("o1",), CURSOR),
    "canvas.state": canvas.StateAnswer((STROKE,), CURSOR),
    "presence.update": AWAY,
    "presence.list": presence.PresenceList((ANN,)),
    "activity.post": BLIND,
    "activity.list": activity.ActivityList((CHAT, ROLL), True),
}

PEN = {"type": "draw", "tool": "pen", "points": [{"x": 0, "y": 1.5}], "color": "#abc", "size": 2}
BOX = {**PEN, "type": "shape", "tool": "rectangle", "points": [{"x": 0, "y": 0}, {"x": 9, "y": 9}]}
INK = {"id": "o", "tool": "pen", "color": "#123456", "size": 1, "points": PEN["points"]}

GOOD: list[tuple[str, Any]] = [
    ("heartbeat", {}),
    ("auth.login", {"token": "t"}),
    ("canvas.draw", {"operations": [PEN, BOX, {**PEN, "id": "x", "userId": "ann"}]}),
    ("canvas.clear", {}),
    ("canvas.clear", {"scope": "all"}),
    ("canvas.undo", {"userId": "bob"}),
    ("canvas.state", {}),
    ("canvas.preview", INK),
    ("presence.update", {"status": "away", "activity": None}),
    ("presence.update", {"activity": {"type": "typing", "location": "note"}}),
    ("presence.cursor", {"x": -1_000_000, "y": 0.25}),
    ("presence.list", {}),
    ("activity.post", {"type": "chat_message", "data": {"text": "hi"}, "to": ["bob"]}),
    ("activity.post", {"type": "dice_roll", "data": {"expression": "2d6"}, "visibility": "self"}),
    ("activity.post", {"type": "map_updated", "data": {"mapId": "m", "more": [1]}}),
    ("activity.list", {"limit": 200, "types": ["dice_roll"], "before": "a"}),
]
BAD: list[tuple[str, Any]] = [
    ("heartbeat", {"extra": 1}),
    ("auth.login", {}),
    ("canvas.draw", {"operations": []}),
    ("canvas.draw", {"operations": [{**PEN, "tool": "circle"}]}),
    ("canvas.draw", {"operations": [{**BOX, "points": PEN["points"]}]}),
    ("canvas.draw", {"operations": [{**PEN, "color": "red"}]}),
    ("canvas.draw", {"operations": [{**PEN, "size": 0}]}),
    ("canvas.draw", {"operations": [{**PEN, "points": [{"x": 1e7, "y": 0}]}]}),
    ("canvas.draw", {"operations": [{**PEN, "colour": "#fff"}]}),
    ("canvas.clear", {"scope": "theirs"}),
    ("canvas.preview", {**INK, "points": []}),
    ("presence.update", {"status": "offline"}),
    ("presence.cursor", {"x": "1", "y": 2}),
    ("activity.post", {"type": "chat_message", "data": {"text": ""}}),
    ("activity.post", {"type": "chat_message", "data": {"expression": "1d6"}}),
    ("activity.post", {"type": "shout", "data": {}}),
    ("activity.list", {"limit": 201}),
    ("canvas.fly", {}),
]


@cache
def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator({**SCHEMA, "$ref": f"#/$defs/{name}"})


def valid(name: str, value: Any) -> bool:
    """By the definition of that name."""
    return validator(name).is_valid(value)


def check(name: str, value: Any) -> None:
    fault = best_match(validator(name).iter_errors(value))
    assert fault is None, f"{fault.json_path}: {fault.message}"


def forms(message: ServerMessage) -> Iterator[Any]:
    """As a client decodes it from JSON and from MessagePack."""
    yield json.loads(encode(message, "json"))
    yield msgspec.msgpack.decode(encode(message, "msgpack"))


def client_message(method: str, params: Any) -> dict[str, Any]:
    ephemeral = method in METHODS and METHODS[method].kind == "event"
    head = {"type": "event"} if ephemeral else {"type": "request", "id": "1"}
    return {**head, "method": method, "params": params}


def accepted(message: dict[str, Any]) -> bool:
    """What the gateway and the services make of it."""
    (read,) = decode_client(json.dumps(message).encode(), "json")
    if not isinstance(read, ClientMessage) or read.method not in METHODS:
        return False
    try:
        params: Struct = decode_params(read.params, METHODS[read.method].params, "json")
        if isinstance(params, activity.Post):
            msgspec.json.decode(params.data, type=activity.POST_DATA[params.type])
    except (Refusal, msgspec.ValidationError):
        return False
    return True


# -- JSON Schema


def test_the_document_is_json_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert {ref.removeprefix("#/$defs/") for ref in references(SCHEMA)} <= SCHEMA["$defs"].keys()
    assert "\\Z" not in json.dumps(SCHEMA).replace("\\\\", "\\")


def test_every_type_has_a_name_of_its_own() -> None:
    names = [
        catalog.public_name(kind)
        for kind in set(catalog.classes().values())
        if catalog.public_name(kind) in SCHEMA["$defs"]
    ]
    assert len(names) == len(set(names))
    assert all(schema["title"] == name for name, schema in SCHEMA["$defs"].items())


def test_texts_come_from_docstrings_and_from_below_the_fields() -> None:
    types = SCHEMA["$defs"]
    assert types["Welcome"]["description"] == session.Welcome.__doc__
    assert types["Activity"]["properties"]["id"]["description"] == "Sorts by time."
    assert "description" not in types["Die"]


@pytest.mark.rule("EN4", "EN5")
@pytest.mark.parametrize("name", SERVER_EVENTS)
def test_events_are_valid(name: str) -> None:
    event = ServerEvent(name, to_json(EVENTS[name]), AT)
    if catalog.durable(name):
        event = ServerEvent(name, to_json(EVENTS[name]), AT, CURSOR)
    for message in forms(event):
        check(f"{catalog.pascal(name)}Event", message)
        check("WSMessage", message)
        assert not valid("WSMessage", {**message, "data": 1})
        assert not valid("WSMessage", {**message, "method": "canvas.fly"})
    sent = json.loads(encode_sse(event))
    check("SSEEvent", sent)
    check("PollAnswer", {"events": [sent], "cursor": CURSOR})
    assert not valid("SSEEvent", {**sent, "data": 1})


@pytest.mark.parametrize("name", [row.name for row in catalog.PUBLIC_METHODS if row.answer])
def test_answers_are_valid(name: str) -> None:
    for message in forms(Response("1", name, to_json(ANSWERS[name]), AT)):
        check(f"{catalog.pascal(name)}Response", message)
        check("WSMessage", message)


@pytest.mark.rule("EN7")
@pytest.mark.parametrize("reason", errors.REASONS)
def test_errors_are_valid(reason: str) -> None:
    refusal = Refusal(reason, retry_after=1.5)
    for message in (ErrorMessage(refusal.body, AT), ErrorMessage(refusal.body, AT, "1", "canvas.draw")):
        for form in forms(message):
            check("WSMessage", form)
    assert not valid(
        "ErrorMessage", {"type": "error", "timestamp": AT, "error": {"code": 1, "message": "", "reason": "?"}}
    )


def example(value: Any) -> str:
    return f"{value}"[:40] if isinstance(value, str) else json.dumps(value)[:60]


@pytest.mark.parametrize(("method", "params"), GOOD, ids=example)
def test_what_is_accepted_is_valid(method: str, params: Any) -> None:
    message = client_message(method, params)
    assert accepted(message)
    check("WSMessage", message)
    check("ClientBatch", [message])


@pytest.mark.rule("EN3")
@pytest.mark.parametrize(("method", "params"), BAD, ids=example)
def test_what_is_refused_is_not_valid(method: str, params: Any) -> None:
    message = client_message(method, params)
    assert not accepted(message)
    assert not valid("WSMessage", message)


@pytest.mark.parametrize(
    "change",
    [
        {"id": ""},
        {"id": 1},
        {"id": "x" * 65},
        {"type": "response"},
        {"data": {}},
        {"method": 7},
        {"extra": 1},
    ],
)
def test_a_broken_envelope_is_not_valid(change: dict[str, Any]) -> None:
    message = {**client_message("presence.list", {}), **change}
    assert not accepted(message)
    assert not valid("WSMessage", message)


def test_a_whisper_is_a_chat_message_and_only_rolls_are_hidden() -> None:
    turn = {"type": "turn_changed", "data": {"current": "Ann"}}
    check("ActivityPost", turn)
    assert not valid("ActivityPost", {**turn, "to": ["bob"]})
    assert not valid("ActivityPost", {**turn, "visibility": "gm"})
    assert not valid("ActivityPost", {"type": "user_joined", "data": {}})


# -- TypeScript


def test_every_name_in_the_types_is_declared() -> None:
    text = typescript()
    declared = set(re.findall(r"^(?:export )?(?:interface|type|const) (\w+)", text, re.MULTILINE))
    code = re.sub(r'/\*\*.*?\*/|//[^\n]*|"[^"]*"', "", text, flags=re.DOTALL)
    used = set(re.findall(r"\b[A-Z]\w+\b", code))
    assert used - declared <= {"Record", "Readonly"} | set(re.findall(r"<(\w) ", code))


def test_nothing_is_any_but_what_the_api_leaves_open() -> None:
    text = typescript()
    assert re.findall(r"^  (\w+\??): any;$", text, re.MULTILINE) == ["data", "params?", "data?", "data"]
    assert len(re.findall(r"\bany\b", re.sub(r"/\*\*.*?\*/", "", text))) == 4


def test_the_tables_hold_every_row() -> None:
    text = typescript()
    for name, reasons in (("REPLY_ERRORS", errors.REPLY_ERRORS), ("CLOSE_ERRORS", errors.CLOSE_REASONS)):
        table = text.split(f"const {name}:")[1].split("};")[0]
        rows = re.findall(r'^  (\w+): \{ code: (\d+), status: (\d+), advice: "(\w+)"', table, re.MULTILINE)
        kinds = {reason: errors.REASONS[reason] for reason in reasons}
        assert rows == [(r, str(k.code), str(k.status), k.advice) for r, k in kinds.items()]
    for row in catalog.PUBLIC_METHODS:
        if row.answer is not None:
            pair = f"params: {catalog.public_name(row.params)}; result: {catalog.public_name(row.answer)}"
            assert f'  "{row.name}": {{ {pair} }};' in text


# -- AsyncAPI, OpenAPI


def resolve(document: dict[str, Any], ref: str) -> Any:
    found: Any = document
    for part in ref.removeprefix("#/").split("/"):
        found = found[part.replace("~1", "/").replace("~0", "~")]
    return found


@pytest.mark.parametrize("document", [asyncapi(), openapi()], ids=["asyncapi", "openapi"])
def test_all_references_lead_somewhere(document: dict[str, Any]) -> None:
    assert all(resolve(document, ref) for ref in set(references(document)))


def test_asyncapi_has_an_operation_for_all_that_is_said() -> None:
    document = asyncapi()
    operations = document["operations"]
    said = {ref["$ref"].rpartition("/")[2] for each in operations.values() for ref in each["messages"]}
    said |= {
        ref["$ref"].rpartition("/")[2]
        for each in operations.values()
        for ref in each.get("reply", {}).get("messages", [])
    }
    assert (
        said == document["channels"]["table"]["messages"].keys() == document["components"]["messages"].keys()
    )
    heard = {operations[name]["messages"][0]["$ref"] for name in operations if name.startswith("hear")}
    assert len(heard) == len(SERVER_EVENTS) + 1
    assert all(
        each["action"] == ("send" if name.startswith("hear") else "receive")
        for name, each in operations.items()
    )


def test_openapi_knows_every_path_and_every_refusal() -> None:
    document = openapi()
    exports = {
        f"/rooms/{{room}}/{name}" for name in ("canvas.json", "canvas.svg", "canvas.png", "activity.jsonl")
    }
    assert document["paths"].keys() == exports | {
        *("/sse", "/poll", "/rpc", "/auth/token", "/auth/refresh", "/auth/ticket", "/auth/logout"),
        *("/healthz", "/readyz", "/metrics", "/asyncapi.json", "/openapi.json"),
    }
    idents = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(idents) == len(set(idents))
    statuses = {str(kind.status) for kind in errors.REASONS.values() if kind.error and kind.status >= 400}
    assert document["components"]["responses"].keys() == statuses


# -- pages


def rows(page: str) -> list[list[str]]:
    lines = [line for line in page.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_the_pages_hold_every_reason_method_and_event() -> None:
    reasons = {row[1] for row in rows(pages.errors_page())}
    assert {f"`{reason}`" for reason in errors.REASONS} <= reasons
    named = {row[0] for row in rows(pages.methods_page())}
    assert {f"`{row.name}`" for row in catalog.PUBLIC_METHODS} <= named
    assert {f"`{name}`" for name in SERVER_EVENTS} <= named
    assert not any(f"`{row.name}`" in named for row in METHODS.values() if row.internal)


@pytest.mark.rule("LI4")
def test_every_limit_is_a_setting_in_one_table() -> None:
    settings = {row[0]: row for row in rows(configuration_page())}
    limits = {
        "MESSAGES_PER_MINUTE": "100",
        "CURSOR_HZ": "60",
        "MESSAGE_BYTES": "65536",
        "MAX_CONNECTIONS_PER_USER": "20",
        "MAX_CONNECTIONS_PER_ADDRESS": "50",
        "SLOW_BYTES": "1048576",
    }
    for name, default in limits.items():
        _, _, told, by, meaning = settings[f"`ROUNDTABLE_{name}`"]
        assert (told, by) == (f"`{default}`", "gateway")
        assert meaning
    assert all(row[4] for row in settings.values()), "every setting says what it means"


def test_every_metric_is_listed_with_its_meaning() -> None:
    metrics = {row[0]: row for row in rows(metrics_page())}
    assert metrics["`roundtable_commands_total`"][1:4] == ["counter", "`method`, `outcome`", "services"]
    assert metrics["`roundtable_gateway_connections`"][3] == "gateway"
    assert all(row[4] for row in metrics.values())


# -- the program


def test_it_writes_what_differs_and_checks_without_writing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert codegen.main(["--check"], tmp_path) == 2, "not the repository's root"
    (tmp_path / "libs/common").mkdir(parents=True)
    assert codegen.main(["--check"], tmp_path) == 1
    assert not (tmp_path / "docs").exists()
    assert codegen.main([], tmp_path) == 0
    assert codegen.main(["--check"], tmp_path) == 0
    changed = tmp_path / "docs/errors.md"
    changed.write_text(changed.read_text() + "more")
    capsys.readouterr()
    assert codegen.main(["--check"], tmp_path) == 1
    assert capsys.readouterr().err.splitlines() == [
        "codegen: docs/errors.md is out of date: run `make schema`"
    ]
    assert changed.read_text().endswith("more")


def test_it_makes_the_same_files_everywhere() -> None:
    program = (
        "import hashlib; from roundtable.common.codegen.__main__ import generated;"
        "print({name: hashlib.sha256(text.encode()).hexdigest() for name, text in generated().items()})"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_definitions_are_shared_and_so_never_changed() -> None:
    before = json.dumps(definitions())
    json_schema(), asyncapi(), openapi(), typescript(), pages.methods_page()
    assert json.dumps(definitions()) == before
