"""What each line of a policy touches, once an agent's tools are known. Pure: from a policy and specs to findings.

A rule that names a tool or an argument which is not there guards nothing; ``refuse_idle_rules`` makes it an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, cast

from ..errors import ConfigError
from ..safety.permissions import PermissionRule, is_pattern, name_matches
from ..safety.veto import SafetyRule
from ..types import ToolSpec
from .governance import GovernancePolicy


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
    return [
        *(_check("rule", str(r), (r.tool,), r.arguments, specs, _unclear(r)) for r in policy.rules),
        *(_check("veto", _told(v), v.tool_names, v.argument_names, specs) for v in policy.vetoes),
    ]


def refuse_idle_rules(findings: Iterable[RuleCheck]) -> None:
    """Raise ConfigError for the rules that would guard nothing."""
    if faults := [
        f"{found.kind} ({found.rule}): {found.problem}" for found in findings if found.level == "error"
    ]:
        raise ConfigError("; ".join(faults))


def _check(
    kind: Literal["rule", "veto"],
    rule: str,
    names: Sequence[str],
    arguments: Iterable[str],
    specs: Sequence[ToolSpec],
    unclear: str = "",
) -> RuleCheck:
    names = names or ("*",)
    touched = [spec for spec in specs if any(name_matches(spec.name, name) for name in names)]
    fault = _fault(names, tuple(arguments), touched, specs, unclear)
    missing = next((name for name in names if not any(name_matches(spec.name, name) for spec in specs)), None)
    level: Literal["ok", "warning", "error"] = "error" if fault else "ok"
    if not fault and missing is not None:
        level, fault = "warning", f"no tool matches {missing!r}" if specs else "the agent has no tools"
    return RuleCheck(
        kind=kind, rule=rule, touches=tuple(spec.name for spec in touched), level=level, problem=fault
    )


def _fault(
    names: Sequence[str],
    arguments: Sequence[str],
    touched: Sequence[ToolSpec],
    specs: Sequence[ToolSpec],
    unclear: str,
) -> str:
    """Why the rule would guard nothing, or not what it seems to; empty when it does."""
    known = list(dict.fromkeys(spec.name for spec in specs))
    for name in names:
        if known and not is_pattern(name) and name not in known:
            return f"there is no tool {name!r}, only {', '.join(known)}{_meant(name, known)}"
    for argument in arguments:
        if touched and not any(_takes(spec, argument) for spec in touched):
            given = sorted({name for spec in touched for name in _parameters(spec) or ()})
            tools, there = ", ".join(spec.name for spec in touched), ", ".join(given) or "no arguments"
            return f"{tools} has no argument {argument!r}, but {there}{_meant(argument, given)}"
    if unclear and not is_pattern(names[0]) and any(unclear in (_parameters(spec) or ()) for spec in touched):
        return (
            f"{names[0]} has an argument called {unclear!r}: to match it write arguments={{{unclear!r}: ...}}, "
            f"with '*' for any value, beside the rule's own reason"
        )
    return ""


def _unclear(rule: PermissionRule) -> str:
    """The word that may be the rule's reason as well as an argument's pattern."""
    return "reason" if rule.reason and "reason" not in rule.arguments else ""


def _takes(spec: ToolSpec, argument: str) -> bool:
    known = _parameters(spec)
    return known is None or argument in known


def _parameters(spec: ToolSpec) -> tuple[str, ...] | None:
    """The names of a tool's arguments; None when it takes any."""
    schema: dict[str, Any] = spec.parameters
    if "properties" not in schema or schema.get("additionalProperties") not in (None, False):
        return None if schema.get("additionalProperties") is not False else ()
    return tuple(cast("dict[str, Any]", schema["properties"]))


def _meant(name: str, known: Sequence[str]) -> str:
    lowered = {one.casefold(): one for one in known}
    close = get_close_matches(name.casefold(), list(lowered), n=1)
    return f"; did you mean {lowered[close[0]]!r}?" if close else ""


def _told(veto: SafetyRule) -> str:
    return f"{veto.name}: {', '.join(veto.tool_names) or 'every tool'}"
