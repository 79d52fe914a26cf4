"""How an agent runs, as one frozen value: limits and policies. ``loom.Runtime`` and its presets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import ConfigError
from ..safety.declared import count, instance, mapping, number, seconds, several, text
from ..safety.permissions import PermissionMode
from ..safety.veto import SafetyRule
from ..types import Limits
from .governance import GovernancePolicy
from .restore import SessionRestorePolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeLimits:
    """What one run may spend, its children included; None is no limit.

    ``max_iterations`` counts model calls. ``max_cost`` is in the currency of the model's price, which must
    be known. ``max_seconds`` is wall time, waiting for a human apart. ``tool_timeout`` is seconds per call
    for tools that do not say themselves. ``cancel_grace`` is how many seconds a tool that was told to stop may
    take to do so before it is left behind. ``max_result_chars`` caps what one tool result puts into the window.
    """

    max_iterations: int | None = 100
    max_tool_calls: int | None = None
    max_tokens: int | None = None
    max_cost: float | None = None
    max_seconds: float | None = None
    max_depth: int | None = 5
    tool_timeout: float = 300.0
    cancel_grace: float = 5.0
    max_result_chars: int = 20_000

    def __post_init__(self) -> None:
        for name, least in (
            ("max_iterations", 1),
            ("max_tool_calls", 0),
            ("max_tokens", 1),
            ("max_depth", 0),
        ):
            self._limit(name, whole=True, least=least)
        for name in ("max_cost", "max_seconds"):
            self._limit(name, whole=False, least=0)
        seconds("tool_timeout", self.tool_timeout, endless=True)
        seconds("cancel_grace", self.cancel_grace)
        count("max_result_chars", self.max_result_chars)

    def _limit(self, name: str, *, whole: bool, least: int) -> None:
        """Check one limit. A run with nothing to spend could not even begin, so nothing is not a limit."""
        given: Any = getattr(self, name)
        if given is None:
            return
        value = number(f"{name} (None is no limit)", given, least=least)
        if not whole and value == 0:
            raise ConfigError(f"{name} must be above 0, or None for no limit")
        if whole and value != int(value):
            raise ConfigError(f"{name} must be a whole number, not {value!r:.80}")
        object.__setattr__(self, name, int(value) if whole else float(value))

    def of_a_run(self) -> Limits:
        """The part that is written into a run's log."""
        return Limits(
            self.max_iterations,
            self.max_tool_calls,
            self.max_tokens,
            self.max_cost,
            self.max_seconds,
            self.max_depth,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """The composition of policies. Every field is a frozen value, so sharing one between agents is safe.

    ``session_restore`` is what a run is told of the session's earlier runs: everything, unless you say otherwise.
    ``output_attempts`` is how many replies may be judged against ``output_type`` before the run fails.
    """

    limits: RuntimeLimits = RuntimeLimits()
    governance: GovernancePolicy = field(default_factory=GovernancePolicy)
    session_restore: SessionRestorePolicy = field(default_factory=SessionRestorePolicy.everything)
    output_attempts: int = 3
    profile: str = "custom"
    extensions: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        instance("limits", self.limits, RuntimeLimits, "write RuntimeLimits(...)")
        instance("governance", self.governance, GovernancePolicy, "write GovernancePolicy(...)")
        instance("session_restore", self.session_restore, SessionRestorePolicy)
        count("output_attempts", self.output_attempts)
        text("profile", self.profile)
        mapping("extensions", self.extensions)

    def governed(self, governance: GovernancePolicy | None, vetoes: Sequence[SafetyRule]) -> Runtime:
        """This runtime with another governance, and with these vetoes added to it."""
        policy = self.governance
        if governance is not None:
            policy = instance("governance", governance, GovernancePolicy, "write GovernancePolicy(...)")
        if vetoes:
            added = several(
                "safety_rules", vetoes, SafetyRule, "write SafetyRule.block_tool(...) or the like"
            )
            policy = replace(policy, vetoes=(*policy.vetoes, *added))
        return self if policy is self.governance else replace(self, governance=policy)

    def describe(self) -> dict[str, Any]:
        """The policies as plain data, for logs and debugging."""
        limits = self.limits
        return {
            "profile": self.profile,
            "limits": {name: getattr(limits, name) for name in limits.__slots__},
            "policies": {
                "governance": type(self.governance).__name__,
                "session_restore": type(self.session_restore).__name__,
            },
            "governance": {"mode": str(self.governance.mode), "rules": len(self.governance.rules)},
            "session_restore": {
                name: getattr(self.session_restore, name) for name in self.session_restore.__struct_fields__
            },
        }

    @classmethod
    def sdk(
        cls,
        *,
        limits: RuntimeLimits | None = None,
        governance: GovernancePolicy | None = None,
        session_restore: SessionRestorePolicy | None = None,
        extensions: Mapping[str, Any] | None = None,
    ) -> Runtime:
        """For an application that calls the agent: 32 model calls, destructive tools ask."""
        return cls._preset("sdk", 32, limits, governance, session_restore, extensions)

    @classmethod
    def long_running(
        cls,
        *,
        limits: RuntimeLimits | None = None,
        governance: GovernancePolicy | None = None,
        session_restore: SessionRestorePolicy | None = None,
        extensions: Mapping[str, Any] | None = None,
    ) -> Runtime:
        """For long tasks: 128 model calls, a window on the session's past."""
        restore = SessionRestorePolicy.window() if session_restore is None else session_restore
        return cls._preset("long_running", 128, limits, governance, restore, extensions)

    @classmethod
    def supervised(
        cls,
        *,
        limits: RuntimeLimits | None = None,
        governance: GovernancePolicy | None = None,
        session_restore: SessionRestorePolicy | None = None,
        extensions: Mapping[str, Any] | None = None,
    ) -> Runtime:
        """For work under a human's eye: everything that is not read-only asks."""
        watched = GovernancePolicy(mode=PermissionMode.SUPERVISED) if governance is None else governance
        restore = SessionRestorePolicy.window() if session_restore is None else session_restore
        return cls._preset("supervised", 80, limits, watched, restore, extensions)

    @classmethod
    def _preset(
        cls,
        profile: str,
        iterations: int,
        limits: RuntimeLimits | None,
        governance: GovernancePolicy | None,
        session_restore: SessionRestorePolicy | None,
        extensions: Mapping[str, Any] | None,
    ) -> Runtime:
        return cls(
            limits=RuntimeLimits(max_iterations=iterations) if limits is None else limits,
            governance=GovernancePolicy() if governance is None else governance,
            session_restore=SessionRestorePolicy.everything() if session_restore is None else session_restore,
            profile=profile,
            extensions={} if extensions is None else extensions,
        )
