"""Questions a tool asks while it runs: answered in place, later, in another process; never twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from stage import agent, faults_of_pairing, of_type, soon

from loom.agent import Agent
from loom.errors import RequestClosed
from loom.hitl.callback import CallbackHuman
from loom.requests import Request
from loom.store.memory import InMemorySessionStore
from loom.testing.scripted import ScriptedProvider, call
from loom.tools.base import Parked, ToolContext, ToolHandler
from loom.tools.function import tool
from loom.types import RunState, ToolCall, ToolResult, ToolSpec

pytestmark = pytest.mark.timeout(20)


@tool(idempotent=True)
def survey(context: ToolContext) -> str:
    """Ask for a name and then a colour."""
    name = context.ask("Your name?")
    colour = context.ask("Your colour?", choices=["red", "blue"])
    return f"{name} likes {colour}"


@tool
def careless(context: ToolContext) -> str:
    """Ask without being repeatable."""
    return str(context.ask("Sure?"))


@tool(idempotent=True, concurrency_safe=True)
def which(n: int, context: ToolContext) -> str:
    """Ask about one thing."""
    return f"{n}={context.ask(f'What is {n}?')}"


def _last_result(result: Any) -> str:
    return of_type(result.events, "tool.finished")[-1].result.text  # type: ignore[no-any-return]


async def test_answered_in_place() -> None:
    asked: list[str] = []

    def human(request: Request) -> str:
        asked.append(request.prompt)
        return {"Your name?": "Ana", "Your colour?": "red"}[request.prompt]

    result = await soon(agent([call("survey"), "end"], survey, human=human).run("go"))
    assert result.ok
    assert asked == ["Your name?", "Your colour?"]
    assert _last_result(result) == "Ana likes red"
    assert len(of_type(result.events, "tool.finished")) == 1
    assert faults_of_pairing(result.messages) is None


async def test_answered_later_in_other_processes() -> None:
    store = InMemorySessionStore()
    waiting = await soon(agent([call("survey")], survey, session_store=store).session("s").run("go"))
    (first,) = waiting.pending
    assert (first.kind, first.prompt, first.tool_name) == ("question", "Your name?", "survey")
    second = await soon(
        agent([], survey, session_store=store).session("s").resume(None, [first.answer("Ana")]).wait()
    )
    (colour,) = second.pending
    assert colour.choices == ("red", "blue")
    assert second.state is RunState.WAITING
    last = agent(["end"], survey, session_store=store).session("s")
    with pytest.raises(RequestClosed, match="choices"):
        await soon(last.resume(None, [colour.answer("green")]).wait())
    with pytest.raises(RequestClosed):
        await soon(last.resume(None, [first.answer("Bob")]).wait())
    done = await soon(last.resume(None, [colour.answer("blue")]).wait())
    assert done.ok
    assert _last_result(done) == "Ana likes blue"
    assert await last.pending() == []


async def test_a_yes_is_no_answer_to_a_question() -> None:
    session = agent([call("survey"), "end"], survey).session("s")
    waiting = await soon(session.run("go"))
    with pytest.raises(RequestClosed):
        await soon(session.resume(None, [waiting.pending[0].approve()]).wait())


async def test_declining_is_told_to_the_tool_and_counts_as_denied() -> None:
    session = agent([call("survey"), "end"], survey).session("s")
    waiting = await soon(session.run("go"))
    result = await soon(session.resume(None, [waiting.pending[0].deny("none of your business")]).wait())
    assert result.ok
    assert "none of your business" in _last_result(result)
    assert of_type(result.events, "tool.finished")[0].outcome == "denied"
    assert len(result.denied) == 1


async def test_a_tool_that_may_not_be_entered_again_gets_a_clear_error() -> None:
    asked: list[Request] = []
    result = await soon(agent([call("careless"), "end"], careless, human=asked.append).run("go"))
    assert result.ok
    assert asked == []
    assert "idempotent" in _last_result(result)
    assert of_type(result.events, "request.opened") == []


async def test_parallel_questions_and_partial_answers() -> None:
    session = agent([[call("which", n=n) for n in range(3)], "end"], which).session("s")
    waiting = await soon(session.run("go"))
    assert [request.prompt for request in waiting.pending] == [f"What is {n}?" for n in range(3)]
    again = await soon(session.resume(None, [waiting.pending[1].answer("b")]).wait())
    assert again.state is RunState.WAITING
    assert len(again.pending) == 2
    done = await soon(session.resume(None, [r.answer(r.prompt[8]) for r in again.pending]).wait())
    assert done.ok
    assert [m.content for m in done.messages if m.tool_call_id] == ["0=0", "1=b", "2=2"]


async def test_a_provider_that_repeats_its_ids_cannot_replay_an_answer() -> None:
    """The first answer must not do for the question of a later call that happens to have the same id."""
    calls = [ToolCall("same", "which", '{"n": 1}'), ToolCall("same", "which", '{"n": 2}')]
    session = agent([*calls, "end"], which).session("s")
    waiting = await soon(session.run("go"))
    answer = waiting.pending[0].answer("first")
    second = await soon(session.resume(None, [answer]).wait())
    assert second.state is RunState.WAITING
    assert second.pending[0].prompt == "What is 2?"
    with pytest.raises(RequestClosed):
        await soon(session.resume(None, [answer]).wait())


class TwoQuestions(ToolHandler):
    """Asks two things at once; goes on as soon as ``enough`` of them are answered."""

    def __init__(self, enough: int) -> None:
        self.enough = enough
        self.entered = 0

    @property
    def tool(self) -> ToolSpec:
        return ToolSpec(name="two", idempotent=True)

    async def invoke(self, args: dict[str, Any]) -> ToolResult:
        raise AssertionError

    async def invoke_in_context(self, args: dict[str, Any], context: ToolContext) -> ToolResult:
        self.entered += 1
        if self.entered > 50:
            raise RuntimeError("entered again and again")
        ids = [f"{context.idempotency_key}:{n}" for n in range(2)]
        if len(context.answers) < self.enough:
            still = [name for name in ids if name not in context.answers]
            raise Parked([Request(name, "question", f"Question {name[-1]}?") for name in still])
        return ToolResult(" and ".join(str(answer.value) for answer in context.answers.values()))


async def test_two_questions_of_one_call_and_one_answer() -> None:
    """The call goes on waiting; it must not be entered over and over until the other answer comes."""
    two = TwoQuestions(2)
    session = agent([call("two"), "end"], two).session("s")
    waiting = await soon(session.run("go"))
    assert len(waiting.pending) == 2
    again = await soon(session.resume(None, [waiting.pending[0].answer("a")]).wait())
    assert again.state is RunState.WAITING
    assert two.entered <= 2
    assert [request.id for request in again.pending] == [waiting.pending[1].id]
    done = await soon(session.resume(None, [waiting.pending[1].answer("b")]).wait())
    assert done.ok
    assert _last_result(done) == "a and b"


async def test_a_question_nobody_needs_any_more_does_not_hold_the_run() -> None:
    session = agent([call("two"), "end"], TwoQuestions(1)).session("s")
    waiting = await soon(session.run("go"))
    done = await soon(session.resume(None, [waiting.pending[0].answer("a")]).wait())
    assert done.state is RunState.COMPLETED
    assert _last_result(done) == "a"
    assert await session.pending() == []


async def test_a_question_of_the_second_reply_after_one_of_the_first() -> None:
    session = agent([call("which", n=1), call("which", n=2), "end"], which).session("s")
    one = await soon(session.run("go"))
    two = await soon(session.resume(None, [one.pending[0].answer("a")]).wait())
    done = await soon(session.resume(None, [two.pending[0].answer("b")]).wait())
    assert done.ok
    assert [m.content for m in done.messages if m.tool_call_id] == ["1=a", "2=b"]


async def test_an_approved_tool_may_ask_too() -> None:
    @tool(idempotent=True, destructive=True)
    def wipe(context: ToolContext) -> str:
        """Wipe after asking which."""
        return f"wiped {context.ask('Which?')}"

    session = agent([call("wipe"), "end"], wipe).session("s")
    one = await soon(session.run("go"))
    two = await soon(session.resume(None, [one.pending[0].approve()]).wait())
    assert two.pending[0].kind == "question"
    done = await soon(session.resume(None, [two.pending[0].answer("all")]).wait())
    assert done.ok
    assert _last_result(done) == "wiped all"
    kinds = [event.request.kind for event in of_type(done.events, "request.opened")]
    assert kinds == ["approval", "question"]


async def test_the_human_may_be_attached_for_some_questions_only() -> None:
    def human(request: Request) -> Any:
        return "a" if request.prompt == "What is 1?" else None

    session = agent([[call("which", n=1), call("which", n=2)], "end"], which, human=human).session("s")
    waiting = await soon(session.run("go"))
    assert waiting.state is RunState.WAITING
    assert [r.prompt for r in waiting.pending] == ["What is 2?"]
    done = await soon(session.resume(None, [waiting.pending[0].answer("b")]).wait())
    assert done.ok


@pytest.mark.parametrize("value", ["", 0, False, None, [1], {"a": 1}], ids=repr)
async def test_any_plain_value_is_an_answer(value: Any) -> None:
    session = agent([call("which", n=1), "end"], which).session("s")
    waiting = await soon(session.run("go"))
    done = await soon(session.resume(None, [waiting.pending[0].answer(value)]).wait())
    assert done.ok
    assert _last_result(done) == f"1={value}"


async def test_a_callback_human_is_a_human() -> None:
    async def later(request: Request) -> str:
        return "x"

    built: Agent[Any, Any] = Agent(
        model=ScriptedProvider([call("which", n=1), "end"]),
        tools=[which],
        human=CallbackHuman(later, by="bob"),
    )
    result = await soon(built.run("go"))
    answers: Sequence[Any] = of_type(result.events, "request.answered")
    assert result.ok
    assert answers[0].answer.by == "bob"
    assert answers[0].answer.value == "x"
