"""Build layer: every wire type as JSON Schema 2020-12, and the messages that carry them. Pure but for reading our source."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import msgspec

from .. import VERSION
from ..schema import activity, canvas, envelope
from ..schema.methods import SERVER_EVENTS, Method
from . import catalog
from .catalog import PUBLIC_METHODS, pascal, public_name

Schema = dict[str, Any]
Definitions = dict[str, Schema]

_REQUEST_ID: Final[Schema] = {
    "description": "Given by the client; the reply repeats it.",
    "type": "string",
    "minLength": 1,
    "maxLength": 64,
}
_TIMESTAMP: Final[Schema] = {"description": "Milliseconds since the Unix epoch.", "type": "integer"}
_CURSOR: Final[Schema] = {"description": "The cursor after this event.", "type": "string", "maxLength": 99}


@cache
def definitions(prefix: str = "#/$defs/") -> Definitions:
    """All types and messages by name, in the contract's order; references begin with `prefix`. Not to be changed."""
    return {**_aliases(), **_types(prefix), **_messages(prefix)}


def json_schema() -> Schema:
    """The whole document; its root is a message on a WebSocket."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:roundtable:schema:1",
        "title": "Roundtable",
        "description": f"Messages of Roundtable {VERSION}, generated from roundtable.common.schema.",
        "$ref": "#/$defs/WSMessage",
        "$defs": definitions(),
    }


def reachable(names: list[str], prefix: str, schemas: Definitions) -> Definitions:
    """Those definitions and all that they refer to, in the order of `schemas`."""
    seen: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += [ref.removeprefix(prefix) for ref in references(schemas[name])]
    return {name: schema for name, schema in schemas.items() if name in seen}


def references(value: Any) -> Iterator[str]:
    """Every `$ref` in it."""
    if isinstance(value, dict) and "$ref" in value:
        yield value["$ref"]
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from references(inner)


# -- types


def _aliases() -> Definitions:
    return {
        name: {"title": name, "description": text, "enum": list(catalog.words(alias))}
        for name, (alias, text) in catalog.ALIASES.items()
    }


def _types(prefix: str) -> Definitions:
    _, components = msgspec.json.schema_components(catalog.roots(), ref_template="{name}")
    classes = catalog.classes()
    names = {raw: public_name(classes[raw]) for raw in components}
    made: Definitions = {}
    for raw, schema in components.items():
        kind, name = classes[raw], names[raw]
        texts = catalog.field_texts(kind)
        head = {"title": name}
        if text := catalog.summary(kind):
            head["description"] = text
        properties = {
            field: _tidy(each, names, prefix) | ({"description": texts[field]} if field in texts else {})
            for field, each in schema["properties"].items()
        }
        rest = {
            key: value for key, value in schema.items() if key not in ("title", "description", "properties")
        }
        made[name] = {**head, "properties": properties, **{k: v for k, v in rest.items() if v != []}}
    _refine(made, prefix)
    return made


def _tidy(value: Any, names: dict[str, str], prefix: str) -> Any:
    """References by public names, words of an alias by its name, and patterns in the dialect of JSON Schema."""
    match value:
        case {"$ref": ref}:
            return {"$ref": prefix + names[ref]}
        case {"enum": list(members), **rest}:
            alias = next(
                (n for n, (a, _) in catalog.ALIASES.items() if set(catalog.words(a)) == set(members)), None
            )
            return {**({"$ref": prefix + alias} if alias else {"enum": members}), **rest}
        case dict():
            tidied = {
                key: _tidy(inner, names, prefix)
                for key, inner in value.items()
                if (key, inner) != ("default", None)
            }
            if "pattern" in tidied:
                tidied["pattern"] = tidied["pattern"].replace(r"\Z", "$")
            return tidied
        case list():
            return [_tidy(inner, names, prefix) for inner in value]
        case _:
            return value


def _refine(types: Definitions, prefix: str) -> None:
    """What depends on another field, and so does not stand in the Python types."""
    types["DrawOperation"]["allOf"] = [
        _when(
            {"type": kind},
            {
                "tool": {"enum": list(tools)},
                **({"points": {"minItems": 2, "maxItems": 2}} if kind == "shape" else {}),
            },
        )
        for kind, tools in canvas.TOOLS.items()
    ]
    post = types["ActivityPost"]
    post["description"] = "`activity.post`. The shape of `data` depends on `type`."
    post["properties"]["type"] = {"enum": list(activity.POST_DATA)}
    post["allOf"] = [
        _when({"type": name}, {"data": {"$ref": prefix + public_name(kind)}})
        for name, kind in activity.POST_DATA.items()
    ] + [
        {"if": {"required": [field]}, "then": {"properties": {"type": {"const": only}}}}
        for field, only in (("to", "chat_message"), ("visibility", "dice_roll"))
    ]
    types["Activity"]["allOf"] = [
        _when({"type": name}, {"data": _any_of([public_name(kind) for kind in kinds], prefix)})
        for name, kinds in catalog.ACTIVITY_DATA.items()
    ]
    types["ErrorBody"]["properties"]["reason"] = {"$ref": f"{prefix}ErrorReason"}


def _when(values: dict[str, str], then: Schema) -> Schema:
    condition = {name: {"const": value} for name, value in values.items()}
    return {"if": {"properties": condition, "required": list(values)}, "then": {"properties": then}}


def _any_of(names: list[str], prefix: str) -> Schema:
    refs = [{"$ref": prefix + name} for name in names]
    return refs[0] if len(refs) == 1 else {"anyOf": refs}


# -- messages


def _messages(prefix: str) -> Definitions:
    requests: Definitions = {}
    client_events: Definitions = {}
    responses: Definitions = {}
    events: Definitions = {}
    for row in PUBLIC_METHODS:
        if row.kind != "event":
            requests[f"{pascal(row.name)}Request"] = _from_client(row, "request", prefix)
        if row.kind != "query":
            client_events[f"{pascal(row.name)}ClientEvent"] = _from_client(row, "event", prefix)
        if row.answer is not None:
            data = {"$ref": prefix + public_name(row.answer)}
            responses[f"{pascal(row.name)}Response"] = _message(
                f"Answer to `{row.name}`.", "response", row.name, {"id": _REQUEST_ID, "data": data}
            )
    for name, kind in SERVER_EVENTS.items():
        data = {"$ref": prefix + public_name(kind)}
        lasting = catalog.durable(name)
        events[f"{pascal(name)}Event"] = _message(
            f"`{name}`, told by the server." + ("" if lasting else " It does not move the cursor: no `id`."),
            "event",
            name,
            {"id": _CURSOR, "data": data} if lasting else {"data": data},
        )
    named = {**requests, **client_events, **responses, **events, "ErrorMessage": _error(prefix)}
    unions: dict[str, tuple[str, list[str]]] = {
        "Request": ("What a client may ask; it is answered once.", list(requests)),
        "ClientEvent": ("What a client may tell; only a refusal is answered.", list(client_events)),
        "Response": ("The answer to a request.", list(responses)),
        "ServerEvent": ("What the server tells.", list(events)),
        "ClientMessage": ("One message from a client.", ["Request", "ClientEvent"]),
        "ServerMessage": ("One message from the server.", ["Response", "ServerEvent", "ErrorMessage"]),
        "WSMessage": ("One message on a WebSocket, either way.", ["ClientMessage", "ServerMessage"]),
    }
    for name, (text, members) in unions.items():
        named[name] = {"description": text, **_any_of(members, prefix)}
    named["ClientBatch"] = {
        "description": "Several messages of a client in one frame or body; each is answered by itself.",
        "type": "array",
        "items": {"$ref": f"{prefix}ClientMessage"},
        "minItems": 1,
        "maxItems": envelope.MAX_BATCH,
    }
    named["SSEEvent"] = _sse_event(prefix)
    named["PollAnswer"] = {
        "description": "Answer of `GET /poll`: what came after the request's cursor.",
        "type": "object",
        "properties": {
            "events": {"type": "array", "items": {"$ref": f"{prefix}SSEEvent"}},
            "cursor": _CURSOR,
        },
        "required": ["events", "cursor"],
    }
    return {name: {"title": name, **schema} for name, schema in named.items()}


def _from_client(row: Method, type_: str, prefix: str) -> Schema:
    asks = type_ == "request"
    needed = [each for each in msgspec.structs.fields(row.params) if each.required]
    return {
        "description": f"{'Asks for' if asks else 'Tells'} `{row.name}`.",
        "type": "object",
        "properties": {
            "type": {"const": type_},
            "id": _REQUEST_ID if asks else {**_REQUEST_ID, "description": "By which a repetition is known."},
            "method": {"const": row.name},
            "params": {"$ref": prefix + public_name(row.params)},
            "timestamp": {"description": "Milliseconds since the Unix epoch.", "type": "number"},
        },
        "required": ["type", *(["id"] if asks else []), "method", *(["params"] if needed else [])],
        "additionalProperties": False,
    }


def _message(text: str, type_: str, method: str, fields: Schema) -> Schema:
    properties = {"type": {"const": type_}, "method": {"const": method}, **fields, "timestamp": _TIMESTAMP}
    return {"description": text, "type": "object", "properties": properties, "required": list(properties)}


def _error(prefix: str) -> Schema:
    return {
        "description": catalog.summary(envelope.ErrorMessage),
        "type": "object",
        "properties": {
            "type": {"const": "error"},
            "id": _REQUEST_ID,
            "method": {"type": "string"},
            "error": {"$ref": f"{prefix}ErrorBody"},
            "timestamp": _TIMESTAMP,
        },
        "required": ["type", "error", "timestamp"],
    }


def _sse_event(prefix: str) -> Schema:
    return {
        "description": catalog.summary(envelope.SSEEvent),
        "type": "object",
        "properties": {
            "id": _CURSOR,
            "type": {"description": "The event's name.", "enum": list(SERVER_EVENTS)},
            "data": {},
            "timestamp": _TIMESTAMP,
        },
        "required": ["type", "data", "timestamp"],
        "allOf": [
            _when({"type": n}, {"data": {"$ref": prefix + public_name(k)}}) for n, k in SERVER_EVENTS.items()
        ],
    }
