"""What a ``before_*`` hook may say: allow, deny, ask a human, or run it with other arguments."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ..errors import ConfigError


class HookDecision(StrEnum):
    """The three words of a gate."""

    ALLOW = "allow"
    DENY = "deny"
    ASK = "ask"


@dataclass(frozen=True, slots=True)
class HookOutcome:
    """What a hook decided. ``arguments`` replaces what would have run; the gates after it see the edit.

    ``decision`` may be given as its word. Raises ConfigError for any other.
    """

    decision: HookDecision = HookDecision.ALLOW
    message: str = ""
    arguments: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "decision", _decision(self.decision))

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


def _decision(said: object) -> HookDecision:
    if isinstance(said, str):
        try:
            return HookDecision(said.strip().lower())
        except ValueError:
            pass
    raise ConfigError(f"a hook said {said!r:.80}; the words are allow, deny and ask")


_SAYS = frozenset({"decision", "message", "arguments", "messages"})


def read_outcome(value: Any) -> HookOutcome:
    """Understand what a hook returned.

    None and True allow, False denies; a ``HookOutcome``, a ``HookDecision`` or its word, a pair
    ``(decision, message)`` and a dict with ``decision``, ``message``, ``arguments`` (for ``before_llm`` also called
    ``messages``) are read as they say. Raises ConfigError for anything else, a dict with other keys included: a
    gate that cannot be understood must not let things pass.
    """
    if value is None or value is True:
        return HookOutcome()
    if value is False:
        return HookOutcome(HookDecision.DENY)
    if isinstance(value, HookOutcome):
        return value
    if isinstance(value, str):
        return HookOutcome(_decision(value))
    if isinstance(value, tuple) and len(value) == 2:  # pyright: ignore[reportUnknownArgumentType]
        word, message = value  # pyright: ignore[reportUnknownVariableType]
        return HookOutcome(_decision(word), str(message))  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, dict):
        return _read_dict(value)  # pyright: ignore[reportUnknownArgumentType]
    raise ConfigError(f"a hook returned {value!r:.200}; return a HookOutcome, a word, or nothing")


def _read_dict(said: dict[Any, Any]) -> HookOutcome:
    strange = [key for key in said if key not in _SAYS]
    if strange or not said:
        raise ConfigError(
            f"a hook returned a dict with {strange or 'nothing in it'}; its keys are {', '.join(sorted(_SAYS))}, and "
            "new arguments of a call stand in 'arguments'"
        )
    decision = _decision(said.get("decision", "allow"))
    return HookOutcome(decision, str(said.get("message", "")), said.get("arguments", said.get("messages")))
