"""Starts the activity service: `python -m roundtable.activity`."""

from __future__ import annotations

from typing import Any, Final

from roundtable.common.command_client import CommandClient
from roundtable.common.command_handler import CommandHandler
from roundtable.common.command_service import CommandService
from roundtable.common.domain_service import Stop, start_domain
from roundtable.common.runtime import Process, main
from roundtable.common.schema.log import CommandMessage, ReplyMessage

from .config import ActivitySettings
from .follow import start_following
from .service import ActivityDomain

FOLLOWING_PARTITION: Final = 0
"""Its owner is the replica that follows the other logs."""


async def follow(
    process: Process[ActivitySettings], _: CommandHandler[Any, Any, Any], service: CommandService
) -> Stop:
    """What happens in the other logs goes to each room's owner, as any command does."""
    commands = CommandClient(process.client)
    await commands.start()

    async def execute(room: str, command: CommandMessage) -> ReplyMessage:
        return await commands.request("activity", room, command)

    def active() -> bool:
        return FOLLOWING_PARTITION in service.membership.owned

    return start_following(process.client, execute, process.registry, active)


async def start(process: Process[ActivitySettings]) -> Stop:
    return await start_domain(process, ActivityDomain(), follow)


if __name__ == "__main__":
    main("activity", ActivitySettings, start)
