"""hook -> permission -> veto -> rate limit -> execute -> observe: each decides in its turn, and says so before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from stage import Clock, Tool, agent, faults_of_pairing, of_type, soon, types

from loom.agent import Agent
from loom.policies.governance import GovernancePolicy
from loom.safety.hooks import HookDecision, HookOutcome
from loom.safety.permissions import PermissionMode, PermissionRule
from loom.safety.veto import SafetyEvaluator, SafetyRule
from loom.store.memory import InMemorySessionStore
from loom.testing.scripted import ScriptedProvider, call
from loom.types import ChatMessage, Role, RunState

pytestmark = pytest.mark.timeout(20)


def veto_when(matches: Callable[[str, dict[str, Any]], bool], reason: str = "never") -> SafetyRule:
    """A veto of the application's own."""
    return SafetyRule.custom(name="v", reason=reason, evaluator=SafetyEvaluator.callable(matches))


WRITE = {
    "type": "object",
    "properties": {"path": {"type": "string"}, "mode": {"type": "string"}},
    "required": ["path"],
}


def _decided(result: Any) -> Any:
    (decided,) = of_type(result.events, "tool.decided")
    return decided


# --- order and record ---------------------------------------------------------------------------------


async def test_an_allowed_call_is_decided_started_and_finished_in_this_order() -> None:
    log: list[str] = []
    t = Tool("t", lambda _: log.append("ran") or "done")
    built = agent([call("t"), "end"], t)
    for word in ("tool.requested", "tool.decided", "tool.started", "tool.finished"):
        built.on(word, lambda event_name, **_: log.append(event_name))
    await soon(built.run("go"))
    assert log == ["tool.requested", "tool.decided", "tool.started", "ran", "tool.finished"]


@pytest.mark.parametrize("source", ["hook", "permission", "veto", "rate_limit"])
async def test_a_refusal_names_its_source_and_reason_and_nothing_runs(source: str) -> None:
    governance: dict[str, Any] = {}
    if source == "permission":
        governance["rules"] = [PermissionRule.deny("t", reason="because")]
    elif source == "veto":
        governance["vetoes"] = [veto_when(lambda name, args: True, "because")]
    elif source == "rate_limit":
        governance["max_calls_per_minute"] = 1
    t = Tool("t")
    replies = [call("t"), call("t", n=2), "end"] if source == "rate_limit" else [call("t"), "end"]
    built = agent(replies, t, governance=GovernancePolicy.default(**governance))
    if source == "hook":
        built.on("before_tool", lambda **_: HookOutcome.deny("because"))
    result = await soon(built.run("go"))
    decided = of_type(result.events, "tool.decided")[-1]
    assert (decided.verdict, decided.source) == ("deny", source)
    assert decided.reason == "because" or source == "rate_limit"
    assert len(t.entered) == (1 if source == "rate_limit" else 0)
    finished = of_type(result.events, "tool.finished")[-1]
    assert finished.outcome == "denied"
    assert finished.error.code == "tool_denied"
    assert list(result.denied) == [finished]
    assert result.ok
    assert faults_of_pairing(result.messages) is None
    words = types(result.events)
    assert words.index("tool.decided") < words.index("tool.finished")


async def test_the_gates_stand_in_order_and_the_first_refusal_ends_it() -> None:
    seen: list[str] = []

    def hook(**_: Any) -> None:
        seen.append("hook")

    def veto(name: str, args: dict[str, Any]) -> bool:
        seen.append("veto")
        return False

    policy = GovernancePolicy.default(rules=[PermissionRule.deny("t")], vetoes=[veto_when(veto)])
    built = agent([call("t"), "end"], Tool("t"), governance=policy)
    built.on("before_tool", hook)
    result = await soon(built.run("go"))
    assert seen == ["hook"]
    assert _decided(result).source == "permission"


