"""The logs saved, the whole store lost, the logs restored: what clients find when they come back (RS3)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import nats
import pytest
from nats.js.errors import KeyNotFoundError

from roundtable.common import subjects
from roundtable.common.testing.forms import Players, until
from roundtable.common.testing.system import SERVICES, System, system


def backup(table: System, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, as an operator runs it."""
    return subprocess.run(
        [sys.executable, "-m", "roundtable.common.backup", *arguments],
        env=table.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def feed(players: Players) -> list[tuple[str, str, int]]:
    """What a newcomer finds there of others: type, user and time."""
    reader = await players("reader", "spectator")
    found = (await reader.request("activity.list", {"limit": 200}))["activities"]
    await reader.close()
    return [(each["type"], each["userId"], each["timestamp"]) for each in found if each["userId"] != "reader"]


@pytest.mark.rule("RS3")
async def test_after_a_restored_backup_clients_get_snapshots_and_never_a_part(tmp_path: Path) -> None:
    async with system(gateways=2) as table:
        players = Players(table, "den", "websocket-json")
        ann = await players("ann")
        await ann.draw("saved")

        async def joined() -> bool:
            return bool(await feed(players))

        await until(joined)
        told_before = await feed(players)
        saved = backup(table, "save", str(tmp_path))
        assert saved.returncode == 0, saved.stderr
        before = ann.cursor
        await ann.draw("lost")
        await ann.event("canvas.draw")
        await ann.event("canvas.draw")
        lost = ann.cursor
        assert lost != before

        # The whole store is lost. Gateways go on running; services are stopped for the restoration.
        for service in SERVICES:
            for program in table.of(service):
                await program.end()
        await table.nats.kill()
        shutil.rmtree(table.nats.home / "store")
        await table.nats.start()
        restored = backup(table, "restore", str(tmp_path))
        assert restored.returncode == 0, restored.stderr
        for service in SERVICES:
            for program in table.of(service):
                program.start()
        for program in table.programs:
            await program.ready(within=40)
        await ann.close_code()

        # Whoever writes first takes the sequences of what was lost; whoever has seen that must not go on from there.
        bob = await players("bob", at=1)
        state = await bob.request("canvas.state")
        assert [each["id"] for each in state["operations"]] == ["saved"]
        for number in range(5):
            await bob.draw(f"new{number}")
        for cursor in (before, lost):
            back = players.new("ann")
            await back.connect(cursor)
            assert not back.welcome["recovered"]
            shown = await back.snapshots()
            assert [each["id"] for each in shown["canvas"]] == ["saved", *(f"new{n}" for n in range(5))]
            await back.close()
        # A cursor of the restored log is as good as any.
        again = await players("carl", at=1)
        cursor = again.cursor
        await again.close()
        await bob.draw("later")
        returned = players.new("carl", at=0)
        await returned.connect(cursor)
        assert returned.welcome["recovered"]
        await returned.close()
        # The feed follows on: nothing of before is told twice.
        told = await feed(players)
        assert told[: len(told_before)] == told_before
        assert len(told) == len(set(told))
        await players.leave()


async def test_a_restoration_touches_nothing_that_is_there_unless_told_to(tmp_path: Path) -> None:
    async with system() as table:
        players = Players(table, "den", "websocket-json")
        ann = await players("ann")
        await ann.draw("one")
        assert backup(table, "save", str(tmp_path)).returncode == 0
        await ann.draw("two")
        refused = backup(table, "restore", str(tmp_path))
        assert refused.returncode == 1
        assert "--replace" in refused.stderr
        assert [each["id"] for each in (await ann.request("canvas.state"))["operations"]] == ["one", "two"]
        await players.leave()
        for program in table.programs:
            await program.end()
        client = await nats.connect(table.nats.url)
        snapshots = await client.jetstream().key_value(subjects.snapshot_bucket("canvas"))
        await snapshots.put("den", b"of what is gone")
        assert backup(table, "restore", str(tmp_path), "--replace").returncode == 0
        with pytest.raises(KeyNotFoundError):
            await snapshots.get("den")
        await client.close()
        for program in table.programs:
            program.start()
        for program in table.programs:
            await program.ready(within=40)
        ann = await players("ann")
        assert [each["id"] for each in (await ann.request("canvas.state"))["operations"]] == ["one"]
        await players.leave()


async def test_a_folder_without_a_backup_and_a_wrong_word_are_refused_by_name(tmp_path: Path) -> None:
    async with system() as table:
        missing = backup(table, "restore", str(tmp_path), "--replace")
        assert missing.returncode == 1
        assert "holds no ACTIVITY, CANVAS, PRESENCE, KV_rt_sessions" in missing.stderr
        assert backup(table, "destroy", str(tmp_path)).returncode == 2
        for program in table.programs:  # all as before
            assert await program.status("/readyz") == 200
