"""What becomes of a call that a dead process had started: run again, found out, or asked about; never guessed."""

from __future__ import annotations

from typing import Any

import pytest
from stage import Tool, agent, faults_of_pairing, of_type, soon

from loom.agent import Agent
from loom.events import Event
from loom.store.memory import InMemorySessionStore
from loom.testing.scripted import call
from loom.types import RunState, ToolResult

pytestmark = pytest.mark.timeout(20)


async def died_in(tool: Tool, *, approved: bool = False) -> InMemorySessionStore:
    """A store as a process left it that died after the start of ``tool`` was written down."""
    whole = InMemorySessionStore()
    human = (lambda request: True) if approved else None
    built = agent([call(tool.spec.name, x=1), "end"], tool, session_store=whole, human=human)
    assert (await soon(built.session("s").run("go"))).ok
    log = await whole.read("s")
    cut = InMemorySessionStore()
    lease = cut.log.acquire("s", owner="dead", ttl=60)
    cut.log.append(lease, log[: 1 + next(i for i, event in enumerate(log) if event.type == "tool.started")])
    cut.log.release(lease)
    return cut


def _reborn(store: InMemorySessionStore, *tools: Any, **options: Any) -> Agent[Any, Any]:
    return agent(["end"], *tools, session_store=store, **options)


@pytest.mark.parametrize("facts", [{"read_only": True}, {"idempotent": True}], ids=str)
async def test_what_does_no_harm_runs_again_without_a_question(facts: dict[str, Any]) -> None:
    store = await died_in(Tool("t", **facts))
    t = Tool("t", **facts)
    result = await soon(_reborn(store, t).session("s").resume().wait())
    assert result.ok
    assert len(t.entered) == 1
    assert of_type(result.events, "request.opened") == []
    assert [event.attempt for event in of_type(result.events, "tool.started")] == [1, 2]
    keys = {event.idempotency_key for event in of_type(result.events, "tool.started")}
    assert len(keys) == 1


@pytest.mark.parametrize("verdict", ["approve", "deny", "answer", "later"])
async def test_what_may_do_harm_is_asked_about(verdict: str) -> None:
    store = await died_in(Tool("t"))
    t = Tool("t")
    waiting = await soon(_reborn(store, t).session("s").resume().wait())
    assert waiting.state is RunState.WAITING
    assert t.entered == []
    (request,) = waiting.pending
    assert request.origin == "recovery"
    assert request.kind == "approval"
    assert "may or may not" in request.prompt
    answers = {
        "approve": [request.approve()],
        "deny": [request.deny("it was done")],
        "answer": [request.answer("done by hand")],
        "later": [],
    }[verdict]
    result = await soon(_reborn(store, t).session("s").resume(None, answers).wait())
    if verdict == "later":
        assert result.state is RunState.WAITING
        assert result.pending == waiting.pending
        assert t.entered == []
        return
    assert result.ok
    assert len(t.entered) == (1 if verdict == "approve" else 0)
    (finished,) = of_type(result.events, "tool.finished")
    assert finished.outcome == {"approve": "ok", "deny": "unknown", "answer": "ok"}[verdict]
    assert faults_of_pairing(result.messages) is None
    if verdict == "deny":
        assert "it was done" in finished.result.text
        assert finished.error.code == "unknown_outcome"
        assert not finished.success


async def test_a_human_in_place_is_asked_too() -> None:
    store = await died_in(Tool("t"))
    asked: list[str] = []
    t = Tool("t")
    built = _reborn(store, t, human=lambda request: asked.append(request.origin) or False)
    result = await soon(built.session("s").resume().wait())
    assert result.ok
    assert asked == ["recovery"]
    assert t.entered == []


async def test_an_earlier_yes_does_not_cover_a_second_run() -> None:
    """One yes is one execution, also when nobody knows whether that one happened."""
    store = await died_in(Tool("t", destructive=True), approved=True)
    t = Tool("t", destructive=True)
    waiting = await soon(_reborn(store, t).session("s").resume().wait())
    assert waiting.state is RunState.WAITING
    assert t.entered == []
    assert waiting.pending[0].origin == "recovery"