async def test_a_refused_call_does_not_use_up_the_rate() -> None:
    t = Tool("t", parameters=WRITE)
    policy = GovernancePolicy.default(rules=[PermissionRule.deny("t", path="bad")], max_calls_per_minute=1)
    replies = [call("t", path="bad"), call("t", path="good"), "end"]
    result = await soon(agent(replies, t, governance=policy).run("go"))
    assert result.ok
    assert t.entered == [{"path": "good"}]


# --- hooks ----------------------------------------------------------------------------------------------


def _answers() -> dict[str, tuple[Any, str]]:
    return {
        "none": (None, "allow"),
        "true": (True, "allow"),
        "false": (False, "deny"),
        "word allow": ("allow", "allow"),
        "word deny": ("DENY", "deny"),
        "word ask": ("ask", "ask"),
        "decision": (HookDecision.ASK, "ask"),
        "outcome": (HookOutcome.deny("no"), "deny"),
        "pair": (("ask", "why"), "ask"),
        "dict": ({"decision": "deny", "message": "m"}, "deny"),
        "nonsense word": ("maybe", "deny"),
        "nonsense": (object(), "deny"),
        "number": (1, "deny"),
    }


@pytest.mark.parametrize("answer", list(_answers()))
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_what_a_gate_may_say(answer: str, kind: str) -> None:
    said, expected = _answers()[answer]

    async def slowly(**_: Any) -> Any:
        await asyncio.sleep(0)
        return said

    t = Tool("t")
    built = agent([call("t"), "end"], t)
    built.on("before_tool", slowly if kind == "async" else lambda **_: said)
    result = await soon(built.run("go"))
    if expected == "allow":
        assert result.ok
        assert len(t.entered) == 1
    elif expected == "deny":
        assert result.ok
        assert t.entered == []
        assert _decided(result).source == "hook"
    else:
        assert result.state is RunState.WAITING
        assert t.entered == []
        assert result.pending[0].origin == "hook"


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_gate_that_raises_refuses(kind: str) -> None:
    def broken(**_: Any) -> None:
        raise RuntimeError("hook bug")

    async def broken_later(**_: Any) -> None:
        raise RuntimeError("hook bug")

    t = Tool("t")
    built = agent([call("t"), "end"], t)
    built.on("before_tool", broken if kind == "sync" else broken_later)
    result = await soon(built.run("go"))
    assert t.entered == []
    assert _decided(result).source == "hook"
    assert "hook bug" in _decided(result).reason


async def test_the_gate_of_a_tool_is_told_what_the_facts_promise() -> None:
    seen: list[dict[str, Any]] = []
    built = agent([call("t", x=1), "end"], Tool("t"))
    built.on("before_tool", lambda **payload: seen.append(payload))
    result = await soon(built.run("go"))
    (payload,) = seen
    assert payload["tool_name"] == "t"
    assert payload["arguments"] == {"x": 1}
    assert payload["tool_call_id"] == "call_1"
    assert payload["iteration"] == 1
    assert payload["run_id"] == result.run_id
    assert payload["event_name"] == "before_tool"


async def test_an_edit_is_what_runs_and_what_is_recorded() -> None:
    t = Tool("t", parameters=WRITE)
    built = agent([call("t", path="/etc"), "end"], t)
    built.on("before_tool", lambda **_: HookOutcome.edit(path="/tmp"))
    result = await soon(built.run("go"))
    assert t.entered == [{"path": "/tmp"}]
    assert _decided(result).arguments == '{"path":"/tmp"}'


async def test_each_gate_sees_the_edits_before_it_and_so_do_rules_and_vetoes() -> None:
    seen: list[Any] = []
    policy = GovernancePolicy.default(vetoes=[veto_when(lambda name, args: bool(seen.append(args["path"])))])
    built = agent([call("t", path="1"), "end"], t := Tool("t", parameters=WRITE), governance=policy)
    built.on(
        "before_tool", lambda arguments, **_: seen.append(arguments["path"]) or HookOutcome.edit(path="2")
    )
    built.on(
        "before_tool", lambda arguments, **_: seen.append(arguments["path"]) or HookOutcome.edit(path="3")
    )
    await soon(built.run("go"))
    assert seen == ["1", "2", "3"]
    assert t.entered == [{"path": "3"}]


