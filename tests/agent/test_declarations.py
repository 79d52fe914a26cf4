"""A declaration that cannot mean anything is an error where it is written, or when the tools are known."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from loom import (
    Agent,
    Answer,
    CallbackHuman,
    Files,
    Generation,
    GovernancePolicy,
    Instructions,
    Model,
    PermissionMode,
    PermissionRule,
    Price,
    Runtime,
    RuntimeLimits,
    RuntimeTask,
    SafetyEvaluator,
    SafetyRule,
    SessionRestorePolicy,
    SqliteSessionStore,
    TerminalHuman,
    Web,
    tool,
)
from loom.errors import ConfigError
from loom.llm.limits import Allowance
from loom.policies.routing import ModelStrengths
from loom.testing import ScriptedProvider, call
from loom.tools.base import checked_spec
from loom.types import RunState, ToolRetries, ToolSpec

EFFECTS: list[str] = []


@tool(description="Deploy to an environment")
def deploy(environment: str) -> str:
    EFFECTS.append(environment)
    return "deployed"


@tool(description="Give money back", destructive=True)
def refund(order: str, reason: str) -> str:
    EFFECTS.append(order)
    return "refunded"


@pytest.fixture(autouse=True)
def _no_effects() -> None:
    EFFECTS.clear()


def _agent(*tools: Any, **options: Any) -> Agent[str, None]:
    return Agent(model=ScriptedProvider(["end"] * 3), tools=tools, **options)


IMPOSSIBLE: dict[str, Callable[[], Any]] = {
    "mode of no meaning": lambda: GovernancePolicy(mode="plann"),  # type: ignore[arg-type]
    "mode that is no word": lambda: GovernancePolicy(mode=3),  # type: ignore[arg-type]
    "on_denial": lambda: GovernancePolicy(on_denial="stp"),  # type: ignore[arg-type]
    "rules of text": lambda: GovernancePolicy(rules=["deploy"]),  # type: ignore[arg-type]
    "rules that are text": lambda: GovernancePolicy.default(rules="deploy"),  # type: ignore[arg-type]
    "one rule": lambda: GovernancePolicy(rules=PermissionRule.deny("deploy")),  # type: ignore[arg-type]
    "vetoes of dicts": lambda: GovernancePolicy(vetoes=[{"name": "x"}]),  # type: ignore[arg-type, list-item]
    "a rate of text": lambda: GovernancePolicy(max_calls_per_minute="3"),  # type: ignore[arg-type]
    "a rate of True": lambda: GovernancePolicy(max_calls_per_minute=True),
    "a ttl that is no number": lambda: GovernancePolicy(approval_ttl=float("nan")),
    "redaction by a word": lambda: GovernancePolicy(redact_outbound="no"),  # type: ignore[arg-type]
    "an action": lambda: PermissionRule("forbid", "deploy"),  # type: ignore[arg-type]
    "a rule for no tool": lambda: PermissionRule.deny(" "),
    "a pattern that is no text": lambda: PermissionRule.deny("deploy", environment=["prod"]),  # type: ignore[arg-type]
    "a reason that is no text": lambda: PermissionRule("deny", "deploy", {}, 7),  # type: ignore[arg-type]
    "names as text": lambda: SafetyRule.block_tool(name="n", tool_names="deploy", reason="r"),
    "no names": lambda: SafetyRule.block_tool(name="n", tool_names=[], reason="r"),
    "an empty name": lambda: SafetyRule.block_tool(name="n", tool_names=[""], reason="r"),
    "no condition": lambda: SafetyRule(name="n", reason="r"),
    "a veto without a name": lambda: SafetyRule.block_tool(name="", tool_names=["t"], reason="r"),
    "no values": lambda: SafetyRule.when_argument_contains_any(
        name="n", tool_name="t", argument="a", values=[], reason="r"
    ),
    "values as text": lambda: SafetyRule.when_argument_contains_any(
        name="n", tool_name="t", argument="a", values="abc", reason="r"
    ),
    "an empty prefix": lambda: SafetyRule.when_argument_startswith(
        name="n", tool_name="t", argument="a", prefix="", reason="r"
    ),
    "a bare predicate": lambda: SafetyRule.custom(name="n", reason="r", evaluator=lambda n, a: True),  # type: ignore[arg-type]
    "an async predicate": lambda: SafetyEvaluator.callable(_async_predicate),  # type: ignore[arg-type]
    "a predicate that is none": lambda: SafetyEvaluator(7),  # type: ignore[arg-type]
    "constraints as text": lambda: Instructions(constraints="never deploy"),  # type: ignore[arg-type]
    "constraints of numbers": lambda: Instructions(constraints=[3]),  # type: ignore[list-item]
    "a content that is no text": lambda: Instructions(content=3),  # type: ignore[arg-type]
    "a store of no name": lambda: SqliteSessionStore(""),
    "a store of a number": lambda: SqliteSessionStore(3),  # type: ignore[arg-type]
    "a store of bytes": lambda: SqliteSessionStore(b"x.db"),  # type: ignore[arg-type]
    "a store that waits for less than nothing": lambda: SqliteSessionStore("x.db", busy_timeout=-1),
    "a store that waits for text": lambda: SqliteSessionStore("x.db", busy_timeout="1"),  # type: ignore[arg-type]
    "a clock that is a number": lambda: SqliteSessionStore("x.db", clock=3),  # type: ignore[arg-type]
    "a callback that is a number": lambda: CallbackHuman(3),  # type: ignore[arg-type]
    "a callback without a request": lambda: CallbackHuman(lambda: True),  # type: ignore[arg-type, misc]
    "a verdict that is none": lambda: Answer(request_id="r", verdict="yes"),  # type: ignore[arg-type]
    "a tool described by a number": lambda: _agent().as_tool(name="n", description=3),  # type: ignore[arg-type]
    "a goal that is a number": lambda: RuntimeTask(3),  # type: ignore[arg-type]
    "criteria as text": lambda: RuntimeTask("go", criteria="short"),  # type: ignore[arg-type]
    **{
        f"a price of {value!r}": lambda value=value: Price(input=value, output=1)  # type: ignore[misc]
        for value in ("1", None, float("nan"), float("inf"), -1, True)
    },
    "a price of searches": lambda: Price(1, 1, web_search=-1),
    "a predicate without arguments": lambda: SafetyEvaluator.callable(lambda: True),  # type: ignore[arg-type, misc]
    **{
        f"a veto on {value!r:.12}": lambda value=value: SafetyRule.when_argument_equals(  # type: ignore[misc]
            name="n", tool_name="t", argument="a", value=value, reason="r"
        )
        for value in ({"prod"}, object(), float("nan"), ("prod",), ["prod", {"x"}], {"a": object()}, b"prod")
    },
    "limits as a dict": lambda: Runtime(limits={"max_iterations": 3}),  # type: ignore[arg-type]
    "governance as a dict": lambda: Runtime(governance={"mode": "plan"}),  # type: ignore[arg-type]
    "governance as a dict, in a preset": lambda: Runtime.sdk(governance={}),  # type: ignore[arg-type]
    "restore as text": lambda: Runtime(session_restore="window"),  # type: ignore[arg-type]
    "output attempts": lambda: Runtime(output_attempts=0),
    "no iterations": lambda: RuntimeLimits(max_iterations=0),
    "no tokens": lambda: RuntimeLimits(max_tokens=0),
    "no seconds": lambda: RuntimeLimits(max_seconds=0),
    "no money": lambda: RuntimeLimits(max_cost=0),
    "a timeout of text": lambda: RuntimeLimits(tool_timeout="5"),  # type: ignore[arg-type]
    "a window of text": lambda: SessionRestorePolicy(max_chars="9"),  # type: ignore[arg-type]
    "a flag of text": lambda: SessionRestorePolicy(enabled="no"),  # type: ignore[arg-type]
    "a root": lambda: Files(root=3),  # type: ignore[arg-type]
    "bytes of text": lambda: Files(max_read_bytes="9"),  # type: ignore[arg-type]
    "gitignore by a word": lambda: Files(respect_gitignore="no"),  # type: ignore[arg-type]
    "hosts as text": lambda: Web(allow_hosts="a.org"),  # type: ignore[arg-type]
    "a host of nothing": lambda: Web(allow_hosts=("",)),
    "redirects": lambda: Web(max_redirects=-1),
    "a human that is a number": lambda: _agent(human=4),
    "a human that is a class": lambda: _agent(human=TerminalHuman),
    "generation as a dict": lambda: _agent(generation={"temperature": 1}),
    "runtime as a dict": lambda: _agent(runtime={"limits": {}}),
    "an empty runtime": lambda: _agent(runtime={}),
    "governance as a dict for an agent": lambda: _agent(governance={}),
    "safety rules as dicts": lambda: _agent(safety_rules=[{"name": "x"}]),
    "safety rules as text": lambda: _agent(safety_rules="deploy"),
    "a store as text": lambda: _agent(session_store="x.db"),
    "a store class": lambda: _agent(session_store=dict),
    "instructions as a function": lambda: _agent(instructions=lambda context: "x"),
    "instructions as a list": lambda: _agent(instructions=["x"]),
    "a model that is a number": lambda: Agent(model=4),  # type: ignore[arg-type]
    "a model that is a class": lambda: Agent(model=ScriptedProvider),  # type: ignore[arg-type]
    "one tool": lambda: Agent(model="offline", tools=deploy),  # type: ignore[arg-type]
    "tools as text": lambda: Agent(model="offline", tools="deploy"),
    "one capability": lambda: Agent(model="offline", capabilities=Files()),  # type: ignore[arg-type]
    "tools by name": lambda: _agent_of(MappingProxyType({"deploy": deploy})),
    "a timeout of text, for a model": lambda: Model.openai("m", timeout="5"),  # type: ignore[arg-type]
    "a timeout of True": lambda: Model.openai("m", timeout=True),
    "a deadline of nan": lambda: Model.openai("m", total_timeout=float("nan")),
    "a time to connect of 0": lambda: Model.openai("m", connect_timeout=0),
    "retries of text": lambda: Model.openai("m", max_retries="2"),  # type: ignore[arg-type]
    "retries of True": lambda: Model.openai("m", max_retries=True),
    "half a request at once": lambda: Model.openai("m", max_concurrent=2.0),  # type: ignore[arg-type]
    "a window of nothing": lambda: Model.openai("m", context_window=0),
    "a name that is no text": lambda: Model("openai", 5),  # type: ignore[arg-type]
    "a name of nothing": lambda: Model("openai", " "),
    "an address that is no text": lambda: Model.openai("m", api_base=5),  # type: ignore[arg-type]
    "a key that is no text": lambda: Model.openai("m", api_key=5),  # type: ignore[arg-type]
    "a variable that is no text": lambda: Model.openai("m", api_key_env=5),  # type: ignore[arg-type]
    "extensions as text": lambda: Model.openai("m", extensions="x"),  # type: ignore[arg-type]
    "extensions as a list": lambda: Model("openai", "m", extensions=["x"]),  # type: ignore[arg-type]
    "certificates of a number": lambda: Model.openai("m", ca_bundle=5),  # type: ignore[arg-type]
    "certificates of bytes": lambda: Model("openai", "m", ca_bundle=b"x"),  # type: ignore[arg-type]
    "a price of text": lambda: Price("1", 2),  # type: ignore[arg-type]
    "a price below nothing": lambda: Price(1, 2, cache_read=-1),
    "a price of nan": lambda: Price(1, float("nan")),
    "a temperature of True": lambda: Generation(temperature=True),
    "a temperature beyond": lambda: Generation(temperature=3),
    "half a token": lambda: Generation(max_output_tokens=1.0),  # type: ignore[arg-type]
    "extensions of a generation": lambda: Generation(extensions=[]),  # type: ignore[arg-type]
    "a role that is no text": lambda: Instructions(role=3),  # type: ignore[arg-type]
    "strength of text": lambda: ModelStrengths(speed="9"),  # type: ignore[arg-type]
    "an allowance of text": lambda: Allowance(max_concurrent="3"),  # type: ignore[arg-type]
    "an allowance of half": lambda: Allowance(open_after=2.5),  # type: ignore[arg-type]
    "a rest of nan": lambda: Allowance(reset_after=float("nan")),
    "certificates of the web": lambda: Web(ca_bundle=5),  # type: ignore[arg-type]
    "certificates of a class": lambda: Web(ca_bundle=Path),  # type: ignore[arg-type]
    "a way out of a number": lambda: Web(proxy=5),  # type: ignore[arg-type]
    "a limit of inf": lambda: RuntimeLimits(max_cost=float("inf")),
    "half a call": lambda: RuntimeLimits(max_tool_calls=1.5),  # type: ignore[arg-type]
    "a tool with a timeout of True": lambda: checked_spec(ToolSpec("t", "", timeout=True)),
    "a tool with a delay of True": lambda: checked_spec(
        ToolSpec("t", "", read_only=True, retries=ToolRetries(1, delay=True))
    ),
}


def _agent_of(tools: Any) -> Agent[str, None]:
    return Agent(model="offline", tools=tools)


async def _async_predicate(name: str, arguments: dict[str, Any]) -> bool:
    return True


@pytest.mark.parametrize("declare", IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_review_a_what_cannot_mean_anything_is_refused_where_it_is_written(
    declare: Callable[[], Any],
) -> None:
    with pytest.raises(ConfigError):
        declare()


def test_review_a_reasons_are_keywords() -> None:
    with pytest.raises(TypeError):
        PermissionRule.allow("deploy", "staging")  # type: ignore[misc]


@pytest.mark.parametrize("mode", ["plan", "supervised", "accept-edits", "auto", PermissionMode.PLAN])
def test_review_a_a_mode_may_be_a_word(mode: Any) -> None:
    assert GovernancePolicy(mode=mode).mode is PermissionMode(str(mode).replace("-", "_"))


async def test_review_a_plan_mode_by_a_word_runs_nothing() -> None:
    provider = ScriptedProvider([call("deploy", environment="prod"), "end"])
    await Agent(model=provider, tools=[deploy], governance=GovernancePolicy(mode="plan")).run("go")  # type: ignore[arg-type]
    assert EFFECTS == []


def _rules(*rules: PermissionRule) -> dict[str, Any]:
    return {"governance": GovernancePolicy(rules=rules)}


def _veto(**conditions: Any) -> dict[str, Any]:
    return {"safety_rules": [SafetyRule(name="n", reason="r", **conditions)]}


IDLE: dict[str, tuple[dict[str, Any], str]] = {
    "a slip of the pen": (_rules(PermissionRule.deny("deplyo")), "did you mean 'deploy'"),
    "another case": (_rules(PermissionRule.deny("Deploy")), "did you mean 'deploy'"),
    "an argument it has not": (_rules(PermissionRule.deny("deploy", env="prod*")), "no argument 'env'"),
    "an argument none has": (_rules(PermissionRule.deny("*", environ="prod*")), "no argument 'environ'"),
    "a reason that may be an argument": (
        _rules(PermissionRule.allow("refund", reason="gift*")),
        "arguments={'reason'",
    ),
    "a veto on no tool": (_veto(tool_names=["wipe"]), "no tool 'wipe'"),
    "a veto on one tool and none": (_veto(tool_names=["deploy", "wipe"]), "no tool 'wipe'"),
    "a veto on no argument": (_veto(tool_names=["deploy"], arg_equals={"env": "prod"}), "no argument 'env'"),
    "a veto on no prefix": (_veto(tool_names=["deploy"], arg_prefixes={"env": "prod"}), "no argument 'env'"),
    "names with a comma": (_rules(PermissionRule.deny("deploy*,wipe*")), "no name has ','"),
    "a name as a set of signs": (_rules(PermissionRule.deny("[deploy]")), "did you mean 'deploy'"),
    "a pattern in another case": (_rules(PermissionRule.deny("Dep*")), "did you mean 'dep*'"),
    "a veto in another case": (_veto(tool_names=["Dep*"]), "did you mean 'dep*'"),
    "a veto with a comma": (_veto(tool_names=["deploy*,wipe*"]), "no name has ','"),
    "a regular expression": (_rules(PermissionRule.deny("deploy", environment="^prod$")), "shell-style"),
    "one with a star": (_rules(PermissionRule.deny("deploy", environment="^prod.*$")), "shell-style"),
    "one of two": (_rules(PermissionRule.deny("deploy", environment="(prod|test)")), "shell-style"),
    "a veto on no text": (_veto(arg_contains_any={"env": ["prod"]}), "no argument 'env'"),
}


@pytest.mark.parametrize(("options", "problem"), IDLE.values(), ids=IDLE.keys())
async def test_review_a_a_rule_that_would_guard_nothing_keeps_a_run_from_beginning(
    options: dict[str, Any], problem: str
) -> None:
    built = _agent(deploy, refund, **options)
    [found] = built.check()
    assert found.level == "error"
    assert problem in found.problem
    with pytest.raises(ConfigError, match=r"no tool|no argument|arguments=|shell-style"):
        await built.run("go")
    assert EFFECTS == []


async def test_review_a_an_argument_called_reason_is_matched_by_name() -> None:
    rule = PermissionRule.allow("refund", arguments={"reason": "gift*"}, reason="gifts are small")
    provider = ScriptedProvider(
        [call("refund", order="1", reason="gift"), call("refund", order="2", reason="x")]
    )
    built = Agent(model=provider, tools=[refund], **_rules(rule))
    result = await built.run("go")
    assert EFFECTS == ["1"]
    assert result.state is RunState.WAITING
    assert [(row.rule, row.touches, row.level) for row in built.check()] == [
        ("allow refund, reason='gift*'", ("refund",), "ok")
    ]


async def test_review_a_vetoes_speak_the_language_of_rules() -> None:
    veto = SafetyRule.block_tool(name="n", tool_names=["dep*"], reason="not today")
    provider = ScriptedProvider([call("deploy", environment="prod"), "end"])
    result = await Agent(model=provider, tools=[deploy], safety_rules=[veto]).run("go")
    assert EFFECTS == []
    assert result.denied


@pytest.mark.parametrize("tools", [(), (deploy,)], ids=["no tool", "a tool"])
async def test_review_a_a_rule_for_tools_to_come_is_a_warning(
    tools: tuple[Any, ...], caplog: pytest.LogCaptureFixture
) -> None:
    name = "mcp__*" if tools else "wipe"
    built = _agent(*tools, **_rules(PermissionRule.deny(name)))
    with caplog.at_level(logging.WARNING, "loom.governance"):
        assert (await built.run("go")).ok
    assert [row.level for row in built.check()] == ["warning"]
    assert name in caplog.text


async def test_review_a_a_tool_that_comes_later_is_checked_when_it_comes() -> None:
    built = _agent(deploy, **_rules(PermissionRule.deny("ref*", order_id="7*")))
    await built.run("go")
    with pytest.raises(ConfigError, match="no argument 'order_id'"):
        built.engine.tools.register(refund)  # type: ignore[arg-type]
    assert not built.engine.tools.has("refund")


def test_review_a_rules_may_name_what_only_a_child_has() -> None:
    child = _agent(refund).as_tool(name="helper", description="helps")
    [found] = _agent(child, **_rules(PermissionRule.deny("refund"))).check()
    assert (found.level, found.touches) == ("ok", ("refund",))


async def test_review_a_a_childs_idle_rule_keeps_the_parents_run_from_beginning() -> None:
    grandchild = _agent(deploy, **_rules(PermissionRule.deny("deplyo"))).as_tool(name="low", description="d")
    child = _agent(grandchild).as_tool(name="helper", description="helps")
    parent = _agent(child)
    assert [(row.level, row.rule) for row in parent.check()] == [("error", "deny deplyo")]
    with pytest.raises(ConfigError, match="did you mean 'deploy'"):
        await parent.run("go")


def test_review_a_agents_that_call_each_other_can_be_checked() -> None:
    one = _agent(deploy, **_rules(PermissionRule.deny("deploy")))
    one.tools = (*one.tools, one.as_tool(name="self", description="itself"))
    assert {row.level for row in one.check()} == {"ok"}


async def test_review_a_the_context_of_a_run_is_a_run_context() -> None:
    with pytest.raises(ConfigError, match="RunContext"):
        await _agent().run("go", context={"a": 1})  # type: ignore[arg-type]


@tool(description="Deploy where one does by default")
def ship(environment: str = "prod") -> str:
    EFFECTS.append(environment)
    return "shipped"


@pytest.mark.parametrize(
    "options",
    [
        _rules(PermissionRule.deny("ship", environment="prod*")),
        _veto(tool_names=["ship"], arg_equals={"environment": "prod"}),
        _veto(arg_prefixes={"environment": "pr"}),
    ],
    ids=["rule", "veto", "prefix"],
)
async def test_review_a_a_rule_speaks_about_the_default_of_an_argument_that_is_left_out(
    options: dict[str, Any],
) -> None:
    provider = ScriptedProvider([call("ship"), call("ship", environment="staging"), "end"])
    await Agent(model=provider, tools=[ship], **options).run("go")
    assert EFFECTS == ["staging"]
