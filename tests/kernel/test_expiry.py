"""A question whose time is up is asked anew; it is neither answered late nor waited for for ever."""

from __future__ import annotations

from typing import Any

import pytest
from stage import Clock, Tool, agent, of_type, soon, types

from loom.errors import RequestClosed
from loom.events import RequestExpired, RunFinished
from loom.requests import Request
from loom.store.memory import InMemorySessionStore
from loom.store.sqlite import SqliteSessionStore
from loom.testing.scripted import call
from loom.tools.base import Parked, ToolContext
from loom.types import RunState

pytestmark = pytest.mark.timeout(20)


class AsksInTime(Tool):
    """A tool that waits for an answer for ten seconds, by a clock of the test."""

    def __init__(self, clock: Clock, **facts: Any) -> None:
        super().__init__("t", idempotent=True, **facts)
        self.clock, self.asked = clock, 0

    async def invoke_in_context(self, args: dict[str, Any], context: ToolContext[Any]) -> str:
        for answer in context.answers.values():
            return f"told {answer.value}"
        self.asked += 1
        raise Parked(
            [Request(id=f"q{self.asked}", kind="question", prompt="?", expires_at=self.clock.now + 10)]
        )


@pytest.mark.parametrize("durable", [False, True])
async def test_review_f5_an_expired_question_is_asked_anew_on_resume(durable: bool, tmp_path: Any) -> None:
    clock = Clock()
    store = SqliteSessionStore(tmp_path / "s.db") if durable else InMemorySessionStore()
    t = AsksInTime(clock)
    built = agent([call("t"), "end"], t, session_store=store)
    built.engine.clock = clock
    session = built.session("s")
    waiting = await soon(session.run("go"))
    clock.now += 11
    with pytest.raises(RequestClosed, match="resume without an answer"):
        await soon(session.resume(waiting.run_id, [waiting.pending[0].answer("late")]).wait())
    again = await soon(session.resume(waiting.run_id).wait())
    assert again.state is RunState.WAITING
    assert [request.id for request in again.pending] == ["q2"]
    assert [request.id for request in await session.pending()] == ["q2"]
    assert of_type(again.events, "request.expired")[0].request_id == "q1"
    done = await soon(session.resume(waiting.run_id, [again.pending[0].answer("in time")]).wait())
    assert done.messages[2].content == "told in time"
    assert isinstance(done.events[-1], RunFinished)


async def test_review_f5_a_question_that_still_has_time_stays_open() -> None:
    clock = Clock()
    built = agent([call("t"), "end"], AsksInTime(clock), session_store=InMemorySessionStore())
    built.engine.clock = clock
    session = built.session("s")
    waiting = await soon(session.run("go"))
    clock.now += 9
    again = await soon(session.resume(waiting.run_id).wait())
    assert [request.id for request in again.pending] == ["q1"]
    assert not of_type(again.events, "request.expired")


async def test_review_f5_a_human_who_answers_late_is_asked_anew() -> None:
    clock, asked = Clock(), []

    def human(request: Request) -> Any:
        asked.append(request.id)
        clock.now += 11 if len(asked) == 1 else 1
        return request.answer("yes")

    built = agent([call("t"), "end"], AsksInTime(clock), human=human)
    built.engine.clock = clock
    result = await soon(built.run("go"))
    assert asked == ["q1", "q2"]
    assert result.messages[2].content == "told yes"


async def test_review_f5_an_expired_question_about_an_unknown_effect_is_asked_again_not_run() -> None:
    """The question what became of a call may carry a deadline when somebody else's broker gives it one."""
    clock, store = Clock(), InMemorySessionStore()
    pay = Tool("pay")
    built = agent([call("pay"), "end"], pay, session_store=store)
    built.engine.clock = clock
    whole = await soon(built.session("s").run("go"))
    other = InMemorySessionStore()
    started = of_type(whole.events, "tool.started")[0]
    lease = await other.acquire("s", owner="dead", ttl=60)
    await other.append(lease, whole.events[: started.seq])
    await other.release(lease)
    again = agent(["end"], pay, session_store=other)
    again.engine.clock = clock
    waiting = await soon(again.session("s").resume(whole.run_id).wait())
    lease = await other.acquire("s", owner="broker", ttl=60)
    expired = RequestExpired(
        request_id=waiting.pending[0].id, run_id=whole.run_id, session_id="s", seq=waiting.events[-1].seq + 1
    )
    await other.append(lease, [expired])
    await other.release(lease)
    asked = await soon(again.session("s").resume(whole.run_id).wait())
    assert asked.state is RunState.WAITING
    assert asked.pending[0].origin == "recovery"
    assert asked.pending[0].id != waiting.pending[0].id
    assert len(pay.entered) == 1


async def test_review_f5_a_tool_that_asks_too_late_is_told() -> None:
    clock = Clock()
    t = AsksInTime(clock)
    built = agent([call("t"), "end"], t)
    built.engine.clock = clock
    t.clock = Clock(clock.now - 100)
    result = await soon(built.run("go"))
    assert "expired before it was asked" in str(result.messages[2].content)
    assert types(result.events)[-1] == "run.finished"
