"""Shell layer: one pod as a kubelet runs it: volumes, probes, restarts, preStop and grace. Knows no other pod."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from . import manifests as k8s
from .podman import Podman, PodmanFailed

Note = Callable[[str], None]
"""Takes a line about what happened to a pod that nobody wanted to happen."""


class PodFailed(Exception):
    """The pod did not become what was waited for; the text holds the end of its log."""


class Pod:
    """`container` is podman's name for it, `home` a folder for its volumes; `data` holds what outlives the pod."""

    def __init__(
        self,
        podman: Podman,
        found: k8s.Manifests,
        workload: k8s.Workload,
        name: str,
        network: str,
        home: Path,
        note: Note,
    ) -> None:
        self.name: Final = name
        self.workload: Final = workload
        self.container: Final = f"{network}-{name}"
        self.address = ""
        self.ready = False
        self.restarts = 0
        self.status: int | None = None
        """Of a container that is not started again."""
        self.ended: Final = asyncio.Event()
        self._podman = podman
        self._manifests = found
        self._network = network
        self._home = home / name
        self._data = home / "data" / name
        self._note = note
        self._spec = workload.container
        self._changed = asyncio.Condition()
        self._started = False
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._pid = 0

    # -- beginning

    async def start(self) -> None:
        """Returns when the container runs; the pod becomes ready by its probes."""
        await self._podman(*self._run_arguments())
        await self._look()
        self._tasks = [
            asyncio.create_task(work(), name=f"{self.name}: {work.__name__}")
            for work in (self._watch, self._probe)
        ]

    def _run_arguments(self) -> list[str]:
        spec, pod = self._spec, self.workload.pod
        owner, security = pod.security_context, spec.security_context
        arguments = ["run", "--detach", "--name", self.container, "--hostname", self.name]
        arguments += ["--pull", "never", "--no-healthcheck", "--log-driver", "k8s-file"]
        arguments += ["--network", self._network]
        for alias in k8s.names_in(self._manifests, self.workload, self.name):
            arguments += ["--network-alias", alias]
        arguments += ["--user", f"{owner.run_as_user}:{owner.run_as_group}"]
        if security.read_only_root_filesystem:
            arguments += ["--read-only", "--read-only-tmpfs=false"]
        if not security.allow_privilege_escalation:
            arguments += ["--security-opt", "no-new-privileges"]
        arguments += [f"--cap-drop={capability}" for capability in security.capabilities.drop]
        if limit := spec.resources.limits.get("memory"):
            arguments += ["--memory", k8s.memory(limit)]
        for name, value in k8s.values(self._manifests, self.workload, self.name).items():
            arguments += ["--env", f"{name}={value}"]
        for mount in spec.volume_mounts:
            arguments += self._mount(mount)
        if spec.command:
            arguments += ["--entrypoint", spec.command[0]]
        return [*arguments, spec.image, *spec.command[1:], *spec.args]

    def _mount(self, mount: k8s.Mount) -> list[str]:
        claims = {claim.metadata.name for claim in self.workload.spec.volume_claim_templates}
        owner = self.workload.pod.security_context
        if mount.name in claims:
            folder = self._data / mount.name
            folder.mkdir(parents=True, exist_ok=True)
            os.chown(folder, owner.run_as_user, owner.fs_group)
            return ["--volume", f"{folder}:{mount.mount_path}"]
        volume = next(each for each in self.workload.pod.volumes if each.name == mount.name)
        content = k8s.files(self._manifests, volume)
        folder = self._home / mount.name
        folder.mkdir(parents=True, exist_ok=True)
        if content is None:  # as long as the pod, over its container's restarts
            folder.chmod(0o1777)
            return ["--volume", f"{folder}:{mount.mount_path}"]
        texts, mode = content
        for name, text in texts.items():
            path = folder / name
            path.write_text(text)
            os.chown(path, 0, owner.fs_group)
            path.chmod(mode)
        return ["--volume", f"{folder}:{mount.mount_path}:ro"]

    async def _look(self) -> None:
        state = await self._podman.inspect(self.container)
        self._pid = int(state["State"]["Pid"])
        networks = state["NetworkSettings"]["Networks"]
        self.address = networks[self._network]["IPAddress"]

    # -- what a kubelet does all the time

    async def _watch(self) -> None:
        """Starts the container again when it ends by itself, as the restart policy says."""
        pause = 0.0
        while True:
            began = time.monotonic()
            await _exit_of(self._pid)
            await self._set(ready=False, started=False)
            self.status = int(await self._podman("wait", self.container))
            if self._stopping or (self.workload.pod.restart_policy == "OnFailure" and self.status == 0):
                self.ended.set()
                return
            self.restarts += 1
            self._note(f"{self.name} ended with {self.status} and is started again")
            pause = 0.0 if time.monotonic() - began > 60 or not pause else min(2 * pause, 30.0)
            await asyncio.sleep(pause)
            pause = pause or 1.0
            await self._podman("start", self.container)
            await self._look()

    async def _probe(self) -> None:
        spec = self._spec
        while True:
            if spec.startup_probe is not None:
                await self._until_started(spec.startup_probe)
            await self._set(ready=spec.readiness_probe is None, started=True)
            probing = [
                asyncio.create_task(self._repeat(probe, act))
                for probe, act in (
                    (spec.readiness_probe, self._readiness),
                    (spec.liveness_probe, self._liveness),
                )
                if probe is not None
            ]
            try:
                async with self._changed:
                    await self._changed.wait_for(lambda: not self._started)
            finally:
                for task in probing:
                    task.cancel()
                await asyncio.gather(*probing, return_exceptions=True)

    async def _until_started(self, probe: k8s.Probe) -> None:
        await asyncio.sleep(probe.initial_delay_seconds)
        failures = 0
        while not await self._asked(probe):
            failures += 1
            if failures >= probe.failure_threshold:
                self._note(f"{self.name} was not started in time")
                await self._podman("kill", self.container, check=False)
                failures = 0
            await asyncio.sleep(probe.period_seconds)

    async def _repeat(self, probe: k8s.Probe, act: Callable[[bool], object]) -> None:
        await asyncio.sleep(probe.initial_delay_seconds)
        good = bad = 0
        while True:
            if await self._asked(probe):
                good, bad = good + 1, 0
            else:
                good, bad = 0, bad + 1
            if good >= probe.success_threshold or bad >= probe.failure_threshold:
                result = act(not bad)
                if asyncio.iscoroutine(result):
                    await result
            await asyncio.sleep(probe.period_seconds)

    async def _readiness(self, good: bool) -> None:
        if self.ready and not good and not self._stopping:
            self._note(f"{self.name} is not ready any more")
        await self._set(ready=good and not self._stopping, started=self._started)

    async def _liveness(self, good: bool) -> None:
        if not good and not self._stopping:
            self._note(f"{self.name} was found dead and is ended")
            await self._podman("kill", self.container, check=False)

    async def _asked(self, probe: k8s.Probe) -> bool:
        port = self._spec.port(probe.http_get.port)
        return 200 <= await get(self.address, port, probe.http_get.path, probe.timeout_seconds) < 400

    async def _set(self, *, ready: bool, started: bool) -> None:
        async with self._changed:
            self.ready, self._started = ready, started
            self._changed.notify_all()

    async def until_ready(self, within: float) -> None:
        try:
            async with asyncio.timeout(within), self._changed:
                await self._changed.wait_for(lambda: self.ready)
        except TimeoutError:
            raise PodFailed(
                f"{self.name} is not ready after {within:g} s:\n{(await self.log())[-3000:]}"
            ) from None

    async def until_done(self, within: float) -> None:
        """Of a Job's pod: until it has ended with status 0."""
        try:
            async with asyncio.timeout(within):
                await self.ended.wait()
        except TimeoutError:
            raise PodFailed(
                f"{self.name} is not done after {within:g} s:\n{(await self.log())[-3000:]}"
            ) from None

    async def log(self) -> str:
        return await self._podman.logs(self.container)

    # -- end

    async def kill(self) -> None:
        """As `kill -9` does, from outside: it is started again."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, 9)

    async def stop(self) -> float:
        """As a deletion does; returns the seconds that it took. Out of the Services at once, then preStop, SIGTERM, SIGKILL."""
        began = time.monotonic()
        grace = self.workload.pod.termination_grace_period_seconds
        self._stopping = True
        await self._set(ready=False, started=self._started)
        try:
            async with asyncio.timeout(grace):
                await self._pre_stop()
                await self._podman("kill", "--signal", "TERM", self.container, check=False)
                await self.ended.wait()
        except TimeoutError:
            self._note(f"{self.name} did not end within its grace of {grace:g} s")
            await self._podman("kill", self.container, check=False)
            await self.ended.wait()
        if self.status:
            self._note(f"{self.name} ended with {self.status}")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return time.monotonic() - began

    async def _pre_stop(self) -> None:
        hook = self._spec.lifecycle.pre_stop if self._spec.lifecycle is not None else None
        if hook is None:
            return
        if hook.sleep is not None:
            await asyncio.sleep(hook.sleep.seconds)
        if hook.exec is not None:
            try:
                await self._podman("exec", self.container, *hook.exec.command)
            except PodmanFailed as error:
                self._note(f"{self.name}: preStop failed: {error}")

    async def abandon(self) -> None:
        """Ends our tasks; the container is removed by others."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _exit_of(pid: int) -> None:
    """Returns when that process has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(handle, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)


async def get(host: str, port: int, path: str, within: float) -> int:
    """The status of a plain GET; 0 when nobody answers in time."""
    try:
        async with asyncio.timeout(within):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                return int((await reader.readline()).split()[1])
            finally:
                writer.close()
    except (OSError, TimeoutError, IndexError, ValueError):
        return 0
