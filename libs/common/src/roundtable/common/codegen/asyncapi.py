"""Build layer: the WebSocket as AsyncAPI 3.0, from the table of methods and the JSON Schema of the messages. Pure."""

from __future__ import annotations

from typing import Any, Final

from .. import VERSION
from ..schema import envelope
from ..schema.basics import ROOM_PATTERN
from ..schema.methods import SERVER_EVENTS
from .catalog import PUBLIC_METHODS, pascal
from .json_schema import definitions, reachable

Document = dict[str, Any]

PREFIX: Final = "#/components/schemas/"
CHANNEL: Final = "#/channels/table"
LICENSE: Final = {"name": "MIT"}
BEARER: Final = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
TICKET: Final = "A ticket from `POST /auth/ticket`: good once, for 30 s."

_ABOUT: Final = """\
Drawing, presence and a feed for everybody in a room.

Every message is a `WSMessage`. A connection opens with `session.welcome`; snapshots follow unless it brought a cursor
and was recovered. Subprotocols: `roundtable.v1.json` (text frames, the default) and `roundtable.v1.msgpack` (binary
frames, the same maps). A frame may hold up to 100 messages of a client as an array.
"""


def asyncapi() -> Document:
    schemas = definitions(PREFIX)
    messages = {**_from_client(), **_from_server()}
    payloads = {name: schemas[name] for name in messages}
    return {
        "asyncapi": "3.0.0",
        "id": "urn:roundtable:gateway",
        "info": {"title": "Roundtable", "version": VERSION, "description": _ABOUT, "license": LICENSE},
        "defaultContentType": "application/json",
        "servers": {
            "local": _server("localhost:8080", "ws", "`make run`"),
            "deployed": _server("{host}", "wss", "Any deployment")
            | {"variables": {"host": {"description": "Where it runs.", "default": "localhost"}}},
        },
        "channels": {"table": _channel(list(messages))},
        "operations": _operations(),
        "components": {
            "messages": {name: _message(name, method, payloads[name]) for name, method in messages.items()},
            "schemas": reachable([*messages, "WSMessage", "ClientBatch"], PREFIX, schemas),
            "securitySchemes": {
                "bearer": {**BEARER, "description": "A JWT in the `Authorization` header of the handshake."},
                "subprotocol": {
                    "type": "httpApiKey",
                    "in": "header",
                    "name": "Sec-WebSocket-Protocol",
                    "description": "For browsers: offer `bearer.TOKEN` beside the subprotocol; it is not echoed.",
                },
                "ticket": {"type": "httpApiKey", "in": "query", "name": "ticket", "description": TICKET},
                "login": {
                    "type": "apiKey",
                    "in": "password",
                    "description": "The first message is a request `auth.login` with the token, within 10 s.",
                },
            },
        },
    }


def _server(host: str, protocol: str, text: str) -> Document:
    security = [
        {"$ref": f"#/components/securitySchemes/{name}"}
        for name in ("bearer", "subprotocol", "ticket", "login")
    ]
    return {"host": host, "protocol": protocol, "description": text, "security": security}


def _channel(messages: list[str]) -> Document:
    query = {
        "type": "object",
        "properties": {
            "room": {
                "type": "string",
                "pattern": ROOM_PATTERN.replace(r"\Z", "$"),
                "description": "Default: the token's `room`, else `lobby`.",
            },
            "cursor": {
                "type": "string",
                "description": "Where an earlier connection ended: what came after is told.",
            },
            "ticket": {"type": "string", "description": TICKET},
        },
    }
    return {
        "address": "/ws",
        "title": "A table",
        "description": "One connection of one user to one room. `/` is the same.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {"ws": {"method": "GET", "query": query, "bindingVersion": "0.1.0"}},
        "x-subprotocols": list(envelope.SUBPROTOCOLS),
    }


def _from_client() -> dict[str, str]:
    """Message to method."""
    asked = {f"{pascal(row.name)}Request": row.name for row in PUBLIC_METHODS if row.kind != "event"}
    told = {f"{pascal(row.name)}ClientEvent": row.name for row in PUBLIC_METHODS if row.kind != "query"}
    return {**asked, **told}


def _from_server() -> dict[str, str]:
    answers = {f"{pascal(row.name)}Response": row.name for row in PUBLIC_METHODS if row.answer is not None}
    events = {f"{pascal(name)}Event": name for name in SERVER_EVENTS}
    return {**answers, **events, "ErrorMessage": "error"}


def _message(name: str, method: str, payload: Document) -> Document:
    correlated = name.endswith(("Request", "Response")) or name == "ErrorMessage"
    return {
        "name": method,
        "title": name,
        "summary": payload["description"],
        "payload": {"$ref": PREFIX + name},
        **({"correlationId": {"location": "$message.payload#/id"}} if correlated else {}),
    }


def _operations() -> Document:
    """`receive` is what the gateway takes, `send` what it tells of itself."""
    made: Document = {}
    for row in PUBLIC_METHODS:
        name = pascal(row.name)
        if row.kind != "event":
            reply = [f"{name}Response"] if row.answer is not None else []
            made[f"ask{name}"] = {
                **_operation("receive", f"Ask for `{row.name}`", [f"{name}Request"]),
                "reply": {"channel": {"$ref": CHANNEL}, "messages": _refs([*reply, "ErrorMessage"])},
            }
        if row.kind != "query":
            made[f"tell{name}"] = _operation(
                "receive", f"Send `{row.name}` without an answer", [f"{name}ClientEvent"]
            )
    for event in SERVER_EVENTS:
        made[f"hear{pascal(event)}"] = _operation("send", f"Hear of `{event}`", [f"{pascal(event)}Event"])
    made["hearError"] = _operation("send", "Hear that a message was refused", ["ErrorMessage"])
    return made


def _operation(action: str, title: str, messages: list[str]) -> Document:
    return {"action": action, "channel": {"$ref": CHANNEL}, "title": title, "messages": _refs(messages)}


def _refs(messages: list[str]) -> list[Document]:
    return [{"$ref": f"{CHANNEL}/messages/{name}"} for name in messages]