async def test_an_edit_that_does_not_fit_the_schema_runs_nothing() -> None:
    t = Tool("t", parameters=WRITE)
    built = agent([call("t", path="x"), "end"], t)
    built.on("before_tool", lambda **_: HookOutcome.edit(path=7))
    result = await soon(built.run("go"))
    assert result.ok
    assert t.entered == []
    assert of_type(result.events, "tool.finished")[0].outcome == "error"


async def test_a_gate_that_changes_the_arguments_in_place_cannot_split_what_is_judged_from_what_runs() -> (
    None
):
    """Either the change counts everywhere or nowhere: a veto must judge exactly what will run."""
    judged: list[str] = []
    policy = GovernancePolicy.default(
        vetoes=[veto_when(lambda name, args: bool(judged.append(args["path"])))]
    )

    def meddle(arguments: dict[str, Any], **_: Any) -> None:
        arguments["path"] = "harmless"

    built = agent([call("t", path="dangerous"), "end"], t := Tool("t", parameters=WRITE), governance=policy)
    built.on("before_tool", meddle)
    await soon(built.run("go"))
    assert [args["path"] for args in t.entered] == judged


async def test_gates_of_run_and_model() -> None:
    for name in ("before_run", "before_llm"):
        provider = ScriptedProvider(["end"])
        built = Agent(model=provider)
        built.on(name, lambda **_: HookOutcome.deny("closed today"))
        result = await soon(built.run("go"))
        assert result.state is RunState.FAILED
        assert result.error is not None
        assert result.error.code == "denied"
        assert "closed today" in result.error.message
        assert provider.requests == []


@pytest.mark.parametrize("name", ["before_run", "before_llm"])
@pytest.mark.parametrize("verdict", ["approve", "deny"])
async def test_a_gate_of_run_or_model_that_asks(name: str, verdict: str) -> None:
    provider = ScriptedProvider([call("t"), "end"])
    built = Agent(model=provider, tools=[Tool("t")])
    built.on(name, lambda **_: HookOutcome.ask("sure?"))
    session = built.session()
    result = await soon(session.run("go"))
    rounds = 0
    while result.state is RunState.WAITING:
        rounds += 1
        (request,) = result.pending
        assert request.prompt == "sure?"
        assert request.call_id == ""
        answer = request.approve() if verdict == "approve" else request.deny("not now")
        result = await soon(session.resume(result.run_id, [answer]).wait())
    if verdict == "approve":
        assert result.ok
        assert rounds == (1 if name == "before_run" else 2)
    else:
        assert result.state is RunState.FAILED
        assert provider.requests == []
        assert result.error is not None
        assert result.error.code == "denied"


async def test_before_run_is_asked_once() -> None:
    asked: list[str] = []
    built = agent([call("t"), call("t"), "end"], Tool("t"))
    built.on("before_run", lambda **payload: asked.append(payload["prompt"]))
    await soon(built.run("go"))
    assert asked == ["go"]


async def test_the_gate_of_the_model_may_edit_the_window_for_one_call_only() -> None:
    provider = ScriptedProvider([call("t"), "end"])
    built = Agent(model=provider, tools=[Tool("t")])
    built.on("before_llm", lambda messages, iteration, **_: HookOutcome.edit() if iteration > 1 else {
        "arguments": [*messages, messages[0]]})  # fmt: skip
    result = await soon(built.run("go"))
    assert len(provider.requests[0].messages) == 2
    assert result.state in (RunState.COMPLETED, RunState.FAILED)
    assert len(result.messages) == 4 or result.state is RunState.FAILED


# --- modes and rules ---------------------------------------------------------------------------------

