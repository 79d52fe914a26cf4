"""What an operator sees: retries are events and log lines, runs tell how they go, and nothing of what was said."""

from __future__ import annotations

import logging

import pytest
from stage import Tool, agent, of_type, soon

from loom.agent import Agent
from loom.config.model import Model
from loom.errors import ProviderUnavailableError
from loom.testing import ModelServer
from loom.testing.scripted import call

pytestmark = pytest.mark.timeout(30)

DOWN = ProviderUnavailableError("overloaded", status=503)


@pytest.mark.parametrize("streamed", [False, True])
async def test_review_d6_a_retried_request_is_an_event_and_a_line(
    streamed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with ModelServer([DOWN, DOWN, "fine"]) as server:
        built = Agent(model=Model.compatible("m", base_url=server.base_url))
        session = built.session("s")
        with caplog.at_level(logging.INFO, "loom"):
            result = await soon(session.start("go").wait() if streamed else session.run("go"), 20)
        await built.aclose()
    assert result.ok
    retried = of_type(result.events, "model.retried")
    assert [(event.attempt, event.error.code) for event in retried] == [
        (1, "provider_unavailable"),
        (2, "provider_unavailable"),
    ]
    assert all(event.delay >= 0 for event in retried)
    assert next(r.message for r in caplog.records if r.name == "loom.llm").startswith("a request failed")


async def test_review_d6_retries_in_vain_are_events_too() -> None:
    async with ModelServer([DOWN, DOWN]) as server:
        built = Agent(model=Model.compatible("m", base_url=server.base_url, max_retries=1))
        result = await soon(built.session("s").run("go"), 20)
        await built.aclose()
    assert not result.ok
    assert [event.attempt for event in of_type(result.events, "model.retried")] == [1]


async def test_review_d6_runs_tell_the_log_how_they_go_and_nothing_of_what_was_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    d = Tool("d", destructive=True)
    built = agent([call("d", secret="sesame"), "the answer is sesame"], d)
    session = built.session("s")
    with caplog.at_level(logging.INFO, "loom.run"):
        waiting = await soon(session.run("open sesame"))
        await soon(session.resume(answers=waiting.pending[0].approve()).wait())
    lines = [record.message.partition(": ")[2] for record in caplog.records if record.name == "loom.run"]
    assert lines[0] == "started in session s"
    assert lines[1].startswith("asks a human (approval, req_")
    assert lines[2] == "goes on, it was waiting"
    assert lines[3].startswith("tool d ended as ok")
    assert lines[4] == "completed after 2 model calls and 1 tool calls"
    assert "sesame" not in caplog.text


async def test_a_log_that_nobody_reads_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "loom.run"):
        await soon(agent(["end"]).run("go"))
    assert not [record for record in caplog.records if record.name == "loom.run"]
