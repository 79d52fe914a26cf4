"""What a ``before_*`` hook may say: allow, deny, ask a human, or run it with other arguments."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

from ..errors import ConfigError


class HookDecision(StrEnum):
    """The three words of a gate."""

    ALLOW = "allow"
    DENY = "deny"
    ASK = "ask"


@dataclass(frozen=True, slots=True)
class HookOutcome:
    """What a hook decided. ``arguments`` replaces what would have run; the gates after it see the edit."""

    decision: HookDecision = HookDecision.ALLOW
    message: str = ""
    arguments: dict[str, Any] | None = None

    @classmethod
    def allow(cls) -> HookOutcome:
        """Let it pass."""
        return cls()

    @classmethod
    def deny(cls, message: str = "") -> HookOutcome:
        """Refuse, telling why."""
        return cls(HookDecision.DENY, message)

    @classmethod
    def ask(cls, message: str = "") -> HookOutcome:
        """Let a human decide, telling why."""
        return cls(HookDecision.ASK, message)

    @classmethod
    def edit(cls, **arguments: Any) -> HookOutcome:
        """Let it pass with these arguments instead."""
        return cls(arguments=arguments)


def read_outcome(value: Any) -> HookOutcome:
    """Understand what a hook returned.

    None and True allow, False denies; a ``HookOutcome``, a ``HookDecision`` or its word, a pair
    ``(decision, message)`` and a dict with ``decision``, ``message``, ``arguments`` are read as they say.
    Raises ConfigError for anything else: a gate that cannot be understood must not let things pass.
    """
    if value is None or value is True:
        return HookOutcome()
    if value is False:
        return HookOutcome(HookDecision.DENY)
    if isinstance(value, HookOutcome):
        return value
    try:
        if isinstance(value, str):
            return HookOutcome(HookDecision(value.lower()))
        if isinstance(value, tuple):
            word, message = cast("tuple[Any, Any]", value)
            return HookOutcome(HookDecision(str(word).lower()), str(message))
        if isinstance(value, dict):
            said = cast("dict[str, Any]", value)
            return HookOutcome(
                HookDecision(str(said.get("decision", "allow")).lower()),
                str(said.get("message", "")),
                said.get("arguments"),
            )
    except ValueError as error:
        raise ConfigError(f"a hook returned {value!r}; the words are allow, deny and ask") from error
    raise ConfigError(f"a hook returned {value!r}; return a HookOutcome, a word, or nothing")