_TOOLS: dict[str, dict[str, Any]] = {
    "reads": {"read_only": True},
    "writes": {},
    "edits": {"destructive": True, "meta": {"kind": "edit"}},
    "wipes": {"destructive": True},
    "asks": {"needs_approval": True},
    "wipes freely": {"destructive": True, "needs_approval": False},
}
_MODES: dict[PermissionMode, dict[str, str]] = {
    PermissionMode.DEFAULT: dict(zip(_TOOLS, ["run", "run", "ask", "ask", "ask", "run"], strict=True)),
    PermissionMode.PLAN: dict(zip(_TOOLS, ["run", "deny", "deny", "deny", "deny", "deny"], strict=True)),
    PermissionMode.SUPERVISED: dict(zip(_TOOLS, ["run", "ask", "ask", "ask", "ask", "ask"], strict=True)),
    PermissionMode.ACCEPT_EDITS: dict(zip(_TOOLS, ["run", "run", "run", "ask", "ask", "run"], strict=True)),
    PermissionMode.AUTO: dict(zip(_TOOLS, ["run", "run", "run", "run", "run", "run"], strict=True)),
}


@pytest.mark.parametrize("mode", list(PermissionMode))
@pytest.mark.parametrize("kind", list(_TOOLS))
async def test_modes(mode: PermissionMode, kind: str) -> None:
    t = Tool("t", **_TOOLS[kind])
    result = await soon(
        agent([call("t"), "end"], t, governance=GovernancePolicy.default(mode=mode)).run("go")
    )
    got = "run" if t.entered else "ask" if result.state is RunState.WAITING else _decided(result).verdict
    assert got == _MODES[mode][kind]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([PermissionRule.allow("t"), PermissionRule.deny("t")], "deny"),
        ([PermissionRule.allow("t"), PermissionRule.ask("t")], "ask"),
        ([PermissionRule.ask("t"), PermissionRule.deny("*")], "deny"),
        ([PermissionRule.allow("t")], "run"),
        ([PermissionRule.allow("other*")], "ask"),
        ([PermissionRule.deny("t", path="Production")], "deny"),
        ([PermissionRule.deny("t", path="staging")], "ask"),
        ([PermissionRule.allow("t", path="*")], "run"),
        ([PermissionRule.allow("t", mode="*")], "run"),
        ([PermissionRule.allow("t", mode="x*")], "ask"),
    ],
    ids=str,
)
async def test_rules(rules: list[PermissionRule], expected: str) -> None:
    t = Tool("t", parameters=WRITE, destructive=True)
    policy = GovernancePolicy.default(rules=rules)
    result = await soon(agent([call("t", path=" \uff50roduction "), "end"], t, governance=policy).run("go"))
    got = "run" if t.entered else "ask" if result.state is RunState.WAITING else _decided(result).verdict
    assert got == expected


async def test_a_veto_stands_above_allow_rules_auto_mode_hooks_and_humans() -> None:
    t = Tool("t", destructive=True)
    veto = veto_when(lambda name, args: True)
    policy = GovernancePolicy.default(
        mode=PermissionMode.AUTO, rules=[PermissionRule.allow("*")], vetoes=[veto]
    )
    built = agent([call("t"), "end"], t, governance=policy, human=lambda request: True)
    built.on("before_tool", lambda **_: HookOutcome.allow())
    result = await soon(built.run("go"))
    assert t.entered == []
    assert _decided(result).source == "veto"


async def test_a_veto_declared_while_a_human_thinks_still_holds() -> None:
    t = Tool("t", destructive=True)
    built = agent([call("t"), "end"], t)
    session = built.session()
    waiting = await soon(session.run("go"))
    veto = veto_when(lambda name, args: True)
    built.engine.governance = GovernancePolicy.default(vetoes=[veto])
    result = await soon(session.resume(None, [waiting.pending[0].approve()]).wait())
    assert result.ok
    assert t.entered == []
    assert of_type(result.events, "tool.decided")[-1].source == "veto"


