"""A fuzzer for all that reads what strangers send: frames, envelopes, cursors, tokens, dice. `make fuzz [SECONDS=60] [SEED=n]`.

Each target gets generated and mutated input for its time. It fails on an exception that is not the target's own refusal, on an
input that takes longer than `SLOW` seconds, and when the process keeps growing. The seed is printed, and repeats a run.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import random
import resource
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import jwt
import msgspec

from roundtable.activity import dice
from roundtable.common.cursor import Cursor
from roundtable.common.schema.basics import clean_name, clean_text
from roundtable.common.schema.envelope import decode_client, decode_params, params_as_json
from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.methods import METHODS
from roundtable.gateway.auth import Authenticator
from roundtable.gateway.frames import FrameError, FrameParser, negotiate_deflate, xor_mask
from roundtable.gateway.session import Session

SLOW: Final = 1.0
GROWTH_KB: Final = 32 * 1024
SECRET: Final = "a-secret-for-the-fuzzer-of-32-bytes!"
_TOKENS: Final = Authenticator(SECRET, None)


class Source:
    """Random input, partly made of what the formats know."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def noise(self, most: int = 300) -> bytes:
        return self.chance.randbytes(self.chance.randrange(most))

    def text(self, alphabet: str, most: int) -> str:
        return "".join(self.chance.choices(alphabet, k=self.chance.randrange(most)))

    def mutated(self, seed: bytes) -> bytes:
        data = bytearray(seed)
        for _ in range(self.chance.randrange(6)):
            at = self.chance.randrange(len(data) + 1)
            match self.chance.randrange(5):
                case 0:
                    data[at:at] = self.noise(8)
                case 1:
                    del data[at : at + self.chance.randrange(1, 12)]
                case 2 if data:
                    data[at % len(data)] ^= 1 << self.chance.randrange(8)
                case 3:
                    data[at:at] = data[: self.chance.randrange(64)]
                case _:
                    data[at:at] = self.chance.choice(
                        (b"[", b"{", b"\xff", b'"', b"\\ud800", b"1e999", b"-", b"\x00", b"\xc1")
                    )
        return bytes(data)

    def value(self, depth: int = 0) -> Any:
        kinds = 9 if depth < 4 else 6
        match self.chance.randrange(kinds):
            case 0:
                return None
            case 1:
                return self.chance.choice((True, False))
            case 2:
                return self.chance.choice((0, -1, 2**31, 2**63, -(2**63), self.chance.randrange(10**6)))
            case 3:
                return self.chance.choice(
                    (0.5, 1e308, -1e-308, 1_000_000.0, 1_000_000.1, self.chance.random())
                )
            case 4 | 5:
                words = (
                    "pen",
                    "draw",
                    "#fff",
                    "ann",
                    "all",
                    "mine",
                    "chat_message",
                    "",
                    "ä\u202e\x00",
                    "x" * 65,
                )
                return self.chance.choice(words)
            case 6:
                return [self.value(depth + 1) for _ in range(self.chance.randrange(4))]
            case _:
                names = (
                    "id",
                    "type",
                    "tool",
                    "points",
                    "x",
                    "y",
                    "color",
                    "size",
                    "operations",
                    "data",
                    "text",
                    "userId",
                    "to",
                )
                return {
                    self.chance.choice(names): self.value(depth + 1) for _ in range(self.chance.randrange(5))
                }


def frames(source: Source) -> None:
    parser = FrameParser(1_024, inflate=source.chance.random() < 0.5)
    for _ in range(source.chance.randrange(1, 5)):
        if source.chance.random() < 0.5:
            data = source.noise()
        else:
            payload, mask = source.noise(200), source.chance.randbytes(4)
            first = source.chance.choice((0x81, 0x82, 0x01, 0x80, 0x00, 0x88, 0x89, 0x8A, 0xC1, 0xC2, 0x41))
            head = bytes((first, 0x80 | min(len(payload), 125)))
            data = source.mutated(head + mask + xor_mask(payload[:125], mask))
        try:
            parser.feed(data)
        except FrameError:
            return
        assert parser.buffered <= 2_048
    negotiate_deflate(
        source.text('permessage-deflate;,= "client_max_window_bits0159server_no_context_takeover', 120)
    )


