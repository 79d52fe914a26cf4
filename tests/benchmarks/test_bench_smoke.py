"""``make bench`` works: every row of a short run has its figure, and a client that cheats is found out."""

from __future__ import annotations

import asyncio
import http.client
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.client import Client, Tools  # noqa: E402 - the benchmarks are not installed
from benchmarks.figures import GROUPS, Goal, plan  # noqa: E402
from benchmarks.processes import model_server  # noqa: E402
from benchmarks.registry import OURS, WIRES  # noqa: E402
from benchmarks.replies import Script, script_of  # noqa: E402
from benchmarks.scenarios import SCENARIOS, Wrong  # noqa: E402

ROWS = [row.name for row in (*OURS, *WIRES)]


def test_a_short_run_reports_every_row_without_an_error(tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    command = ["-m", "benchmarks", "--quick", "--only", "step", "--steps", "3", "--output", str(output)]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=50)

    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(output.read_text())
    assert list(report["rows"]) == ROWS
    for name, row in report["rows"].items():
        assert row["errors"] == {}, name
        assert row["medians"]["step@3"] > 0, name
    head, _, line = done.stdout.splitlines()[:3]
    assert [cell.strip() for cell in head.split("|")][3 : 3 + len(ROWS)] == ROWS
    assert "CPU of a tool step, run of 3" in line


class Lazy(Client):
    """Says what the script says without calling any tool."""

    def agent(self, base_url: str, tools: Any) -> Script:
        return script_of(base_url.removeprefix("http://127.0.0.1:1") + "/chat/completions")

    async def run(self, agent: Script, prompt: str) -> str:
        return agent.text


async def test_a_run_that_calls_no_tools_is_an_error() -> None:
    with pytest.raises(Wrong, match="0 tool calls ran, the script makes 3"):
        await SCENARIOS["step"](Lazy(), "http://127.0.0.1:1", steps=[3], batches=1)


def test_a_client_that_does_not_work_is_an_error_with_its_reason(tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    command = ["-m", "benchmarks", "--quick", "--only", "concurrent", "--clients", "floor_raw"]
    # Too few open files for the runs that are asked for.
    limited = f"ulimit -n 64; exec {sys.executable} {' '.join(command)} --output {output}"
    done = subprocess.run(["sh", "-c", limited], cwd=ROOT, capture_output=True, text=True, timeout=50)

    assert done.returncode == 1
    assert "| err |" in done.stdout
    assert "too few for 200 runs at once" in done.stdout
    assert "too few" in json.loads(output.read_text())["rows"]["floor_raw"]["errors"]["concurrent_wall"]


def test_every_group_has_a_scenario() -> None:
    assert {job.scenario for job in plan(quick=True)} == {*SCENARIOS, "import"}
    assert "durable" in GROUPS


def test_a_goal_is_judged_against_the_floor_of_the_same_run() -> None:
    goal = Goal(2, "floor_aiohttp")
    assert goal.met(1.9, {"floor_aiohttp": 1.0}) is True
    assert goal.met(2.1, {"floor_aiohttp": 1.0}) is False
    assert goal.met(2.1, {}) is None


async def test_the_server_follows_the_script_and_keeps_no_state() -> None:
    script = Script(steps=2, calls=2, tokens=3)
    assert script_of(script.path + "/chat/completions") == script

    def ask(url: str, results: int) -> dict[str, Any]:
        body = json.dumps({"stream": False, "messages": [{"role": "tool"}] * results})
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=5)
        connection.request("POST", f"{script.path}/chat/completions", body)
        choice: dict[str, Any] = json.loads(connection.getresponse().read())["choices"][0]
        connection.close()
        return choice

    with model_server() as server:
        for results, reason in ((0, "tool_calls"), (4, "stop"), (2, "tool_calls"), (4, "stop")):
            choice = await asyncio.to_thread(ask, server.url, results)
            assert choice["finish_reason"] == reason
        assert choice["message"]["content"] == " word0000 word0001 word0002"


def test_tools_count_only_what_ran() -> None:
    tools = Tools()
    assert tools.add()(2, 3) == 5
    assert tools.executed == 1
