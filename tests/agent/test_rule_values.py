"""Rules and vetoes about values that an argument can never have are errors; those that can have them hold."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from loom import Agent, GovernancePolicy, PermissionRule, SafetyRule, tool
from loom.errors import ConfigError
from loom.policies.rule_check import RuleCheck
from loom.testing import ScriptedProvider, call

EFFECTS: list[str] = []


@pytest.fixture(autouse=True)
def _no_effects() -> None:
    EFFECTS.clear()


@tool(description="Ship a release to one of the places")
def release(
    place: Literal["production", "staging"],
    copies: int = 1,
    share: float = 0.5,
    notify: bool = False,
    tags: list[str] | None = None,
    note: str = "",
    extra: dict[str, int] | None = None,
) -> str:
    EFFECTS.append(place)
    return "released"


def _deny(**patterns: str) -> PermissionRule:
    return PermissionRule.deny("release", **patterns)


def _veto(**conditions: Any) -> SafetyRule:
    return SafetyRule(name="n", reason="r", tool_names=["release"], **conditions)


def _agent(rule: PermissionRule | SafetyRule, *tools: Any, script: Any = ()) -> Agent[str, None]:
    policy = (
        GovernancePolicy(rules=[rule])
        if isinstance(rule, PermissionRule)
        else GovernancePolicy(vetoes=[rule])
    )
    return Agent(model=ScriptedProvider([*script, "end"]), tools=tools or [release], governance=policy)


def _found(rule: PermissionRule | SafetyRule, *tools: Any) -> RuleCheck:
    [found] = _agent(rule, *tools).check()
    return found


NEVER: dict[str, tuple[PermissionRule | SafetyRule, str]] = {
    "a word that is not listed": (_deny(place="prod"), "'production', 'staging'"),
    "a veto on a word that is not listed": (_veto(arg_equals={"place": "prod"}), "'production', 'staging'"),
    "a number for a listed word": (_veto(arg_equals={"place": 3}), "'production', 'staging'"),
    "a list for a listed word": (_veto(arg_equals={"place": ["production"]}), "'production', 'staging'"),
    "a beginning that none has": (_veto(arg_prefixes={"place": "test"}), "'production', 'staging'"),
    "a text that none has": (_veto(arg_contains_any={"place": ["test", "dev"]}), "'production', 'staging'"),
    "a word for a whole number": (_deny(copies="five"), "type integer"),
    "a fraction for a whole number": (_deny(copies="1.5"), "type integer"),
    "a veto on a fraction": (_veto(arg_equals={"copies": 1.5}), "type integer"),
    "words for a whole number": (_deny(copies="five*"), "type integer"),
    "a beginning of a whole number": (_veto(arg_prefixes={"copies": "x"}), "type integer"),
    "a word for a number": (_deny(share="half"), "type number"),
    "a list for a number": (_veto(arg_equals={"share": [1]}), "type number"),
    "yes for a truth value": (_deny(notify="yes"), "True, False"),
    "one for a truth value": (_deny(notify="1"), "True, False"),
    "a veto on yes": (_veto(arg_equals={"notify": "yes"}), "True, False"),
    "a list for text": (_veto(arg_equals={"note": ["a", "b"]}), "type string"),
    "text for a list": (_veto(arg_equals={"tags": "a"}), "type array"),
    "a pattern for a list": (_deny(tags="prod"), "type array"),
    "a beginning of a list": (_veto(arg_prefixes={"tags": "prod"}), "type array"),
    "a list for an object": (_veto(arg_equals={"extra": [1]}), "type object"),
    "one of two conditions": (_deny(note="x", place="prod"), "'production', 'staging'"),
}


@pytest.mark.parametrize(("rule", "told"), NEVER.values(), ids=NEVER.keys())
async def test_review_a_a_rule_on_a_value_an_argument_never_has_keeps_a_run_from_beginning(
    rule: PermissionRule | SafetyRule, told: str
) -> None:
    found = _found(rule)
    assert (found.level, told in found.problem) == ("error", True), found
    with pytest.raises(ConfigError, match="can never be"):
        await _agent(rule).run("go")


HOLDS: dict[str, tuple[PermissionRule | SafetyRule, dict[str, Any]]] = {
    "a listed word": (_deny(place=" PRODUCTION"), {}),
    "a beginning": (_deny(place="prod*"), {}),
    "a set of signs": (_deny(copies="[0-9]"), {"copies": 3}),
    "a whole number": (_deny(copies="3"), {"copies": 3}),
    "digits": (_deny(copies="3?"), {"copies": 31}),
    "one number in two spellings": (_deny(share="1"), {"share": 1.0}),
    "the other way round": (_deny(share="1.0"), {"share": 1}),
    "a truth value": (_deny(notify="true"), {"notify": True}),
    "part of a list": (_deny(tags="*prod*"), {"tags": ["prod"]}),
    "nothing given": (_deny(copies="*"), {}),
    "a veto on a truth value in words": (_veto(arg_equals={"notify": "true"}), {"notify": True}),
    "a veto on a number in words": (_veto(arg_equals={"copies": "1"}), {"copies": 1}),
    "a veto on a number as text": (_veto(arg_equals={"note": 7}), {"note": "7"}),
    "a veto on a truth value as text": (_veto(arg_equals={"note": True}), {"note": "True"}),
    "a veto on a list": (_veto(arg_equals={"tags": ["a"]}), {"tags": ["a"]}),
    "a veto on an object": (_veto(arg_equals={"extra": {"a": 1}}), {"extra": {"a": 1}}),
    "a veto on the beginning of a number": (_veto(arg_prefixes={"copies": "-"}), {"copies": -1}),
    "a veto on one of two": (_veto(arg_contains_any={"place": ["test", "duct"]}), {}),
}


@pytest.mark.parametrize(("rule", "given"), HOLDS.values(), ids=HOLDS.keys())
async def test_review_a_a_rule_on_a_value_that_comes_holds(
    rule: PermissionRule | SafetyRule, given: dict[str, Any]
) -> None:
    script = [call("release", place="production", **given)]
    found = _found(rule)
    assert (found.level, found.problem) == ("ok", "")
    await _agent(rule, script=script).run("go")
    assert EFFECTS == []


async def test_review_a_text_that_spells_no_such_value_is_let_through() -> None:
    script = [call("release", place="staging", copies=2, notify=False, note="")]
    for veto in (
        _veto(arg_equals={"notify": "true"}),
        _veto(arg_equals={"copies": "1"}),
        _veto(arg_equals={"note": 7}),
        _veto(arg_equals={"copies": "3"}),
    ):
        await _agent(veto, script=script).run("go")
    assert EFFECTS == ["staging"] * 4


@tool(description="Deploy here")
def deploy_a(env: str) -> str:
    EFFECTS.append(f"a {env}")
    return "deployed"


@tool(description="Deploy there")
def deploy_b(environment: str) -> str:
    EFFECTS.append(f"b {environment}")
    return "deployed"


@pytest.mark.parametrize(
    "rule",
    [
        PermissionRule.deny("deploy_*", env="prod*"),
        PermissionRule.ask("deploy_*", env="prod*"),
        SafetyRule(name="n", reason="r", tool_names=["deploy_*"], arg_equals={"env": "prod"}),
        SafetyRule(name="n", reason="r", tool_names=["deploy_a", "deploy_b"], arg_prefixes={"env": "p"}),
    ],
    ids=["deny", "ask", "veto", "names"],
)
def test_review_a_a_matched_tool_without_the_argument_is_named(rule: Any) -> None:
    found = _found(rule, deploy_a, deploy_b)
    assert (found.level, found.touches) == ("warning", ("deploy_a",))
    assert "deploy_b has no argument 'env'" in found.problem


def test_review_a_an_allow_rule_that_leaves_a_tool_to_be_asked_about_is_no_warning() -> None:
    found = _found(PermissionRule.allow("deploy_*", env="dev"), deploy_a, deploy_b)
    assert (found.level, found.touches) == ("ok", ("deploy_a",))


SCHEMAS: dict[str, tuple[dict[str, Any], bool]] = {
    "a reference": ({"$ref": "#/$defs/Place"}, False),
    "a union": ({"anyOf": [{"$ref": "#/$defs/Place"}, {"type": "null"}]}, False),
    "a union with text": ({"oneOf": [{"const": "x"}, {"type": "string"}]}, True),
    "a constant": ({"const": "x"}, False),
    "several types": ({"type": ["integer", "null"]}, False),
    "several types, text among them": ({"type": ["integer", "string"]}, True),
    "nothing said": ({}, True),
    "a reference to nothing": ({"$ref": "#/$defs/None"}, True),
    "a schema that is none": (True, True),  # type: ignore[dict-item]
    "itself": ({"$ref": "#/$defs/Self"}, True),
    "a default that is not listed": ({"enum": ["x"], "default": "prod"}, True),
}


@pytest.mark.parametrize(("schema", "possible"), SCHEMAS.values(), ids=SCHEMAS.keys())
def test_review_a_schemas_of_other_systems_are_read(schema: dict[str, Any], possible: bool) -> None:
    from loom.policies.rule_check import check_rules
    from loom.types import ToolSpec

    defs = {"Place": {"enum": ["x", "y"]}, "Self": {"$ref": "#/$defs/Self"}}
    spec = ToolSpec(
        "t", "d", {"type": "object", "properties": {"p": schema}, "required": ["p"], "$defs": defs}
    )
    [found] = check_rules(GovernancePolicy(rules=[PermissionRule.deny("t", p="prod")]), [spec])
    assert found.level == ("ok" if possible else "error")
