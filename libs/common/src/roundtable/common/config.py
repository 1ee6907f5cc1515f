"""Shell layer: settings from the environment, one typed object a service. Knows no service's own settings.

A field `http_port` is read from `ROUNDTABLE_HTTP_PORT`. Every error names its variable, and all are told at once.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct, field

PREFIX: Final = "ROUNDTABLE_"
Port = Annotated[int, Meta(ge=0, le=65_535)]
Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]


class ConfigError(Exception):
    """The environment is not usable; the text names each variable and what is wrong with it."""


def _host_name() -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:64] or "instance"


class Settings(Struct, frozen=True, kw_only=True):
    """What every service can be told. A field's documentation is `docs/configuration.md`, made from `help_of`."""

    nats_url: Annotated[str, Meta(min_length=1, description="NATS servers, separated by commas")] = (
        "nats://127.0.0.1:4222"
    )
    nats_user: Annotated[str, Meta(description="User name at NATS, where it wants one")] = ""
    nats_password: Annotated[str, Meta(description="Its password")] = ""
    nats_credentials: Annotated[
        str, Meta(description="Path of a NATS credentials file, instead of user and password")
    ] = ""
    nats_tls_ca: Annotated[str, Meta(description="Path of the CA certificate for TLS to NATS")] = ""
    http_host: Annotated[str, Meta(description="Address to listen on")] = "127.0.0.1"
    http_port: Annotated[
        int, Meta(ge=0, le=65_535, description="The gateway's port, or a service's ops port")
    ] = 8080
    instance: Annotated[
        str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}\Z", description="This instance's name; default: the host's")
    ] = field(default_factory=_host_name)
    environment: Annotated[
        str,
        Meta(
            description="`development` allows development logins, anything else refuses to start with them; not set:"
            " development where ROUNDTABLE_DEV_AUTH asks for it, else production"
        ),
    ] = ""
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"], Meta(description="Least level that is logged")
    ] = "INFO"
    replicas: Annotated[
        int, Meta(ge=1, le=5, description="Copies that JetStream keeps of streams and buckets")
    ] = 1
    start_timeout: Annotated[
        float, Meta(gt=0, le=86_400, description="Seconds to wait for NATS at start")
    ] = 60.0
    drain_seconds: Annotated[
        float, Meta(ge=0, le=3_600, description="Seconds over which a gateway sends its connections away")
    ] = 10.0
    provision: Annotated[
        bool, Meta(description="Create streams and buckets at start, where that is allowed")
    ] = True
    retention_days: Annotated[
        int, Meta(ge=0, le=36_500, description="Days that the logs keep events; 0: for ever")
    ] = 0


T = TypeVar("T", bound=Settings)


def variable(name: str) -> str:
    return PREFIX + name.upper()


def load(kind: type[T], environment: Mapping[str, str] | None = None) -> T:
    """Reads the settings. Raises `ConfigError`. An empty variable counts as not set."""
    env = os.environ if environment is None else environment
    hints = get_type_hints(kind, include_extras=True)
    values: dict[str, Any] = {}
    faults: list[str] = []
    for name, hint in hints.items():
        text = env.get(variable(name), "").strip()
        if not text:
            continue
        try:
            values[name] = msgspec.convert(_plain(text, hint), hint, strict=False)
        except msgspec.ValidationError as error:
            faults.append(f"{variable(name)}={_shown(name, text)}: {_expected(hint) or error}")
    if faults:
        raise ConfigError("; ".join(faults))
    return kind(**values)


def _plain(text: str, hint: Any) -> Any:
    """A comma list for tuples, 1/0/true/false/yes/no/on/off for booleans, the text itself for the rest."""
    kind = getattr(hint, "__origin__", hint)
    if kind is bool:
        return {
            "1": True,
            "true": True,
            "yes": True,
            "on": True,
            "0": False,
            "false": False,
            "no": False,
            "off": False,
        }.get(text.lower(), text)
    if kind is tuple or getattr(kind, "__origin__", None) is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _expected(hint: Any) -> str:
    """The choices, where a setting has such: msgspec does not tell them."""
    kind = getattr(hint, "__origin__", hint)
    return f"Expected one of {', '.join(get_args(kind))}" if get_origin(kind) is Literal else ""


def _shown(name: str, text: str) -> str:
    return "(hidden)" if any(word in name for word in ("secret", "password")) else repr(text)


def help_of(kind: type[Settings]) -> list[tuple[str, str, str]]:
    """`(variable, default, meaning)` of every setting, for the docs."""
    rows = []
    for each in msgspec.structs.fields(kind):
        if each.default_factory is not msgspec.NODEFAULT:
            default = ""
        else:
            default = ",".join(each.default) if isinstance(each.default, tuple) else str(each.default)
        meta = [part for part in getattr(each.type, "__metadata__", ()) if isinstance(part, Meta)]
        rows.append((variable(each.name), default, next((m.description or "" for m in meta), "")))
    return rows
