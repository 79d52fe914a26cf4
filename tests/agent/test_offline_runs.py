"""Runs of the offline model: what it cannot do is a failed run, and nobody gets it unasked without a warning."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest

from loom import Agent, FallbackModel, tool
from loom.testing import ScriptedProvider


async def test_review_d3_no_key_at_all_fails_as_offline_and_is_warned_of_once() -> None:
    environ = {key: value for key, value in os.environ.items() if not key.endswith(("_API_KEY", "_BASE_URL"))}
    environ["OLLAMA_BASE_URL"] = "http://127.0.0.1:9"
    code = (
        "from loom import Agent\n"
        "for _ in range(2):\n"
        "    result = Agent().run_sync('Write a poem')\n"
        "    print(result.state, result.ok, result.error.code)\n"
        "    assert 'I have not done this task' in result.error.message\n"
    )
    finished = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    assert finished.stdout == "failed False offline\n" * 2
    assert finished.stderr.count("auto found no key") == 1


@pytest.mark.parametrize(
    "task", ["Write a poem", "call nothing {}", "call broken {}", "Describe https://git.example/a"]
)
async def test_review_d3_what_the_offline_model_cannot_do_is_a_failed_run(task: str) -> None:
    @tool
    def broken() -> str:
        """Fail."""
        raise ValueError("no")

    result = await Agent(model="offline", tools=[broken]).run(task)
    assert (result.state, result.ok) == ("failed", False)
    assert result.error is not None
    assert result.error.code == "offline"
    assert not result.error.retryable


async def test_review_d3_a_type_it_cannot_fill_is_a_failed_run() -> None:
    result = await Agent(model="offline", output_type=int).run("Summarize this repository")
    assert result.error is not None
    assert (result.state, result.error.code) == ("failed", "offline")
    assert "cannot fill a schema" in result.error.message


async def test_review_d3_a_fallback_goes_past_the_offline_model_and_may_end_at_it() -> None:
    last = await Agent(model=FallbackModel([ScriptedProvider(["Here."]), "offline"])).run("Write a poem")
    first = await Agent(model=FallbackModel(["offline", ScriptedProvider(["Here."])])).run("Write a poem")
    assert last.output == first.output == "Here."
    only = await Agent(model=FallbackModel(["offline"])).run("Write a poem")
    assert only.error is not None
    assert only.error.code == "offline"