def envelopes(source: Source) -> None:
    fmt = source.chance.choice(("json", "msgpack"))
    method = source.chance.choice(tuple(METHODS))
    message: Any = {"type": "request", "id": "1", "method": method, "params": source.value()}
    if source.chance.random() < 0.2:
        message = [message, source.value()]
    packed = msgspec.msgpack.encode(message) if fmt == "msgpack" else msgspec.json.encode(message)
    data = source.mutated(packed)
    Session("c", "r", "websocket", None, "player", None).receive(data, fmt, 0, 0)  # type: ignore[arg-type]
    try:
        for each in decode_client(data, fmt):  # type: ignore[arg-type]
            if not isinstance(each, tuple) and each.method in METHODS:
                decode_params(each.params, METHODS[each.method].params, fmt)  # type: ignore[arg-type]
                json.loads(bytes(params_as_json(each.params, fmt)))  # type: ignore[arg-type]
    except Refusal:
        pass
    text = source.text("aä\u0301\u202e\x00\x07\n\t\r\ud7ff😀", 60)
    assert clean_text(clean_text(text)) == clean_text(text)
    assert 1 <= len(clean_name(text, "nobody")) <= 64


def cursors(source: Source) -> None:
    text = source.mutated(b"0a1b2c3d.120.4-7.9223372036854775807").decode("latin-1")
    with contextlib.suppress(ValueError):
        assert str(Cursor.parse(text)) == text


def tokens(source: Source) -> None:
    claims: dict[str, Any] = {"sub": "ann", "exp": 4_000_000_000, "room": "*", "role": "gm"}
    for _ in range(source.chance.randrange(3)):
        claims[
            source.chance.choice(("sub", "exp", "nbf", "iat", "room", "role", "rooms", "name", "aud", "sid"))
        ] = source.value()
    try:
        token = jwt.encode(claims, SECRET, "HS256", headers={"kid": str(source.value())})
    except (TypeError, ValueError):
        return
    if source.chance.random() < 0.6:
        token = source.mutated(token.encode()).decode("latin-1")
    try:
        _TOKENS.verify(token)
    except Refusal as refusal:
        if SECRET in refusal.message:
            raise ValueError("a refusal tells the secret") from refusal


def dices(source: Source) -> None:
    text = source.text("0123456789dd%kkhllroea!mi<>=+-*/()., advdis", 210)
    try:
        result = dice.roll(dice.parse(text), lambda sides: source.chance.randrange(sides) + 1)
    except Refusal:
        return
    assert len(result.dice) <= dice.MAX_DICE
    assert len(result.text) <= 4_000


TARGETS: Final[dict[str, Callable[[Source], None]]] = {
    "frames": frames,
    "envelopes": envelopes,
    "cursors": cursors,
    "tokens": tokens,
    "dice": dices,
}


def run(name: str, target: Callable[[Source], None], seconds: float, seed: int) -> bool:
    """True when nothing was found."""
    deadline, number, slowest, base = time.monotonic() + seconds, 0, 0.0, 0
    while time.monotonic() < deadline:
        began = time.process_time()  # of our own: other programs may have the machine meanwhile
        case = f"{seed}:{name}:{number}"
        try:
            target(Source(random.Random(case)))
        except Exception as error:
            print(f"{name}: case {case} broke it: {error!r}")
            raise
        took = time.process_time() - began
        slowest = max(slowest, took)
        if took > SLOW:
            print(f"{name}: case {case} took {took:.2f} s")
            return False
        number += 1
        if number == 20_000:
            gc.collect()
            base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base if base else 0
    print(f"{name}: {number} cases, the slowest {slowest * 1000:.1f} ms, {grown} KB grown")
    return grown < GROWTH_KB


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=60.0, help="for each target")
    arguments.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    arguments.add_argument("targets", nargs="*", help=f"of {', '.join(TARGETS)}; all if none is named")
    wanted = arguments.parse_args()
    print(f"seed {wanted.seed}")
    names = wanted.targets or list(TARGETS)
    clean = [run(name, TARGETS[name], wanted.seconds, wanted.seed) for name in names]
    return 0 if all(clean) else 1


if __name__ == "__main__":
    sys.exit(main())