async def test_a_deny_rule_declared_while_a_human_thinks_still_holds() -> None:
    t = Tool("t", destructive=True)
    built = agent([call("t"), "end"], t)
    session = built.session()
    waiting = await soon(session.run("go"))
    built.engine.governance = GovernancePolicy.deny_all()
    result = await soon(session.resume(None, [waiting.pending[0].approve()]).wait())
    assert result.ok
    assert t.entered == []


async def test_on_denial_stop_ends_the_run() -> None:
    t = Tool("t")
    policy = GovernancePolicy.default(rules=[PermissionRule.deny("t", reason="no")], on_denial="stop")
    result = await soon(
        agent([[call("t"), call("ok")], "end"], t, ok := Tool("ok"), governance=policy).run("go")
    )
    assert result.state is RunState.FAILED
    assert result.error is not None
    assert result.error.code == "tool_denied"
    assert ok.entered == []
    assert faults_of_pairing(result.messages) is None


@pytest.mark.parametrize("verdict", ["deny"])
async def test_on_denial_stop_counts_a_humans_no(verdict: str) -> None:
    policy = GovernancePolicy.default(on_denial="stop")
    result = await soon(
        agent([call("d"), "end"], Tool("d", destructive=True), governance=policy, human=lambda r: False).run(
            "go"
        )
    )
    assert result.state is RunState.FAILED
    assert result.error is not None
    assert result.error.code == "tool_denied"


# --- rate limit -----------------------------------------------------------------------------------------


async def test_the_rate_counts_failed_calls_and_forgets_after_a_minute() -> None:
    clock = Clock()

    def fails(args: dict[str, Any]) -> str:
        clock.now += args["wait"]
        raise ValueError("no")

    t = Tool("t", fails)
    policy = GovernancePolicy.default(max_calls_per_minute=2)
    replies = [
        call("t", wait=1),
        call("t", wait=2),
        call("t", wait=3),
        call("other"),
        "end",
        call("t", wait=0),
        "end",
    ]
    built = agent(replies, t, Tool("other"), governance=policy)
    built.engine.clock = built.engine.pace = clock
    session = built.session()
    first = await soon(session.run("go"))
    assert [event.outcome for event in of_type(first.events, "tool.finished")] == [
        "error",
        "error",
        "denied",
        "ok",
    ]
    clock.now += 58
    await soon(session.run("again"))
    assert len(t.entered) == 3


async def test_rates_of_two_sessions_are_apart() -> None:
    t = Tool("t")
    policy = GovernancePolicy.default(max_calls_per_minute=1)
    built = agent([call("t"), "end"] * 2, t, governance=policy)
    for _ in range(2):
        assert (await soon(built.session().run("go"))).denied == ()
    assert len(t.entered) == 2


async def test_parallel_calls_count_one_by_one() -> None:
    t = Tool("t", concurrency_safe=True)
    policy = GovernancePolicy.default(max_calls_per_minute=3)
    result = await soon(agent([[call("t", n=n) for n in range(9)], "end"], t, governance=policy).run("go"))
    assert len(t.entered) == 3
    assert len(result.denied) == 6


async def test_an_approved_call_counts_too() -> None:
    d = Tool("d", destructive=True)
    policy = GovernancePolicy.default(max_calls_per_minute=1)
    built = agent([[call("d", n=1), call("d", n=2)], "end"], d, governance=policy, human=lambda request: True)
    result = await soon(built.run("go"))
    assert len(d.entered) == 1
    assert len(result.denied) == 1


async def test_a_veto_that_raises_refuses() -> None:
    def broken(name: str, args: dict[str, Any]) -> bool:
        raise RuntimeError("bug")

    t = Tool("t")
    policy = GovernancePolicy.default(vetoes=[veto_when(broken)])
    result = await soon(agent([call("t"), "end"], t, governance=policy).run("go"))
    assert t.entered == []
    assert _decided(result).source == "veto"


# --- words that are none, and what governs by now -----------------------------------------------------

