"""Who wants to know, and who may say no: the application's handlers by the name of what happens.

``before_*`` handlers are gates: what they return decides (``safety/hooks.py``), and one that raises denies.
All others only watch: what they return or raise changes nothing. Handlers get the payload as keywords.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any, get_args

from ..errors import ConfigError
from ..events import (
    AnyEvent,
    ErrorRaised,
    Event,
    ModelReplied,
    ToolFinished,
)
from ..safety.hooks import HookDecision, HookOutcome, read_outcome
from .foreign import described, passes

logger = logging.getLogger("loom.hooks")

GATES = frozenset({"before_run", "before_llm", "before_tool"})
_SEED_NAMES: dict[type[Event], str] = {
    ModelReplied: "after_llm",
    ToolFinished: "after_tool",
    ErrorRaised: "run_error",
}
_ALIASES = {"tool_result": "after_tool", "signal_dispatched": "signal_decided"}
_PRINTED = frozenset({"on_context_compact", "context_renewed", "signal_received", "signal_decided"})
"""Names of the seeds for what context and attention policies do; they happen once an agent has those."""
_EVENT_WORDS = frozenset(str(kind.__struct_config__.tag) for kind in get_args(AnyEvent))
NAMES = (
    GATES
    | frozenset(_SEED_NAMES.values())
    | frozenset(_ALIASES)
    | _PRINTED
    | _EVENT_WORDS
    | {"after_run", "*"}
)

Handler = Callable[..., Any]


class Hooks:
    """The handlers of one agent. Adding or removing one takes effect from the next happening on."""

    def __init__(self) -> None:
        self._handlers: dict[str, list[Handler]] = {}

    def on(self, name: str, handler: Handler) -> None:
        """Call ``handler(**payload)`` when ``name`` happens. Raises ConfigError for an unknown name."""
        if name not in NAMES:
            raise ConfigError(f"nothing called {name!r} ever happens; there is {', '.join(sorted(NAMES))}")
        if not callable(handler):
            raise ConfigError(f"a hook must be callable, not {type(handler).__name__}")
        name = _ALIASES.get(name, name)
        self._handlers[name] = [*self._handlers.get(name, ()), handler]

    def off(self, name: str, handler: Handler) -> None:
        """Stop calling ``handler``. Unknown ones are fine."""
        name = _ALIASES.get(name, name)
        kept = [known for known in self._handlers.get(name, ()) if known is not handler]
        if kept:
            self._handlers[name] = kept
        else:
            self._handlers.pop(name, None)

    def __bool__(self) -> bool:
        return bool(self._handlers)

    def wants(self, name: str) -> bool:
        """Whether anybody listens."""
        return name in self._handlers or "*" in self._handlers

    async def gate(self, name: str, payload: dict[str, Any], *, argument_key: str = "") -> HookOutcome:
        """Ask every gate in order. Deny stops at once; ask is remembered; each sees the edits before it."""
        verdict = HookOutcome()
        await self._tell("*", name, payload)
        for handler in self._handlers.get(name, ()):
            try:
                outcome = read_outcome(await _call(handler, name, payload))
            except BaseException as error:
                if passes(error):
                    raise
                logger.exception("the %s hook %r failed", name, handler)
                return HookOutcome.deny(f"a {name} hook failed: {described(error)}")
            if outcome.decision is HookDecision.DENY:
                return outcome
            if outcome.arguments is not None and argument_key:
                payload = {**payload, argument_key: outcome.arguments}
                verdict = HookOutcome(verdict.decision, verdict.message, outcome.arguments)
            if outcome.decision is HookDecision.ASK:
                verdict = HookOutcome(HookDecision.ASK, outcome.message, verdict.arguments)
        return verdict

    async def watch(self, event: Event, asked: dict[str, Any]) -> None:
        """Tell everyone who listens to this event, by its own word and by the seeds' name for it.

        ``asked`` is what ``before_llm`` was told of the model call under way.
        """
        seed_name = _SEED_NAMES.get(type(event))
        if seed_name in self._handlers:
            await self._tell(seed_name, seed_name, _seed_payload(event, asked))
        if event.type in self._handlers:
            await self._tell(event.type, event.type, _with_ids(event, event.fields))
        if "*" in self._handlers:
            payload = _seed_payload(event, asked) if seed_name else _with_ids(event, event.fields)
            await self._tell("*", seed_name or event.type, payload)

    async def tell(self, name: str, payload: dict[str, Any]) -> None:
        """Call the watchers of ``name`` and those of everything."""
        await self._tell(name, name, payload)
        await self._tell("*", name, payload)

    async def _tell(self, listeners: str, name: str, payload: dict[str, Any]) -> None:
        for handler in self._handlers.get(listeners, ()):
            try:
                await _call(handler, name, payload)
            except BaseException as error:
                if passes(error):
                    raise
                logger.exception("the %s hook %r failed", name, handler)


def _seed_payload(event: Event, asked: dict[str, Any]) -> dict[str, Any]:
    """The keywords the seeds' names promise."""
    own: dict[str, Any] = event.fields
    if isinstance(event, ToolFinished):
        own = {
            "tool_name": event.name,
            "tool_call_id": event.call_id,
            "result": event.result.text,
            "success": event.success,
            "outcome": event.outcome,
        }
    elif isinstance(event, ModelReplied):
        own = {**asked, **own, "response": event.message, "error": None}
    return _with_ids(event, own)


def _with_ids(event: Event, payload: dict[str, Any]) -> dict[str, Any]:
    return {"run_id": event.run_id, "session_id": event.session_id, **payload}


async def _call(handler: Handler, name: str, payload: dict[str, Any]) -> Any:
    result = handler(**{**payload, "event_name": name})
    return await result if inspect.isawaitable(result) else result
