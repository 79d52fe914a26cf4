"""Connections are shared by all agents of an event loop, and left behind by none of them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from loom.agent import Agent
from loom.config.model import Model
from loom.llm.http import LINGER_SECONDS, _held
from loom.llm.openai_compat import OpenAICompatibleProvider
from loom.testing.model_server import ModelServer
from loom.types import ChatMessage, ChatResponse, Role

HELLO = [ChatMessage(Role.USER, "Hello")]

pytestmark = pytest.mark.timeout(30)


class Skewed(asyncio.SelectorEventLoop):
    """A loop whose clock can be put forward."""

    skew = 0.0

    def time(self) -> float:
        return super().time() + self.skew


@asynccontextmanager
async def counting(target: str) -> AsyncIterator[tuple[str, list[int]]]:
    """A relay to ``target``, and a number for each connection that was made through it."""
    host, port = target.split("/")[2].split(":")
    made: list[int] = []
    work: list[asyncio.Task[None]] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()
        await writer.wait_closed()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.append(len(made))
        there, back = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pump(there, writer), pump(reader, back))

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        work.append(asyncio.create_task(relay(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server:
        yield target.replace(port, str(server.sockets[0].getsockname()[1])), made
    await asyncio.gather(*work)


def model(url: str) -> Model:
    return Model.compatible("m", base_url=url)


async def ask(url: str) -> None:
    agent: Agent[Any, Any] = Agent(model=model(url))
    assert (await agent.run("go")).output == "ok"
    await agent.aclose()


async def test_agents_that_come_and_go_share_a_connection() -> None:
    async with ModelServer(["ok"] * 20) as server, counting(server.base_url) as (url, made):
        for _ in range(20):
            await ask(url)
        assert len(made) == 2, "the first was closed with its only agent, the second is kept for a moment"
        loop = asyncio.get_running_loop()
        session = _held[loop].session
        assert not session.closed
        await _held[loop].guard.aclose()
        assert session.closed


async def test_the_last_agent_of_a_quiet_loop_closes_its_connection_at_once() -> None:
    async with ModelServer(["ok"]) as server:
        await ask(server.base_url)
        assert asyncio.get_running_loop() not in _held


def test_a_session_nobody_uses_is_closed_after_a_moment() -> None:
    async def main(loop: Skewed) -> None:
        async with ModelServer(["ok"] * 4) as server:
            await ask(server.base_url)
            await ask(server.base_url)
            held = _held[loop]
            loop.skew += LINGER_SECONDS * 0.75
            await ask(server.base_url)
            loop.skew += LINGER_SECONDS * 0.75
            await turns()
            assert not held.session.closed, "its last user has only just left"
            loop.skew += LINGER_SECONDS
            await turns()
            assert loop not in _held
            assert held.farewell is not None
            await held.farewell
            assert held.session.closed
            await ask(server.base_url)
            assert _held[loop] is not held

    with asyncio.Runner(loop_factory=Skewed) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, Skewed)
        runner.run(main(loop))
    assert loop not in _held


def test_a_session_in_use_is_not_closed_when_its_moment_is_over() -> None:
    async def main(loop: Skewed) -> None:
        async with ModelServer(["ok"] * 4) as server:
            await ask(server.base_url)
            await ask(server.base_url)
            provider = OpenAICompatibleProvider(server.base_url)
            await provider.chat(HELLO)
            held = _held[loop]
            loop.skew += LINGER_SECONDS * 2
            await turns()
            assert _held[loop] is held
            await provider.aclose()
            assert held.expiry is not None, "from here on its moment runs again"

    with asyncio.Runner(loop_factory=Skewed) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, Skewed)
        runner.run(main(loop))


async def turns() -> None:
    """A few turns of the loop, in which timers that are due go off."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_one_that_closes_does_not_break_the_requests_of_another() -> None:
    async with ModelServer(["first", "a text of many words"], chunk=2) as server:
        one, two = OpenAICompatibleProvider(server.base_url), OpenAICompatibleProvider(server.base_url)
        await one.chat(HELLO)
        pieces: list[Any] = []
        async for event in two.chat_stream(HELLO):
            pieces.append(event)
            await one.aclose()
        assert isinstance(pieces[-1], ChatResponse)
        assert pieces[-1].message.content == "a text of many words"
        await two.aclose()


def test_one_agent_in_one_loop_after_another() -> None:
    with ModelServer.in_thread(["ok"] * 6) as server:
        agent: Agent[Any, Any] = Agent(model=model(server.base_url))

        async def go(close: bool) -> str:
            said = (await agent.run("go")).output
            if close:
                await agent.aclose()
            return said

        assert [asyncio.run(go(close)) for close in (False, True, True, False)] == ["ok"] * 4


def test_one_agent_in_two_loops_at_once() -> None:
    with ModelServer.in_thread(["ok"] * 8) as server:
        agent: Agent[Any, Any] = Agent(
            model=Model.compatible("m", base_url=server.base_url, max_concurrent=2)
        )
        said: list[str] = []
        together = threading.Barrier(2)

        async def go() -> None:
            for _ in range(4):
                together.wait()
                said.append((await agent.run("go")).output)

        threads = [threading.Thread(target=lambda: asyncio.run(go())) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert said == ["ok"] * 8


ENDINGS = {
    "a lingering session": "asyncio.run(several())",
    "two loops": "asyncio.run(several()); asyncio.run(several())",
    "closed in another loop": "asyncio.run(provider.chat(hello)); asyncio.run(provider.aclose())",
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS.keys())
def test_nothing_is_left_open(ending: str) -> None:
    script = f"""
        import asyncio, gc, sys
        from loom.llm.openai_compat import OpenAICompatibleProvider
        from loom.types import ChatMessage, Role
        hello = [ChatMessage(Role.USER, "Hello")]
        provider = OpenAICompatibleProvider(sys.argv[1])
        async def several():
            for _ in range(3):
                async with OpenAICompatibleProvider(sys.argv[1]) as one:
                    await one.chat(hello)
        {ending}
        gc.collect()
    """
    with ModelServer.in_thread(["ok"] * 6) as server:
        command = [sys.executable, "-W", "always", "-c", textwrap.dedent(script), server.base_url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
