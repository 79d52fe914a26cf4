"""Whether a call may proceed, and what may leave: the declaration. The kernel's tool path carries it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..errors import ConfigError
from ..safety.permissions import PermissionMode, PermissionRule
from ..safety.veto import SafetyRule

APPROVAL_TTL = 24 * 3600.0
"""How long a yes stays good, in seconds. A day: long enough for a night, short enough to be about the same world."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GovernancePolicy:
    """Modes, rules, vetoes and rates. A frozen value: two sessions of one agent share no counters.

    ``max_calls_per_minute`` limits each tool separately, failed calls included; None is no limit.
    ``on_denial`` says whether a refused call is a result the model reads, or ends the run.
    ``approval_ttl`` is how many seconds an approval stays good. ``redact_outbound`` takes secrets out of every
    message before a model service is sent it: those of the provider, and whatever looks like one. Only what goes
    out: the log and the store keep what happened.
    """

    mode: PermissionMode = PermissionMode.DEFAULT
    rules: tuple[PermissionRule, ...] = ()
    vetoes: tuple[SafetyRule, ...] = ()
    max_calls_per_minute: int | None = None
    on_denial: Literal["continue", "stop"] = "continue"
    approval_ttl: float = APPROVAL_TTL
    redact_outbound: bool = False

    def __post_init__(self) -> None:
        if self.max_calls_per_minute is not None and self.max_calls_per_minute < 1:
            raise ConfigError("max_calls_per_minute must be at least 1, or None for no limit")
        if self.approval_ttl <= 0:
            raise ConfigError("approval_ttl must be a positive number of seconds")

    @classmethod
    def default(
        cls,
        *,
        mode: PermissionMode | str = PermissionMode.DEFAULT,
        rules: Sequence[PermissionRule] = (),
        vetoes: Sequence[SafetyRule] = (),
        max_calls_per_minute: int | None = None,
        on_denial: Literal["continue", "stop"] = "continue",
        approval_ttl: float = APPROVAL_TTL,
        redact_outbound: bool = False,
    ) -> GovernancePolicy:
        """Destructive tools ask, everything else runs; add rules to say otherwise."""
        return cls(
            mode=_mode(mode),
            rules=tuple(rules),
            vetoes=tuple(vetoes),
            max_calls_per_minute=max_calls_per_minute,
            on_denial=on_denial,
            approval_ttl=approval_ttl,
            redact_outbound=redact_outbound,
        )

    @classmethod
    def allow_all(cls) -> GovernancePolicy:
        """Nothing asks and nothing is refused, vetoes and hooks apart."""
        return cls(mode=PermissionMode.AUTO)

    @classmethod
    def deny_all(cls, reason: str = "policy refuses every tool") -> GovernancePolicy:
        """Every call is refused, telling why."""
        return cls(rules=(PermissionRule.deny("*", reason),))

    @classmethod
    def plan(cls) -> GovernancePolicy:
        """Only read-only tools run."""
        return cls(mode=PermissionMode.PLAN)


def _mode(mode: PermissionMode | str) -> PermissionMode:
    try:
        return PermissionMode(str(mode).replace("-", "_"))
    except ValueError:
        known = ", ".join(PermissionMode)
        raise ConfigError(f"there is no permission mode {mode!r}; the modes are {known}") from None
