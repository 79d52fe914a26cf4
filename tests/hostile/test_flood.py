"""Many spoilt streams over real sockets, and what they cost the event loop (``make fuzz``).

Nothing here asserts a time: the worst lag of the loop is printed, and docs/performance.md keeps what was measured.
"""

from __future__ import annotations

import asyncio
import gc
import random
import resource
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from clients import CLIENTS, outcome
from conversation import BY_NAME
from mutations import mutated
from raw_server import Reply, http, raw_server_apart
from runs import check_sound, hostile_run

from loom.errors import LoomError
from loom.llm.limits import Allowance
from loom.testing.scripted import say
from loom.types import ChatResponse, ToolCall

pytestmark = pytest.mark.fuzz
WIRES = sorted(CLIENTS)
STREAMS = 5000
AT_ONCE = 20
ALLOWED_GROWTH = 30_000_000
UNDETERRED = Allowance(open_after=None)


class Lag:
    """The longest the event loop kept a task waiting, in milliseconds."""

    def __init__(self) -> None:
        self.worst = 0.0

    async def watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + 0.005
            await asyncio.sleep(0.005)
            self.worst = max(self.worst, (loop.time() - due) * 1000)


@asynccontextmanager
async def watched() -> AsyncGenerator[Lag]:
    lag = Lag()
    task = asyncio.create_task(lag.watch())
    try:
        yield lag
        await asyncio.sleep(0.02)  # what kept the loop last is only seen after it
    finally:
        task.cancel()


@pytest.mark.parametrize("wire", WIRES)
async def test_a_flood_of_spoilt_streams(wire: str, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = iter(range(STREAMS))
    ended: dict[str, int] = {}

    def spoilt(request: bytes) -> Reply:
        seed = next(numbers)
        server.requests.clear()  # or they would be what grows
        ends = random.Random(seed).choice(["close"] * 8 + ["reset", "stall"])
        return http(mutated(wire, seed), ends=ends)

    with raw_server_apart(spoilt) as server:
        async with CLIENTS[wire](server.url, timeout=0.3, allowance=UNDETERRED) as provider:

            async def ask(times: int) -> None:
                for _ in range(times):
                    got = await outcome(provider, streamed=True)
                    kind = type(got).__name__
                    ended[kind] = ended.get(kind, 0) + 1
                    assert isinstance(got, ChatResponse | LoomError)

            await ask(50)  # what is imported, compiled and cached once is not what grows
            before = resident()
            async with watched() as lag:
                await asyncio.gather(*(ask((STREAMS - 50) // AT_ONCE) for _ in range(AT_ONCE)))
            gc.collect()
            grown = resident() - before
    assert grown < ALLOWED_GROWTH
    with capsys.disabled():
        print(f"\n{wire}: {ended}, worst lag {lag.worst:.0f} ms, grown by {grown // 1024} KiB")


def resident() -> int:
    """The memory this process has, in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


HEAVY = {
    "arguments of ten megabytes": '{"a":1,"b":"' + "x" * 10_000_000 + '"}',
    "a million keys": "{" + ",".join(f'"k{n}":{n}' for n in range(1_000_000)) + "}",
    "nested a million deep": '{"a":' * 1_000_000,
    "a million escapes": '{"a":"' + "\\u0041" * 1_000_000 + '"}',
}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("heavy", HEAVY, ids=HEAVY)
async def test_heavy_arguments(wire: str, heavy: str, capsys: pytest.CaptureFixture[str]) -> None:
    body = b"".join(BY_NAME[wire].stream(say("", ToolCall("call_1", "add", HEAVY[heavy])), 1, 4000))
    replies = [b"".join(BY_NAME[wire].stream(say("Hello"), 1, None)), body]  # the first warms up
    with raw_server_apart(lambda _: http(replies.pop(0))) as server:
        async with CLIENTS[wire](server.url) as provider:
            await outcome(provider, streamed=True)
            async with watched() as lag:
                got = await outcome(provider, streamed=True)
    run = await hostile_run(wire, body, streamed=True)
    check_sound(run, wire)
    assert run.ran == []
    with capsys.disabled():
        print(f"\n{wire}: {heavy}: {type(got).__name__}; worst lag {lag.worst:.0f} ms")