class Probing(Tool):
    """Can find out what became of an attempt."""

    def __init__(self, found: Any) -> None:
        super().__init__("t")
        self.found = found
        self.probed: list[str] = []

    async def probe(self, key: str) -> ToolResult | None:
        self.probed.append(key)
        if isinstance(self.found, BaseException):
            raise self.found
        return self.found  # type: ignore[no-any-return]


async def test_a_tool_that_can_find_out_is_asked_first() -> None:
    store = await died_in(Tool("t"))
    t = Probing(ToolResult("it was done"))
    result = await soon(_reborn(store, t).session("s").resume().wait())
    assert result.ok
    assert t.entered == []
    assert len(t.probed) == 1
    (finished,) = of_type(result.events, "tool.finished")
    assert finished.outcome == "ok"
    assert finished.result.text == "it was done"
    assert t.probed == [of_type(result.events, "tool.started")[0].idempotency_key]


@pytest.mark.parametrize(
    "found",
    [None, RuntimeError("offline"), TimeoutError(), SystemExit(1), "text", 7],
    ids=lambda x: type(x).__name__,
)
async def test_a_tool_that_cannot_find_out_leaves_it_to_the_human(found: Any) -> None:
    store = await died_in(Tool("t"))
    t = Probing(found)
    result = await soon(_reborn(store, t).session("s").resume().wait())
    assert result.state is RunState.WAITING
    assert t.entered == []
    assert result.pending[0].origin == "recovery"


@pytest.mark.parametrize("change", ["gone", "schema"])
async def test_a_started_call_whose_tool_changed_is_not_told_as_never_run(change: str) -> None:
    """It had started: whatever the tool is now, the honest outcome is unknown, or a question."""
    store = await died_in(Tool("t"))
    needs_y = {"type": "object", "properties": {"y": {"type": "string"}}, "required": ["y"]}
    tools = [Tool("other")] if change == "gone" else [Tool("t", parameters=needs_y)]
    result = await soon(_reborn(store, *tools).session("s").resume().wait())
    outcomes = [event.outcome for event in of_type(result.events, "tool.finished")]
    assert outcomes in ([], ["unknown"])
    assert result.state is RunState.WAITING or result.ok


async def test_a_tool_that_is_no_longer_repeatable_is_asked_about() -> None:
    store = await died_in(Tool("t", idempotent=True))
    t = Tool("t")
    result = await soon(_reborn(store, t).session("s").resume().wait())
    assert result.state is RunState.WAITING
    assert t.entered == []


async def test_a_deny_rule_that_came_meanwhile_stops_the_second_attempt() -> None:
    from loom.policies.governance import GovernancePolicy

    store = await died_in(Tool("t", idempotent=True))
    t = Tool("t", idempotent=True)
    built = _reborn(store, t, governance=GovernancePolicy.deny_all())
    result = await soon(built.session("s").resume().wait())
    assert t.entered == []
    assert of_type(result.events, "tool.finished")[0].outcome in ("denied", "unknown")


async def test_cancelling_instead_of_recovering_says_unknown() -> None:
    store = await died_in(Tool("t"))
    t = Tool("t")
    run = _reborn(store, t).session("s").resume()
    result = await run.cancel()
    assert result is not None
    assert result.state is RunState.CANCELLED
    assert t.entered == []
    (finished,) = of_type(result.events, "tool.finished")
    assert "unknown" in finished.result.text
    assert not finished.success


async def test_started_calls_are_recovered_before_anything_new_begins() -> None:
    store = await died_in(Tool("t"))
    run = _reborn(store, Tool("t")).session("s").resume()
    seen: list[Event] = [event async for event in run.events()]
    later = [event.type for event in seen if event.seq > 5]
    assert later[:2] == ["run.resumed", "request.opened"]
