"""Build layer: what there is to document and how it is called outside: types, aliases, messages. Knows no output format."""

from __future__ import annotations

import ast
import inspect
import re
from functools import cache
from types import ModuleType
from typing import Any, Final, get_args

import msgspec
from msgspec import Struct

from ..schema import activity, basics, canvas, errors, presence, session
from ..schema.methods import METHODS, SERVER_EVENTS, Method

MODULES: Final = (basics, session, canvas, presence, activity, errors)
PUBLIC_METHODS: Final[tuple[Method, ...]] = tuple(row for row in METHODS.values() if not row.internal)

ALIASES: Final[dict[str, tuple[Any, str]]] = {
    "Role": (basics.Role, "What a user may do in a room."),
    "Transport": (session.Transport, "How a connection's messages travel."),
    "OperationType": (canvas.OperationType, "What an operation does."),
    "Tool": (canvas.Tool, "What it was done with."),
    "Status": (presence.Status, "Whether somebody is here."),
    "ActivityType": (activity.ActivityType, "What an activity is about; its `data` depends on it."),
    "Visibility": (activity.Visibility, "Who sees a roll."),
    "ErrorReason": (
        tuple(errors.REASONS),
        "Why something was refused or closed: a stable word for programs.",
    ),
}
"""Sets of words that deserve a name of their own."""

ACTIVITY_DATA: Final[dict[str, tuple[type[Struct], ...]]] = {
    **{name: (kind,) for name, kind in activity.POST_DATA.items()},
    "dice_roll": (activity.DiceResult, activity.DiceRequest),
}
"""The `data` of an activity as it is told; a blind roll tells its roller only what was asked for."""

BODIES: Final = (session.TokenRequest, session.RefreshRequest, session.Tokens, session.Ticket)
"""Of the `/auth/` paths."""

_MESSAGE_TYPES: Final[frozenset[type[Struct]]] = frozenset(
    kind
    for kind in (
        *(part for row in PUBLIC_METHODS for part in (row.params, row.answer, row.event)),
        *SERVER_EVENTS.values(),
    )
    if kind is not None
)
_OWN_NAMES: Final[dict[type[Struct], str]] = {
    canvas.State: "CanvasStateQuery",
    presence.List: "PresenceListQuery",
    session.Server: "ServerInfo",
}


def durable(event: str) -> bool:
    """Whether the event moves the cursor, and so carries one."""
    method = METHODS.get(event)
    return event in ("session.welcome", "session.cursor") or (method is not None and method.kind == "command")


def pascal(name: str) -> str:
    """`session.token_expiring` becomes `SessionTokenExpiring`."""
    return "".join(part.capitalize() for part in re.split(r"[._]", name))


def public_name(kind: type[Struct]) -> str:
    """Outside our modules `canvas.Draw` and `presence.Update` need their module's name; a `Die` is a `Die`."""
    own = _OWN_NAMES.get(kind)
    if own is not None:
        return own
    module = kind.__module__.rpartition(".")[2].capitalize()
    shared = module == "Session" or kind.__name__.startswith(module)
    return kind.__name__ if shared or kind not in _MESSAGE_TYPES else module + kind.__name__


def roots() -> list[type[Struct]]:
    """Every type that a client meets, in the contract's order; those that stand inside of others are not all among them."""
    found = [
        part for row in PUBLIC_METHODS for part in (row.params, row.answer, row.event) if part is not None
    ]
    found += SERVER_EVENTS.values()
    found += [kind for kinds in ACTIVITY_DATA.values() for kind in kinds]
    return list(dict.fromkeys([*found, *BODIES, errors.ErrorBody]))


@cache
def classes() -> dict[str, type[Struct]]:
    """The schema's classes, by their short names and by those that msgspec gives them when short names collide."""
    named: dict[str, type[Struct]] = {}
    for module in MODULES:
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, Struct) and kind.__module__ == module.__name__:
                named |= {kind.__name__: kind, f"{kind.__module__}.{kind.__qualname__}": kind}
    return named


def words(alias: Any) -> tuple[str, ...]:
    return alias if isinstance(alias, tuple) else get_args(alias)


# -- what the source says about them


def summary(kind: type[Struct]) -> str:
    """The class's own docstring; what stands at its base is not about it."""
    return inspect.cleandoc(kind.__dict__.get("__doc__") or "")


def field_texts(kind: type[Struct]) -> dict[str, str]:
    """Texts under the fields, by the names that the fields have on the wire."""
    texts: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        texts |= _attribute_docs(inspect.getmodule(base)).get(base.__name__, {})
    return {each.encode_name: texts[each.name] for each in msgspec.structs.fields(kind) if each.name in texts}


@cache
def _attribute_docs(module: ModuleType | None) -> dict[str, dict[str, str]]:
    """Class to field to the string that stands below the field; Python itself does not keep those."""
    if module not in MODULES:
        return {}
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.ClassDef):
            for field, below in zip(node.body, node.body[1:], strict=False):
                match field, below:
                    case (
                        ast.AnnAssign(target=ast.Name(id=name)),
                        ast.Expr(value=ast.Constant(value=str(text))),
                    ):
                        found.setdefault(node.name, {})[name] = inspect.cleandoc(text)
                    case _:
                        pass
    return found
