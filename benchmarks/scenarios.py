"""What is measured: one function for each scenario, run in a process of its own with one client.

Each returns its figures by name, in the unit ``figures.py`` says. A scenario whose tools did not run exactly
as often as the script says, or whose text is not the script's, raises ``Wrong`` and counts as an error. Every
scenario first makes one run that is not measured, so that late imports, schemas and the connection are not
taken for the cost of a step; what they cost is in the figures for import and first use.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from itertools import pairwise
from typing import Any

from .client import PROMPT, Client, Tools, Turn
from .descriptors import raise_descriptor_limit
from .meter import holding, peak_rss, spending
from .replies import Script

Figures = dict[str, float]


class Wrong(Exception):
    """The client did not do what the script says."""


async def step(
    client: Client, server: str, steps: list[int], batches: int, is_async: bool = False
) -> Figures:
    """CPU of one tool step, in milliseconds, in runs of each of these lengths.

    The tool is a plain function, as most are written, or an ``is_async`` one. A library that may not block
    the event loop runs the plain one in a thread; the loops by hand know that it is quick and just call it.
    Lengths take turns and each counts with the median of its batches, so that their ratio means something on
    a noisy machine.
    """
    tools = Tools()
    tool = client.tool(tools.async_add() if is_async else tools.add())
    agents = {count: client.agent(server + Script(count).path, [tool]) for count in steps}
    for count, agent in agents.items():
        await _checked_run(client, agent, tools, Script(count))
    costs: dict[int, list[float]] = {count: [] for count in steps}
    for _ in range(batches):
        for count, agent in agents.items():
            runs = max(1, 200 // count)
            with spending() as spent:
                for _ in range(runs):
                    await _checked_run(client, agent, tools, Script(count))
            costs[count].append(spent.cpu * 1000 / (runs * count))
    name = "step_async" if is_async else "step"
    return {f"{name}@{count}": statistics.median(values) for count, values in costs.items()}


async def construct(client: Client, server: str, count: int) -> Figures:
    """Time and memory of building one agent with one tool, and of getting it ready for its first run."""
    function, url = client.tool(Tools().add()), server + Script().path
    client.ready(client.agent(url, [function]))
    with spending() as spent:
        agents = [client.agent(url, [function]) for _ in range(count)]
    with spending() as first_use:
        for agent in agents:
            client.ready(agent)
    del agents
    with holding(traced=True) as held:
        agents = [client.agent(url, [function]) for _ in range(count)]
    with holding(traced=True) as held_ready:
        for agent in agents:
            client.ready(agent)
    return {
        "construct": spent.cpu * 1e6 / count,
        "construct_kb": held.traced / 1000 / count,
        "first_use": (spent.cpu + first_use.cpu) * 1e6 / count,
        "first_use_kb": (held.traced + held_ready.traced) / 1000 / count,
    }


async def per_request(client: Client, server: str, count: int, batches: int) -> Figures:
    """CPU of a run, in milliseconds: ``count`` runs of one agent, and of as many agents around the same tool.

    The second is how web services do it: they build an agent for a request and let go of it. The two take turns
    and each counts with its median.
    """
    tools, script = Tools(), Script()
    tool, url = client.tool(tools.add()), server + script.path
    agent = client.agent(url, [tool])
    await _checked_run(client, agent, tools, script)
    costs: dict[str, list[float]] = {"run_shared": [], "run_own": []}
    for _ in range(batches):
        with spending() as spent:
            for _ in range(count):
                await _checked_run(client, agent, tools, script)
        costs["run_shared"].append(spent.cpu * 1000 / count)
        await client.close(agent)
        with spending() as spent:
            for _ in range(count):
                agent = client.agent(url, [tool])
                await _checked_run(client, agent, tools, script)
                await client.close(agent)
        costs["run_own"].append(spent.cpu * 1000 / count)
    return {name: statistics.median(values) for name, values in costs.items()}


async def parallel(client: Client, server: str, calls: int, repeats: int) -> Figures:
    """Wall time of a run with ``calls`` calls of 50 ms in one reply, in milliseconds."""
    figures: Figures = {}
    for figure, name in (("parallel", "wait"), ("parallel_blocking", "block")):
        tools, script = Tools(), Script(steps=1, calls=calls, tool=name)
        agent = client.agent(server + script.path, [client.tool(getattr(tools, name)(), together=True)])
        walls: list[float] = []
        for _ in range(repeats + 1):
            with spending() as spent:
                await _checked_run(client, agent, tools, script)
            walls.append(spent.wall * 1000)
        figures[figure] = statistics.median(walls[1:])
    return figures


async def concurrent(client: Client, server: str, runs: int, steps: int, delay: int) -> Figures:
    """``runs`` runs at once: wall seconds, CPU milliseconds a step, peak memory in megabytes."""
    allowed = raise_descriptor_limit()
    if allowed < runs + 50:
        raise Wrong(f"this system allows {allowed} open files, too few for {runs} runs at once")
    tools, script = Tools(), Script(steps=steps, delay=delay)
    agent = client.agent(server + script.path, [client.tool(tools.add())])
    await _checked_run(client, agent, tools, script)
    tools.executed = 0
    with spending() as spent:
        texts = await asyncio.gather(*(client.run(agent, PROMPT) for _ in range(runs)))
    for text in texts:
        _check_text(text, script)
    _check_calls(tools.executed, runs * script.executed)
    return {
        "concurrent_wall": spent.wall,
        "concurrent_cpu": spent.cpu * 1000 / (runs * steps),
        "concurrent_mb": peak_rss() / 1e6,
    }


async def token(client: Client, server: str, burst: int, paced: int, repeats: int) -> Figures:
    """CPU of one streamed token in microseconds, in one burst and one a millisecond; time to the first."""
    figures: Figures = {}
    script = Script(tokens=burst)
    agent = client.agent(server + script.path, [client.tool(Tools().add())])
    await _checked_stream(client, agent, script)
    with spending() as spent:
        for _ in range(repeats):
            await _checked_stream(client, agent, script)
    figures["token"] = spent.cpu * 1e6 / (repeats * burst)
    script = Script(tokens=paced, pace=1000)
    agent = client.agent(server + script.path, [client.tool(Tools().add())])
    await _checked_stream(client, agent, script)
    with spending() as spent:
        firsts = [await _checked_stream(client, agent, script) for _ in range(repeats)]
    figures["token_paced"] = spent.cpu * 1e6 / (repeats * paced)
    figures["first_token"] = statistics.median(firsts) * 1000
    return figures


async def streams(client: Client, server: str, counts: list[int], tokens: int, delay: int) -> Figures:
    """CPU milliseconds of one stream among so many at once; none ends before the last has begun."""
    if (allowed := raise_descriptor_limit()) < max(counts) + 50:
        raise Wrong(f"this system allows {allowed} open files, too few for {max(counts)} streams at once")
    script = Script(tokens=tokens, delay=delay)
    agent = client.agent(server + script.path, [client.tool(Tools().add())])
    await _checked_stream(client, agent, script)
    figures: Figures = {}
    for count in counts:
        with spending() as spent:
            await asyncio.gather(*(_checked_stream(client, agent, script) for _ in range(count)))
        figures[f"streams@{count}"] = spent.cpu * 1000 / count
    return figures


async def durable(client: Client, server: str, turns: int, seconds: float) -> Figures:
    """A session kept in SQLite: CPU milliseconds of a turn, early and late; bytes a turn on disk.

    ``turn@100`` is the mean of the 20 turns around turn 100 (the last 20 at the end). Bytes are those of the
    database file after a checkpoint of its write-ahead log. After ``seconds`` no turn is begun; ``turns``
    says how many there were.
    """
    with tempfile.TemporaryDirectory() as folder:
        url, path = server + Script().path, os.path.join(folder, "session.db")
        async with client.session(url, os.path.join(folder, "warm-up.db")) as turn:
            await turn("Hello.")
        costs, sizes = await _talk(client.session(url, path), path, turns, seconds)
    figures: Figures = {"turns": float(len(costs))}
    for mark in sizes:
        first = min(mark - 10, turns - 20)
        if len(costs) >= first + 20:
            figures[f"turn@{mark}"] = statistics.fmean(costs[first : first + 20])
    for early, late in pairwise(sizes):
        figures[f"turn_bytes@{late}"] = (sizes[late] - sizes[early]) / (late - early)
    return figures


async def _talk(
    session: AbstractAsyncContextManager[Turn], path: str, turns: int, seconds: float
) -> tuple[list[float], dict[int, int]]:
    """The CPU milliseconds of each turn, and the size of the database after some of them."""
    costs: list[float] = []
    sizes: dict[int, int] = {}
    ends = time.perf_counter() + seconds
    async with session as turn:
        while len(costs) < turns and time.perf_counter() < ends:
            with spending() as spent:
                text = await turn(f"This is turn {len(costs) + 1:05d}.")
            costs.append(spent.cpu * 1000)
            _check_text(text, Script())
            if len(costs) in (10, 100, 1000):
                sizes[len(costs)] = _checkpointed_size(path)
    return costs, sizes


async def parked(client: Client, server: str, count: int, attached: bool) -> Figures:
    """Memory of one run that waits for a human, in KiB; ``attached``: one who was asked and thinks."""
    tools = Tools()
    function = client.tool(tools.add(), asks=True)
    url = server + Script(steps=1).path
    warm = await client.park(url, [function], 20, attached=attached)
    # Resident memory first: a process that has parked before has room to spare.
    with holding(traced=False) as held:
        kept = await client.park(url, [function], count, attached=attached)
    with holding(traced=True) as traced:
        again = await client.park(url, [function], count, attached=attached)
    _check_calls(tools.executed, 0)
    del warm, kept, again
    name = "parked_live" if attached else "parked"
    return {name: traced.traced / 1024 / count, f"{name}_rss": held.rss / 1024 / count}


SCENARIOS: dict[str, Callable[..., Awaitable[Figures]]] = {
    "step": step,
    "construct": construct,
    "parallel": parallel,
    "concurrent": concurrent,
    "token": token,
    "streams": streams,
    "durable": durable,
    "parked": parked,
    "per_request": per_request,
}


async def _checked_run(client: Client, agent: Any, tools: Tools, script: Script) -> None:
    before = tools.executed
    _check_text(await client.run(agent, PROMPT), script)
    _check_calls(tools.executed - before, script.executed)


async def _checked_stream(client: Client, agent: Any, script: Script) -> float:
    """Stream one run; seconds until its first piece of text."""
    began, first, pieces = time.perf_counter(), 0.0, 0
    text: list[str] = []
    async for piece in client.stream(agent, PROMPT):
        first = first or time.perf_counter() - began
        pieces += 1
        text.append(piece)
    _check_text("".join(text), script)
    if pieces != script.tokens:
        raise Wrong(f"streamed {pieces} pieces of text, the model sent {script.tokens}")
    return first


def _check_calls(executed: int, wanted: int) -> None:
    if executed != wanted:
        raise Wrong(f"{executed} tool calls ran, the script makes {wanted}")


def _check_text(text: str, script: Script) -> None:
    if text.strip() != script.text.strip():
        raise Wrong(f"the final text is {text[:60]!r}, the script says {script.text[:60]!r}")


def _checkpointed_size(path: str) -> int:
    database = sqlite3.connect(path)
    busy, _, _ = database.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
    database.close()
    if busy:
        raise Wrong("the write-ahead log could not be checkpointed while the session is open")
    return os.path.getsize(path)
