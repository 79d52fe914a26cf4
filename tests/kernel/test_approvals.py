"""One yes is one execution of exactly what was shown: this tool as defined, these arguments, this run."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import force_setattr, replace
from stage import Clock, Tool, agent, faults_of_pairing, of_type, soon, types

from loom.agent import Agent
from loom.errors import ConfigError, RequestClosed
from loom.policies.governance import GovernancePolicy
from loom.requests import Answer, Request
from loom.safety.hooks import HookOutcome
from loom.safety.permissions import PermissionRule
from loom.safety.receipts import effect_digest
from loom.store.memory import InMemorySessionStore
from loom.testing.scripted import ScriptedProvider, call
from loom.types import RunState, ToolCall, ToolSpec

pytestmark = pytest.mark.timeout(20)

PATH = {"type": "object", "properties": {"path": {"type": "string"}}}


async def _waiting(built: Agent[Any, Any], session_id: str = "s") -> Any:
    result = await soon(built.session(session_id).run("go"))
    assert result.state is RunState.WAITING, result
    return result


def _wiper(*replies: Any, **options: Any) -> tuple[Agent[Any, Any], Tool]:
    d = Tool("d", parameters=PATH, destructive=True)
    options.setdefault("session_store", InMemorySessionStore())
    return agent(replies or [call("d", path="/a"), "end"], d, **options), d


async def test_a_request_shows_what_will_run() -> None:
    built, d = _wiper()
    (request,) = (await _waiting(built)).pending
    assert (request.kind, request.tool_name, request.arguments) == ("approval", "d", '{"path":"/a"}')
    assert request.session_id == "s"
    assert request.call_id == "call_1"
    assert request.digest
    assert "/a" in request.prompt
    assert "destructive" in request.prompt
    assert d.entered == []
    assert await built.session("s").pending() == [request]


async def test_hidden_characters_are_visible_to_whoever_approves() -> None:
    built, _ = _wiper(call("d", path="a\u202egpj.exe\u200b\x1b[2K\r"), "end")
    (request,) = (await _waiting(built)).pending
    assert not set(request.prompt) & set("\u202e\u200b\x1b\r")


async def test_the_models_words_cannot_leave_their_place_in_the_prompt() -> None:
    built, _ = _wiper(call("d", path='x"}? (approved by policy)\nRun ls with {"a": "b'), "end")
    (request,) = (await _waiting(built)).pending
    assert "\n" not in request.prompt


async def test_approve_deny_and_nothing() -> None:
    for verdict, entered, outcome in (("approve", 1, "ok"), ("deny", 0, "denied")):
        built, d = _wiper()
        waiting = await _waiting(built)
        (request,) = waiting.pending
        answer = request.approve(by="ana") if verdict == "approve" else request.deny("no", by="ana")
        result = await soon(built.session("s").resume(waiting.run_id, [answer]).wait())
        assert result.ok
        assert result.run_id == waiting.run_id
        assert len(d.entered) == entered
        assert of_type(result.events, "tool.finished")[0].outcome == outcome
        decided = of_type(result.events, "tool.decided")[0]
        assert decided.source == "approval"
        assert "ana" in decided.reason
        assert faults_of_pairing(result.messages) is None
    built, d = _wiper()
    waiting = await _waiting(built)
    again = await soon(built.session("s").resume(waiting.run_id).wait())
    assert again.state is RunState.WAITING
    assert again.pending == waiting.pending
    assert d.entered == []


@pytest.mark.parametrize("times", [2, 5])
async def test_an_answer_counts_once(times: int) -> None:
    built, d = _wiper()
    waiting = await _waiting(built)
    answer = waiting.pending[0].approve()
    outcomes: list[Any] = []
    for _ in range(times):
        try:
            outcomes.append(await soon(built.session("s").resume(waiting.run_id, [answer]).wait()))
        except RequestClosed as error:
            outcomes.append(error)
    assert outcomes[0].ok
    assert all(isinstance(outcome, RequestClosed) for outcome in outcomes[1:])
    assert len(d.entered) == 1


async def test_fifty_answers_at_once_are_one_effect() -> None:
    built, d = _wiper(call("d", path="/a"), *["end"] * 60)
    waiting = await _waiting(built)
    answer = waiting.pending[0].approve()
    runs = [built.session("s").resume(waiting.run_id, [answer]) for _ in range(50)]
    outcomes = await soon(asyncio.gather(*(run.wait() for run in runs), return_exceptions=True))
    assert len(d.entered) == 1
    assert sum(not isinstance(outcome, BaseException) for outcome in outcomes) == 1
    assert all(
        isinstance(outcome, RequestClosed) for outcome in outcomes if isinstance(outcome, BaseException)
    )


@pytest.mark.parametrize("second", ["approve", "deny"])
async def test_the_same_request_twice_in_one_go(second: str) -> None:
    built, d = _wiper()
    waiting = await _waiting(built)
    (request,) = waiting.pending
    other = request.approve() if second == "approve" else request.deny("on second thought")
    try:
        await soon(built.session("s").resume(waiting.run_id, [request.approve(), other]).wait())
    except RequestClosed:
        assert d.entered == []
    log = await built.session("s").store.read("s")
    assert len(of_type(log, "request.answered")) <= 1
    assert len(d.entered) <= 1


async def test_unknown_foreign_and_forged_answers_change_nothing() -> None:
    built, d = _wiper(call("d", path="/a"), call("d", path="/b"), "end", "end")
    waiting = await _waiting(built)
    other = await _waiting(built, "other")
    head = await built.session("s").store.head("s")
    for answer in (
        Answer("req_unknown", "approve"),
        Answer("", "approve"),
        other.pending[0].approve(),
        waiting.pending[0].answer("yes"),
    ):
        with pytest.raises(RequestClosed):
            await soon(built.session("s").resume(waiting.run_id, [answer]).wait())
    assert d.entered == []
    assert await built.session("s").store.head("s") == head
    assert await built.session("s").pending() == list(waiting.pending)


@pytest.mark.parametrize("word", ["yes", "", "maybe", "APPROVE", "answered", None])
@pytest.mark.parametrize("kind", ["resume", "human"])
async def test_a_verdict_that_is_no_verdict_approves_nothing(word: Any, kind: str) -> None:
    """Structs do not check their fields: whatever a gateway made of a click must not count as a yes."""
    built, d = _wiper(human=(lambda request: Answer(request.id, word)) if kind == "human" else None)
    try:
        result = await soon(built.session("s").run("go"))
        if kind == "resume":
            forged = Answer(result.pending[0].id, "deny")
            force_setattr(forged, "verdict", word)  # made by hand it is refused at once
            await soon(built.session("s").resume(None, [forged]).wait())
    except RequestClosed:
        pass
    assert d.entered == []


async def test_a_refused_answer_in_a_set_refuses_the_whole_set() -> None:
    built, d = _wiper([call("d", path="/a"), call("d", path="/b")], "end")
    waiting = await _waiting(built)
    with pytest.raises(RequestClosed):
        await soon(
            built.session("s").resume(None, [waiting.pending[0].approve(), Answer("req_x", "approve")]).wait()
        )
    assert d.entered == []
    assert len(await built.session("s").pending()) == 2


async def test_partial_answers() -> None:
    built, d = _wiper([call("d", path="/a"), call("d", path="/b"), call("d", path="/c")], "end")
    waiting = await _waiting(built)
    a, b, c = waiting.pending
    second = await soon(built.session("s").resume(None, [b.approve()]).wait())
    assert second.state is RunState.WAITING
    assert d.entered == [{"path": "/b"}]
    assert [request.id for request in second.pending] == [a.id, c.id]
    done = await soon(built.session("s").resume(None, [c.deny("no"), a.approve()]).wait())
    assert done.ok
    assert d.entered == [{"path": "/b"}, {"path": "/a"}]
    results = [m.tool_call_id for m in done.messages if m.tool_call_id]
    assert results == ["call_1", "call_2", "call_3"]


async def test_the_others_run_while_one_waits() -> None:
    d, t = Tool("d", destructive=True), Tool("t")
    built = agent([[call("t", n=1), call("d"), call("t", n=2)], "end"], d, t)
    waiting = await _waiting(built)
    assert t.entered == [{"n": 1}, {"n": 2}]
    assert d.entered == []
    assert len(waiting.pending) == 1


async def test_a_fresh_process_can_answer() -> None:
    store = InMemorySessionStore()
    first = agent([call("d"), "never"], Tool("d", destructive=True), session_store=store)
    waiting = await _waiting(first)
    second = agent(["end"], d := Tool("d", destructive=True), session_store=store)
    (request,) = await second.session("s").pending()
    result = await soon(second.session("s").resume(None, [request.approve()]).wait())
    assert result.ok
    assert result.output == "end"
    assert len(d.entered) == 1
    assert result.run_id == waiting.run_id
    assert [event.seq for event in result.events] == list(range(1, len(result.events) + 1))


# --- what a yes is bound to --------------------------------------------------------------------------


def test_the_digest_names_exactly_one_effect() -> None:
    spec = ToolSpec(name="t", description="d", parameters=PATH)
    base = effect_digest(spec, {"path": "/a"}, session_id="s", run_id="r")
    assert base == effect_digest(
        ToolSpec(name="t", description="d", parameters=dict(PATH)), {"path": "/a"}, session_id="s", run_id="r"
    )
    others = [
        effect_digest(replace(spec, name="u"), {"path": "/a"}, session_id="s", run_id="r"),
        effect_digest(replace(spec, description="e"), {"path": "/a"}, session_id="s", run_id="r"),
        effect_digest(
            replace(spec, parameters={"type": "object"}), {"path": "/a"}, session_id="s", run_id="r"
        ),
        effect_digest(replace(spec, destructive=True), {"path": "/a"}, session_id="s", run_id="r"),
        effect_digest(spec, {"path": "/b"}, session_id="s", run_id="r"),
        effect_digest(spec, {"path": "/a", "x": None}, session_id="s", run_id="r"),
        effect_digest(spec, {}, session_id="s", run_id="r"),
        effect_digest(spec, {"path": "/a"}, session_id="t", run_id="r"),
        effect_digest(spec, {"path": "/a"}, session_id="s", run_id="q"),
        effect_digest(spec, {"path": ["/a"]}, session_id="s", run_id="r"),
        effect_digest(spec, {"path": "1"}, session_id="s", run_id="r"),
        effect_digest(spec, {"path": 1}, session_id="s", run_id="r"),
        effect_digest(spec, {"path": True}, session_id="s", run_id="r"),
        effect_digest(spec, {"path": 1.5}, session_id="s", run_id="r"),
        effect_digest(spec, {"path": None}, session_id="s", run_id="r"),
        effect_digest(spec, {"path": "None"}, session_id="s", run_id="r"),
    ]
    assert len({base, *others}) == len(others) + 1
    assert effect_digest(spec, {"a": 1, "b": 2}, session_id="s", run_id="r") == effect_digest(
        spec, {"b": 2, "a": 1}, session_id="s", run_id="r"
    )


def test_session_and_run_cannot_be_shifted_into_each_other() -> None:
    spec = ToolSpec(name="t")
    pairs = [("a", "bc"), ("ab", "c"), ("", "abc"), ("abc", "")]
    assert len({effect_digest(spec, {}, session_id=s, run_id=r) for s, r in pairs}) == len(pairs)


def test_a_definition_changed_in_place_is_another_effect() -> None:
    """A spec is frozen but its schema is a dict; a digest kept beside the object would not notice."""
    spec = ToolSpec(name="t", parameters={"type": "object", "properties": {}})
    before = effect_digest(spec, {}, session_id="s", run_id="r")
    spec.parameters["properties"]["path"] = {"type": "string"}
    assert effect_digest(spec, {}, session_id="s", run_id="r") != before


_CHANGES: dict[str, dict[str, Any]] = {
    "description": {"description": "does something else now"},
    "schema": {"parameters": {**PATH, "title": "changed"}},
    "facts": {"idempotent": True},
}


@pytest.mark.parametrize("change", list(_CHANGES))
async def test_a_tool_that_changed_while_the_human_thought_is_asked_about_again(change: str) -> None:
    store = InMemorySessionStore()
    first, _ = _wiper(session_store=store)
    waiting = await _waiting(first)
    second, d = _wiper("end", session_store=store)
    d.spec = replace(d.spec, **_CHANGES[change])
    again = await soon(second.session("s").resume(None, [waiting.pending[0].approve()]).wait())
    assert again.state is RunState.WAITING
    assert d.entered == []
    (fresh,) = again.pending
    assert fresh.id != waiting.pending[0].id
    assert fresh.digest != waiting.pending[0].digest
    with pytest.raises(RequestClosed):
        await soon(second.session("s").resume(None, [waiting.pending[0].approve()]).wait())
    done = await soon(second.session("s").resume(None, [fresh.approve()]).wait())
    assert done.ok
    assert len(d.entered) == 1


async def test_a_tool_that_changes_between_yes_and_run_is_asked_about_again() -> None:
    """The check right before execution, not only the one when the answer arrives."""
    built, d = _wiper()
    waiting = await _waiting(built)

    def change(**_: Any) -> None:
        d.spec = replace(d.spec, description="another tool now")

    built.on("tool.decided", change)
    again = await soon(built.session("s").resume(None, [waiting.pending[0].approve()]).wait())
    assert d.entered == []
    assert again.state is RunState.WAITING


async def test_arguments_edited_by_a_gate_are_the_ones_shown_and_run() -> None:
    built, d = _wiper()
    built.on("before_tool", lambda **_: HookOutcome.edit(path="/edited"))
    waiting = await _waiting(built)
    assert waiting.pending[0].arguments == '{"path":"/edited"}'
    result = await soon(built.session("s").resume(None, [waiting.pending[0].approve()]).wait())
    assert result.ok
    assert d.entered == [{"path": "/edited"}]


@pytest.mark.parametrize("field", ["arguments", "name", "run_id", "session_id", "digest"])
async def test_a_log_that_was_tampered_with_does_not_run(field: str) -> None:
    """Whoever edits the stored request or call between yes and run gets a question, not an effect."""
    store = InMemorySessionStore()
    first, _ = _wiper(session_store=store)
    waiting = await _waiting(first)
    session = store.log._sessions["s"]
    for position, event in enumerate(session.events):
        if event.type == "request.opened":
            request: Request = event.request  # type: ignore[attr-defined]
            if field == "arguments":
                request = replace(request, arguments='{"path":"/evil"}')
            elif field == "digest":
                request = replace(request, digest="0" * 64)
            event = replace(event, request=request)
        if event.type == "model.replied" and field == "name":
            message = event.message  # type: ignore[attr-defined]
            swapped = (ToolCall(message.tool_calls[0].id, "e", '{"path":"/a"}'),)
            event = replace(event, message=replace(message, tool_calls=swapped))
        if field == "run_id" and event.type == "run.started":
            continue
        session.events[position] = event
    session.runs[waiting.run_id] = list(session.events)
    e = Tool("e", parameters=PATH, destructive=True)
    d = Tool("d", parameters=PATH, destructive=True)
    second = agent(["end"], d, e, session_store=store)
    result = await soon(second.session("s").resume(None, [waiting.pending[0].approve()]).wait())
    if field in ("run_id", "session_id"):
        assert result.ok
        assert len(d.entered) == 1
    else:
        assert result.state is RunState.WAITING
        assert d.entered == []
        assert e.entered == []


async def test_only_the_providers_call_id_may_differ() -> None:
    """Providers choose ids: the digest of the same call under another id is the same."""
    digests = set()
    for name in ("call_a", "call_b"):
        built, _ = _wiper(ToolCall(name, "d", '{"path":"/a"}'), "end")
        session = built.session("s")
        run = session._new_run("go", None, None, None, streaming=False, run_id="run_fixed")
        waiting = await soon(run.begin().wait())
        digests.add(waiting.pending[0].digest)
    assert len(digests) == 1


async def test_the_same_call_again_is_asked_again() -> None:
    built, d = _wiper(call("d", path="/a"), call("d", path="/a"), "end")
    waiting = await _waiting(built)
    again = await soon(built.session("s").resume(None, [waiting.pending[0].approve()]).wait())
    assert again.state is RunState.WAITING
    assert len(d.entered) == 1
    assert again.pending[0].id != waiting.pending[0].id


async def test_two_equal_calls_of_one_reply_need_two_answers() -> None:
    built, d = _wiper([call("d", path="/a"), call("d", path="/a")], "end")
    waiting = await _waiting(built)
    assert len({request.id for request in waiting.pending}) == 2
    again = await soon(built.session("s").resume(None, [waiting.pending[0].approve()]).wait())
    assert again.state is RunState.WAITING
    assert len(d.entered) == 1


async def test_a_provider_that_repeats_its_ids_cannot_reuse_a_yes() -> None:
    built, d = _wiper(ToolCall("same", "d", '{"path":"/a"}'), ToolCall("same", "d", '{"path":"/b"}'), "end")
    waiting = await _waiting(built)
    again = await soon(built.session("s").resume(None, [waiting.pending[0].approve()]).wait())
    assert again.state is RunState.WAITING
    assert d.entered == [{"path": "/a"}]
    with pytest.raises(RequestClosed):
        await soon(built.session("s").resume(None, [waiting.pending[0].approve()]).wait())


@pytest.mark.parametrize(
    "arguments",
    ['{"path":"/a","approved":true}', '{"path":"/a","_approval":"req_1"}', '{"path":"/a","digest":"x"}'],
)
async def test_nothing_the_model_sends_is_an_approval(arguments: str) -> None:
    d = Tool("d", parameters={**PATH, "additionalProperties": True}, destructive=True)
    built = agent([ToolCall("req_approved", "d", arguments), "end"], d)
    await _waiting(built)
    assert d.entered == []


# --- expiry ---------------------------------------------------------------------------------------------


async def test_a_yes_that_was_not_used_in_time_is_asked_again() -> None:
    """Two approvals, of which one is given; the process dies before it runs and comes back days later."""
    clock = Clock()
    built, d = _wiper(governance=GovernancePolicy.default(approval_ttl=60.0))
    built.engine.clock = clock
    waiting = await _waiting(built)

    def passes(**_: Any) -> None:
        clock.now += 61.0

    built.on("request.answered", passes)
    again = await soon(built.session("s").resume(None, [waiting.pending[0].approve()]).wait())
    assert again.state is RunState.WAITING
    assert d.entered == []
    assert "expired" in again.pending[0].prompt
    built.off("request.answered", passes)
    done = await soon(built.session("s").resume(None, [again.pending[0].approve()]).wait())
    assert done.ok
    assert len(d.entered) == 1


async def test_a_yes_of_the_future_does_not_hold() -> None:
    """A clock that stepped back must not make an approval last for ever."""
    clock = Clock()
    built, d = _wiper(governance=GovernancePolicy.default(approval_ttl=60.0))
    built.engine.clock = clock
    waiting = await _waiting(built)
    built.on("request.answered", lambda **_: setattr(clock, "now", clock.now - 1_000_000))
    again = await soon(built.session("s").resume(None, [waiting.pending[0].approve()]).wait())
    assert again.state is RunState.WAITING
    assert d.entered == []


async def test_an_expired_request_takes_no_answer() -> None:
    clock = Clock()
    human: list[Request] = []
    built, d = _wiper(human=lambda request: human.append(request))
    built.engine.clock = clock
    waiting = await _waiting(built)
    session = built.session("s").store.log._sessions["s"]
    expiring = replace(waiting.pending[0], expires_at=clock.now + 10)
    events = [
        replace(event, request=expiring) if event.type == "request.opened" else event
        for event in session.events
    ]
    session.events[:] = events
    session.runs[waiting.run_id] = list(events)
    clock.now += 11
    with pytest.raises(RequestClosed, match="expired"):
        await soon(built.session("s").resume(None, [waiting.pending[0].approve()]).wait())
    assert d.entered == []


async def test_an_answer_after_the_end_is_refused() -> None:
    built, d = _wiper()
    waiting = await _waiting(built)
    ended = await built.session("s").resume(waiting.run_id).cancel()
    assert ended is not None
    assert ended.state is RunState.CANCELLED
    with pytest.raises(RequestClosed):
        await soon(built.session("s").resume(waiting.run_id, [waiting.pending[0].approve()]).wait())
    assert d.entered == []


@pytest.mark.parametrize("said", [True, False, None, "yes", "no", 1, 0, "approve", {"ok": True}])
async def test_only_true_and_an_answer_approve(said: Any) -> None:
    built, d = _wiper(human=lambda request: said)
    result = await soon(built.session("s").run("go"))
    assert len(d.entered) == (1 if said is True else 0)
    assert result.state is (RunState.WAITING if said is None else RunState.COMPLETED)


async def test_a_human_in_place_is_recorded_like_any_other() -> None:
    built, d = _wiper(human=lambda request: request.approve(by="ana"))
    result = await soon(built.session("s").run("go"))
    words = types(result.events)
    assert result.ok
    assert len(d.entered) == 1
    assert words.index("request.opened") < words.index("request.answered") < words.index("tool.decided")
    assert of_type(result.events, "request.answered")[0].answer.by == "ana"


async def test_many_parked_runs_and_each_its_own_answer() -> None:
    provider = ScriptedProvider([call("d", path=f"/{n}") for n in range(300)] + ["end"] * 300)
    d = Tool("d", parameters=PATH, destructive=True)
    built = Agent(model=provider, tools=[d], session_store=InMemorySessionStore())
    waiting = [await built.session(f"s{n}").run("go") for n in range(300)]
    for result in reversed(waiting):
        await built.session(result.session_id).resume(None, [result.pending[0].approve()])
    assert [args["path"] for args in d.entered] == [f"/{n}" for n in reversed(range(300))]


async def test_review_l_a_rule_that_came_after_the_question_still_denies() -> None:
    """A yes is to what runs, not to whether it may: that is judged by the rules there are when it would run."""
    store = InMemorySessionStore()
    built, _ = _wiper(session_store=store)
    (request,) = (await _waiting(built)).pending
    rules = GovernancePolicy(rules=[PermissionRule.deny("d", reason="frozen")])
    stricter, d = _wiper("end", session_store=store, governance=rules)
    result = await soon(stricter.session("s").resume(answers=[request.approve(by="ana")]))
    assert d.entered == []
    assert [denied.result.text.endswith("frozen") for denied in result.denied] == [True]


@pytest.mark.parametrize("word", ["approve", "deny"])
async def test_an_agent_that_has_lost_the_tool_does_not_use_up_the_answer(word: str) -> None:
    store = InMemorySessionStore()
    d = Tool("d", destructive=True)
    waiting = await soon(agent([call("d"), "end"], d, session_store=store).session("s").run("go"))
    answer = getattr(waiting.pending[0], word)()
    without = agent(["end"], session_store=store).session("s")
    with pytest.raises(ConfigError, match="no tool 'd'"):
        await soon(without.resume(answers=answer).wait())
    again = agent(["end"], d, session_store=store).session("s")
    assert [request.id for request in await again.pending()] == [waiting.pending[0].id]
    assert (await soon(again.resume(answers=answer).wait())).ok
    assert len(d.entered) == (word == "approve")