_NO_WORD: dict[str, Any] = {
    "another key": {"action": "deny"},
    "a slip": {"decison": "deny"},
    "a key of its own": {"allow": False},
    "bare arguments": {"env": "staging"},
    "nothing in it": {},
    "a word of no meaning": "dney",
    "three of something": ("deny", "a", "b"),
    "a number": 0,
    "an outcome by a slip": lambda: HookOutcome("dney"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("said", _NO_WORD.values(), ids=_NO_WORD.keys())
async def test_review_a_what_a_gate_says_and_nobody_understands_denies(said: Any) -> None:
    t = Tool("t")
    built = agent([call("t"), "end"], t)
    built.on("before_tool", lambda **_: said() if callable(said) else said)
    result = await soon(built.run("go"))
    assert t.entered == []
    assert _decided(result).verdict == "deny"


@pytest.mark.parametrize("word", ["deny", "ask", "DENY "])
async def test_review_a_an_outcome_may_be_given_by_its_word(word: str) -> None:
    t = Tool("t")
    built = agent([call("t"), "end"], t)
    built.on("before_tool", lambda **_: HookOutcome(word, "no"))  # type: ignore[arg-type]
    await soon(built.run("go"))
    assert t.entered == []


async def test_review_a_before_llm_may_call_its_messages_by_their_name() -> None:
    provider = ScriptedProvider(["end"])
    built = Agent(model=provider)
    built.on("before_llm", lambda **_: {"messages": [ChatMessage(Role.USER, "redacted")]})
    await soon(built.run("my secret"))
    assert [m.content for m in provider.requests[0].messages] == ["redacted"]


def _stricter(kind: str) -> tuple[dict[str, Any], Any]:
    if kind == "rule":
        return {"governance": GovernancePolicy(rules=(PermissionRule.deny("t"),))}, None
    if kind == "veto":
        return {"safety_rules": [veto_when(lambda name, args: True)]}, None
    return {}, lambda **_: False


@pytest.mark.parametrize("kind", ["rule", "veto", "gate"])
async def test_review_b_what_was_allowed_and_not_entered_is_decided_anew_on_resume(kind: str) -> None:
    whole = await soon(agent([call("t"), "end"], Tool("t")).session("s").run("go"))
    store = InMemorySessionStore()
    [decided] = of_type(whole.events, "tool.decided")
    lease = await store.acquire("s", owner="dead", ttl=60)
    await store.append(lease, whole.events[: decided.seq])
    await store.release(lease)
    t = Tool("t")
    options, gate = _stricter(kind)
    built = agent(["end"], t, session_store=store, **options)
    if gate:
        built.on("before_tool", gate)
    assert (await soon(built.session("s").resume(whole.run_id).wait())).ok
    assert t.entered == []


@pytest.mark.parametrize("kind", ["rule", "veto", "gate"])
async def test_review_b_what_was_approved_meets_what_governs_by_now(kind: str) -> None:
    store = InMemorySessionStore()
    first = agent([call("t"), "end"], Tool("t", destructive=True), session_store=store)
    waiting = await soon(first.session("s").run("go"))
    t = Tool("t", destructive=True)
    options, gate = _stricter(kind)
    built = agent(["end"], t, session_store=store, **options)
    if gate:
        built.on("before_tool", gate)
    await soon(built.session("s").resume(answers=waiting.pending[0].approve()).wait())
    assert t.entered == []


async def test_a_gate_does_not_edit_what_was_approved() -> None:
    t = Tool("t", destructive=True)
    built = agent([call("t", n=1), "end"], t, session_store=InMemorySessionStore())
    edits = iter([{"n": 2}, {"n": 3}])
    built.on("before_tool", lambda **_: HookOutcome(arguments=next(edits)))
    session = built.session("s")
    waiting = await soon(session.run("go"))
    assert (await soon(session.resume(answers=waiting.pending[0].approve()).wait())).ok
    assert t.entered == [{"n": 2}]
