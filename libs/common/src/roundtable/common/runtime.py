"""Shell layer: what any process of the system does: settings, logs, NATS, ops port, signals, a clean end. Knows no service."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, Generic, TypeVar

import nats.errors
import uvicorn
from nats.aio.client import Client
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from . import provision
from .config import ConfigError, Settings, load
from .tasks import end
from .telemetry import ProcessMetrics, log

T = TypeVar("T", bound=Settings)

GARBAGE_AFTER: Final = 10_000
"""Objects that were made and not freed since the last look for cycles; Python looks after 700."""
LOOK_AT_LOOP_EVERY: Final = 0.25
OWN_TRIES: Final = 3
"""Failures after which a process believes that it may not create streams, and is content if they are there."""

Check = Callable[[], Awaitable[str]]
"""A readiness check: the empty string, or what is wrong."""


CLOSING: Final = 0.5
"""Seconds that a connection which never came about has to end."""
SAID_AGAIN: Final = 5.0
"""Seconds after which the same error of NATS is logged again: while it is away, there are ten a second."""


class NatsClient(Client):
    """nats-py's client without two traps. It reads nothing more once a `flush` was given up before its answer came.

    A PONG for a cancelled wait raises in the reading task, which ends, while the connection passes for alive until its
    pings are found unanswered. Anything cancels a flush: a timeout, or a connection of ours that ends while it begins.

    And at start it waits for ever for the end of a connection whose certificate it has refused, before it tries again.
    """

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        if status != Client.DISCONNECTED:  # that is what it says between two tries at start
            await super()._close(status, do_cbs)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSING):
                await super()._close(status, do_cbs)

    async def _process_pong(self) -> None:
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    async def _read_loop(self) -> None:
        """Whatever else ends the reading: a connection from which nothing is read is none."""
        await super()._read_loop()
        if self.is_connected:
            await self._process_op_err(nats.errors.StaleConnectionError())


def _nothing() -> None:
    pass


async def connect(
    settings: Settings,
    name: str,
    reconnected: Callable[[], None] = _nothing,
    closed: Callable[[], None] = _nothing,
    *,
    echo: bool = True,
) -> Client:
    """A connection to NATS that comes back by itself for ever. Raises `TimeoutError` if there is none at start in time.

    Only where the server says that it will not have us any more (a revoked user) nats-py gives up; `closed` is called then,
    and at our own `close`. Without `echo` the connection does not hear what it says itself.
    nats-py tries for ever even without `allow_reconnect`, so the deadline is ours.
    """

    said: dict[str, float] = {}

    async def on_error(error: Exception) -> None:
        text, now = repr(error), time.monotonic()
        if now - said.get(text, -SAID_AGAIN) >= SAID_AGAIN:
            for old in [each for each, at in said.items() if now - at >= SAID_AGAIN]:
                del said[old]
            said[text] = now
            log.warning("nats.error", error=text)

    async def on_disconnect() -> None:
        if not client.is_closed:
            log.warning("nats.disconnected")

    async def on_reconnect() -> None:
        log.info("nats.reconnected")
        reconnected()

    async def on_closed() -> None:
        closed()

    options: dict[str, Any] = {
        "servers": [url.strip() for url in settings.nats_url.split(",") if url.strip()],
        "name": f"roundtable-{name}-{settings.instance}",
        "inbox_prefix": f"_INBOX_{name}",
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": 0.1,
        "connect_timeout": 2,
        "ping_interval": 5,
        "max_outstanding_pings": 2,
        "pending_size": 8 << 20,
        "no_echo": not echo,
        "error_cb": on_error,
        "disconnected_cb": on_disconnect,
        "reconnected_cb": on_reconnect,
        "closed_cb": on_closed,
    }
    if settings.nats_user:
        options |= {"user": settings.nats_user, "password": settings.nats_password}
    if settings.nats_credentials:
        options["user_credentials"] = settings.nats_credentials
    if settings.nats_tls_ca:
        options["tls"] = ssl.create_default_context(cafile=settings.nats_tls_ca)
    client = NatsClient()
    try:
        async with asyncio.timeout(settings.start_timeout):
            await client.connect(**options)
            return client
    except TimeoutError:
        where = ", ".join(map(_public, options["servers"]))
        raise TimeoutError(f"no NATS at {where} within {settings.start_timeout:g} s") from None


def _public(url: str) -> str:
    """The address without user and password."""
    return url.rpartition("@")[2].rpartition("//")[2]


class QuietServer(uvicorn.Server):
    """uvicorn without its own signal handlers: they would close every WebSocket with 1012 at once.

    And without looking ten times a second whether it is to end: an idle process shall do nothing.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ending = asyncio.Event()

    def end(self) -> None:
        self.should_exit = True
        self._ending.set()

    async def main_loop(self) -> None:
        tenths = 0
        while not await self.on_tick(tenths):  # which makes the `Date` header anew each ten tenths
            tenths = (tenths + 10) % 864_000
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._ending.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Process(Generic[T]):
    """One running process. `start` functions of services get it, add checks and cleanups, and return when they run."""

    def __init__(self, service: str, settings: T, client: Client) -> None:
        self.service: Final = service
        self.settings: Final = settings
        self.client: Final = client
        self.registry: Final = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.metrics: Final = ProcessMetrics(self.registry, service)
        self.measures: Final[list[Callable[[], None]]] = [self._measure_nats]
        """Called before metrics are told: for what need not be counted as it happens."""
        self.checks: Final[dict[str, Check]] = {"nats": self._nats_ready}
        self.stopping: Final = asyncio.Event()
        self.reconnected: Final[list[Callable[[], None]]] = []
        self._server: QuietServer | None = None
        self._serving: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._began: Final = time.time()

    def _measure_nats(self) -> None:
        self.metrics.nats_connected.set(self.client.is_connected)
        self.metrics.nats_certificate.set(_certificate_end(self.client))

    def watch_loop(self) -> None:
        """Measures from now on how late the loop is."""
        self._watching = asyncio.create_task(self._watch_loop(), name="loop")

    async def _watch_loop(self) -> None:
        while True:
            due = time.perf_counter() + LOOK_AT_LOOP_EVERY
            await asyncio.sleep(LOOK_AT_LOOP_EVERY)
            self.metrics.loop_delay.observe(max(0.0, time.perf_counter() - due))

    async def _nats_ready(self) -> str:
        return "" if self.client.is_connected else "not connected"

    def ops_routes(self) -> list[Route]:
        return [
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
            Route("/metrics", self._metrics),
        ]

    async def _healthz(self, _: Request) -> Response:
        return JSONResponse(
            {"status": "alive", "service": self.service, "uptime": round(time.time() - self._began, 1)}
        )

    async def _readyz(self, request: Request) -> Response:
        """`?exclude=NAME` leaves a check out: who balances load must not send everybody away for what all share."""
        excluded = request.query_params.getlist("exclude")
        checks = {name: check for name, check in self.checks.items() if name not in excluded}
        found = await asyncio.gather(*map(_fault, checks.values()))
        faults = {name: fault for name, fault in zip(checks, found, strict=True) if fault}
        if self.stopping.is_set():
            faults["process"] = "draining"
        body = {
            "status": "not ready" if faults else "ready",
            "service": self.service,
            "instance": self.settings.instance,
            "checks": {name: faults.get(name, "ok") for name in (*checks, *faults)},
        }
        return JSONResponse(body, 503 if faults else 200)

    async def _metrics(self, _: Request) -> Response:
        for measure in self.measures:
            measure()
        return Response(generate_latest(self.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def serve(self, app: ASGIApp | None = None, **options: Any) -> None:
        """Listens on the HTTP port. Raises `OSError` when that cannot be."""
        config = uvicorn.Config(
            app or Starlette(routes=self.ops_routes()),
            host=self.settings.http_host,
            port=self.settings.http_port,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            **options,
        )
        self._server = QuietServer(config)
        self._serving = asyncio.create_task(_serve(self._server), name="http")
        while not self._server.started:
            if self._serving.done():
                raise OSError(
                    f"cannot listen on {config.host}:{config.port} (ROUNDTABLE_HTTP_HOST, ROUNDTABLE_HTTP_PORT)"
                )
            await asyncio.sleep(0.005)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        log.info("http.listening", host=config.host, port=port)

    async def stop_serving(self) -> None:
        if self._server is not None and self._serving is not None:
            self._server.end()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._serving), 3)
            if not self._serving.done():
                self._server.force_exit = True
                await self._serving


