"""What each line of a policy touches, once an agent's tools are known. Pure: from a policy and specs to findings.

A rule that names a tool or an argument which is not there guards nothing; ``refuse_idle_rules`` makes it an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from ..errors import ConfigError
from ..safety.permissions import PermissionRule, is_pattern, name_matches
from ..safety.veto import SafetyRule
from ..types import ToolSpec
from .governance import GovernancePolicy
from .rule_names import meant, name_fault
from .rule_values import Condition, conditions_of, impossible


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleCheck:
    """What one rule of an agent touches.

    ``kind`` is ``rule`` or ``veto``, ``touches`` the names of the tools it speaks about. ``level`` is ``error`` for
    one that would guard nothing (a run refuses to begin), ``warning`` for one that guards nothing yet; ``problem``
    then says why.
    """

    kind: Literal["rule", "veto"]
    rule: str
    touches: tuple[str, ...] = ()
    level: Literal["ok", "warning", "error"] = "ok"
    problem: str = ""


def check_rules(policy: GovernancePolicy, specs: Sequence[ToolSpec]) -> list[RuleCheck]:
    """One finding for each rule and veto of ``policy``, against the tools that it may meet."""
    return [*(_check(rule, specs) for rule in policy.rules), *(_check(veto, specs) for veto in policy.vetoes)]


def rules_about(policy: GovernancePolicy, name: str) -> GovernancePolicy:
    """``policy`` with those of its rules and vetoes only that name the tool or match its name."""
    return replace(
        policy,
        rules=tuple(rule for rule in policy.rules if name_matches(name, rule.tool)),
        vetoes=tuple(veto for veto in policy.vetoes if any(name_matches(name, one) for one in _names(veto))),
    )


def refuse_idle_rules(findings: Iterable[RuleCheck]) -> None:
    """Raise ConfigError for the rules that would guard nothing."""
    # guard: tests/agent/test_declarations.py
    if faults := [
        f"{found.kind} ({found.rule}): {found.problem}" for found in findings if found.level == "error"
    ]:
        raise ConfigError("; ".join(faults))


def _check(rule: PermissionRule | SafetyRule, specs: Sequence[ToolSpec]) -> RuleCheck:
    names, wanted = _names(rule), conditions_of(rule)
    matched = [spec for spec in specs if any(name_matches(spec.name, name) for name in names)]
    touched = [spec for spec in matched if all(_takes(spec, one.argument) for one in wanted)]
    level: Literal["ok", "warning", "error"] = "error"
    problem = _fault(rule, names, wanted, matched, touched, specs)
    if not problem:
        problem = _gap(rule, names, wanted, matched, specs)
        level = "warning" if problem else "ok"
    return RuleCheck(
        kind="rule" if isinstance(rule, PermissionRule) else "veto",
        rule=str(rule) if isinstance(rule, PermissionRule) else _told(rule),
        touches=tuple(spec.name for spec in touched),
        level=level,
        problem=problem,
    )


def _names(rule: PermissionRule | SafetyRule) -> Sequence[str]:
    return (rule.tool,) if isinstance(rule, PermissionRule) else rule.tool_names or ("*",)


def _fault(
    rule: PermissionRule | SafetyRule,
    names: Sequence[str],
    wanted: Sequence[Condition],
    matched: Sequence[ToolSpec],
    touched: Sequence[ToolSpec],
    specs: Sequence[ToolSpec],
) -> str:
    """Why the rule would guard nothing, or not what it seems to; empty when it does."""
    known = list(dict.fromkeys(spec.name for spec in specs))
    faults = (
        *(name_fault(name, known) for name in names),
        *(_missing_argument(one.argument, matched) for one in wanted),
        *([_regular(rule)] if isinstance(rule, PermissionRule) else ()),
        _never(wanted, touched),
        _unclear(rule, touched) if isinstance(rule, PermissionRule) else "",
    )
    return next(filter(None, faults), "")


def _missing_argument(argument: str, matched: Sequence[ToolSpec]) -> str:
    if not matched or any(_takes(spec, argument) for spec in matched):
        return ""
    given = sorted({name for spec in matched for name in _parameters(spec) or ()})
    tools, there = ", ".join(spec.name for spec in matched), ", ".join(given) or "no arguments"
    return f"{tools} has no argument {argument!r}, but {there}{meant(argument, given)}"


def _never(wanted: Sequence[Condition], touched: Sequence[ToolSpec]) -> str:
    """Why no tool can be sent what the rule looks for."""
    why = [next(filter(None, (impossible(one, spec.parameters) for one in wanted)), "") for spec in touched]
    return "" if not all(why) or not why else f"{touched[0].name}: {why[0]}"


def _gap(
    rule: PermissionRule | SafetyRule,
    names: Sequence[str],
    wanted: Sequence[Condition],
    matched: Sequence[ToolSpec],
    specs: Sequence[ToolSpec],
) -> str:
    """What the rule does not guard although it may seem to."""
    missing = next((name for name in names if not any(name_matches(spec.name, name) for spec in specs)), None)
    if missing is not None:
        return f"no tool matches {missing!r}" if specs else f"the agent has no tools for {missing!r}"
    if isinstance(rule, PermissionRule) and rule.action == "allow":
        return ""
    lacking = {one.argument: [s.name for s in matched if not _takes(s, one.argument)] for one in wanted}
    return "; ".join(
        f"{', '.join(tools)} has no argument {argument!r}, so no call of it is meant"
        for argument, tools in lacking.items()
        if tools
    )


_REGULAR = re.compile(r"\^.*(\.[*+]|\$$)|[^*?\[]*\.\+|\^[^*?\[]*$|[^*?\[]+\$$|[^*?\[]*\([^()]*\|[^()]*\)")


def _regular(rule: PermissionRule) -> str:
    """A pattern that was written as a regular expression."""
    for argument, pattern in rule.arguments.items():
        if _REGULAR.match(pattern.strip()):
            return (
                f"the pattern {pattern!r} for {argument} is a regular expression, but patterns are shell-style: "
                "'prod*' is what begins with prod, 'prod' the word alone; write a sign that is meant in brackets, "
                "as [^] or [$]"
            )
    return ""


def _unclear(rule: PermissionRule, touched: Sequence[ToolSpec]) -> str:
    """A word that may be the rule's reason as well as an argument's pattern."""
    word = "reason"
    if not rule.reason or word in rule.arguments or is_pattern(rule.tool):
        return ""
    if not any(word in (_parameters(spec) or ()) for spec in touched):
        return ""
    return (
        f"{rule.tool} has an argument called {word!r}: to match it write arguments={{{word!r}: ...}}, "
        f"with '*' for any value, beside the rule's own reason"
    )


def _takes(spec: ToolSpec, argument: str) -> bool:
    known = _parameters(spec)
    return known is None or argument in known


def _parameters(spec: ToolSpec) -> tuple[str, ...] | None:
    """The names of a tool's arguments; None when it takes any."""
    schema: dict[str, Any] = spec.parameters
    if "properties" not in schema or schema.get("additionalProperties") not in (None, False):
        return None if schema.get("additionalProperties") is not False else ()
    return tuple(cast("dict[str, Any]", schema["properties"]))


def _told(veto: SafetyRule) -> str:
    return f"{veto.name}: {', '.join(veto.tool_names) or 'every tool'}"
