"""Whether a call may proceed, and what may leave: the declaration. The kernel's tool path carries it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..errors import ConfigError
from ..safety.declared import count, flag, seconds, several, word
from ..safety.permissions import PermissionMode, PermissionRule
from ..safety.veto import SafetyRule

APPROVAL_TTL = 24 * 3600.0
"""How long a yes stays good, in seconds. A day: long enough for a night, short enough to be about the same world."""

_RULE = 'write PermissionRule.deny("name"), .ask(...) or .allow(...)'
_VETO = "write SafetyRule.block_tool(...) or another of its constructors"


@dataclass(frozen=True, slots=True, kw_only=True)
class GovernancePolicy:
    """Modes, rules, vetoes and rates. A frozen value: two sessions of one agent share no counters.

    ``max_calls_per_minute`` limits each tool separately, failed calls included; None is no limit.
    ``on_denial`` says whether a refused call is a result the model reads, or ends the run.
    ``approval_ttl`` is how many seconds an approval stays good. ``redact_outbound`` takes secrets out of every
    message before a model service is sent it: those of the provider, and whatever looks like one. Only what goes
    out: the log and the store keep what happened. ``strict_arguments`` refuses near-miss arguments of every tool
    (``"5"`` for a number, JSON text for an object); without it they are read as they were meant, before any gate.
    """

    mode: PermissionMode = PermissionMode.DEFAULT
    rules: tuple[PermissionRule, ...] = ()
    vetoes: tuple[SafetyRule, ...] = ()
    max_calls_per_minute: int | None = None
    on_denial: Literal["continue", "stop"] = "continue"
    approval_ttl: float = APPROVAL_TTL
    redact_outbound: bool = False
    strict_arguments: bool = False

    if TYPE_CHECKING:  # it takes more than its fields hold: the word of a mode, lists

        def __init__(
            self,
            *,
            mode: PermissionMode | str = PermissionMode.DEFAULT,
            rules: Sequence[PermissionRule] = (),
            vetoes: Sequence[SafetyRule] = (),
            max_calls_per_minute: int | None = None,
            on_denial: Literal["continue", "stop"] = "continue",
            approval_ttl: float = APPROVAL_TTL,
            redact_outbound: bool = False,
            strict_arguments: bool = False,
        ) -> None: ...

    def __post_init__(self) -> None:
        object.__setattr__(self, "mode", _mode(self.mode))
        object.__setattr__(self, "rules", several("rules", self.rules, PermissionRule, _RULE))
        object.__setattr__(self, "vetoes", several("vetoes", self.vetoes, SafetyRule, _VETO))
        if self.max_calls_per_minute is not None:
            count("max_calls_per_minute", self.max_calls_per_minute)
        word("on_denial", self.on_denial, ("continue", "stop"))
        seconds("approval_ttl", self.approval_ttl, endless=True)
        flag("redact_outbound", self.redact_outbound)
        flag("strict_arguments", self.strict_arguments)

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
        strict_arguments: bool = False,
    ) -> GovernancePolicy:
        """Destructive tools ask, everything else runs; add rules to say otherwise."""
        return cls(
            mode=_mode(mode),
            rules=several("rules", rules, PermissionRule, _RULE),
            vetoes=several("vetoes", vetoes, SafetyRule, _VETO),
            max_calls_per_minute=max_calls_per_minute,
            on_denial=on_denial,
            approval_ttl=approval_ttl,
            redact_outbound=redact_outbound,
            strict_arguments=strict_arguments,
        )

    @classmethod
    def allow_all(cls) -> GovernancePolicy:
        """Nothing asks and nothing is refused, vetoes and hooks apart."""
        return cls(mode=PermissionMode.AUTO)

    @classmethod
    def deny_all(cls, reason: str = "policy refuses every tool") -> GovernancePolicy:
        """Every call is refused, telling why."""
        return cls(rules=(PermissionRule.deny("*", reason=reason),))

    @classmethod
    def plan(cls) -> GovernancePolicy:
        """Only read-only tools run."""
        return cls(mode=PermissionMode.PLAN)


def _mode(mode: object) -> PermissionMode:
    if isinstance(mode, str):
        try:
            return PermissionMode(mode.replace("-", "_"))
        except ValueError:
            pass
    known = ", ".join(PermissionMode)
    raise ConfigError(f"there is no permission mode {mode!r}; the modes are {known}")