def _certificate_end(client: Client) -> float:
    """When the server's certificate ends (Unix time); 0 where there is none."""
    writer = getattr(client._transport, "_io_writer", None)
    shown = writer.get_extra_info("peercert") if writer is not None else None
    return float(ssl.cert_time_to_seconds(shown["notAfter"])) if shown else 0.0


async def _fault(check: Check) -> str:
    try:
        return await check()
    except Exception as error:  # noqa: BLE001 - a check that fails is no yes
        return repr(error)


async def _serve(server: QuietServer) -> None:
    with contextlib.suppress(SystemExit):  # uvicorn's way to say that the port is taken
        await server.serve()


async def _provisioned(process: Process[Any]) -> None:
    """Streams and buckets are there: by our own hand where we may, else by waiting for whoever may."""
    deadline = time.monotonic() + process.settings.start_timeout
    failures = 0
    while True:
        try:
            if process.settings.provision:
                try:
                    await provision.provision(process.client, process.settings)
                except nats.errors.Error:
                    failures += 1
                    if failures < OWN_TRIES:
                        raise  # the server may only be busy
            await provision.epochs(process.client)
            return
        except (TimeoutError, nats.errors.Error) as error:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the streams are not there: {error!r}") from None
            log.warning("provision.waiting", error=repr(error))
            await asyncio.sleep(0.5)


Start = Callable[[Process[T]], Awaitable[Callable[[], Awaitable[None]]]]
"""Starts a service and returns what stops it."""


def _call(hooks: list[Callable[[], None]]) -> None:
    for hook in hooks:
        hook()


async def _run(service: str, settings: T, start: Start[T], echo: bool) -> int:
    log.configure(service, settings.instance, settings.log_level)
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    hooks: list[Callable[[], None]] = []
    process: Process[T] | None = None
    lost = False

    def on_closed() -> None:
        nonlocal lost
        if not stopping.is_set():
            lost = True
            log.error("nats.closed")
            stopping.set()

    async def begin() -> Callable[[], Awaitable[None]]:
        nonlocal hooks, process
        client = await connect(settings, service, lambda: _call(hooks), on_closed, echo=echo)
        process = Process(service, settings, client)
        hooks = process.reconnected
        hooks.append(process.metrics.nats_reconnects.inc)
        process.watch_loop()
        await _provisioned(process)
        return await start(process)

    try:
        stop = await _unless(stopping, begin())
        if stop is not None and process is not None:
            url = process.client.connected_url
            _leave_the_old_alone()
            log.info("started", nats=_public(url.netloc) if url else "")
            await stopping.wait()
            log.info("stopping")
            process.stopping.set()
            await stop()
    except (TimeoutError, OSError, nats.errors.Error, ConfigError) as error:
        log.error("start.failed" if not stopping.is_set() else "stop.failed", error=str(error) or repr(error))
        return 2 if isinstance(error, ConfigError) else 1
    finally:
        stopping.set()
        if process is not None:
            await process.stop_serving()
            with contextlib.suppress(OSError):
                await process.client.close()
        await _end_tasks()
    log.info("stopped")
    return 1 if lost else 0


def _leave_the_old_alone() -> None:
    """What lives as long as the process is looked at no more by the garbage collector: that took 3 % of a busy gateway."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_AFTER, 20, 20)


async def _end_tasks() -> None:
    """Cancels what still runs until it has ended: `asyncio.wait_for` of Python 3.11, inside nats-py, may swallow one."""
    for _ in range(20):
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        if not tasks:
            return
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=0.1)
    log.warning("tasks.left", tasks=[task.get_name() for task in asyncio.all_tasks()])


R = TypeVar("R")


async def _unless(stopping: asyncio.Event, work: Awaitable[R]) -> R | None:
    """The work's result, or None when the process is told to stop before it is there."""
    task = asyncio.ensure_future(work)
    stopped = asyncio.ensure_future(stopping.wait())
    await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await end(stopped)
        return task.result()
    await end(task, stopped)
    return None


def main(service: str, kind: type[T], start: Start[T], *, echo: bool = True) -> None:
    """A service's `__main__`: exit status 0 after a clean end, 1 when it could not start, 2 for a wrong environment."""
    try:
        settings = load(kind)
    except ConfigError as error:
        print(f"roundtable {service}: {error}", file=sys.stderr)
        sys.exit(2)
    try:
        import uvloop
    except ImportError:  # not on every platform
        sys.exit(asyncio.run(_run(service, settings, start, echo)))
    sys.exit(uvloop.run(_run(service, settings, start, echo)))
