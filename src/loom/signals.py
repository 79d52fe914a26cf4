"""What comes in from outside: tasks asked for, signals that happened, and adapters that translate."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import msgspec
from msgspec import Struct

SignalUrgency = Literal["low", "normal", "high", "critical"]


class RuntimeTask(Struct, frozen=True, omit_defaults=True):
    """Work asked for: a goal, and optionally structured input, criteria of success and metadata."""

    goal: str
    input: dict[str, Any] = {}
    criteria: list[str] = []
    metadata: dict[str, Any] = {}

    @classmethod
    def from_input(cls, task: RuntimeTask | str) -> RuntimeTask:
        """Accept a task or plain text. Raises TypeError for anything else, ValueError for no text."""
        if isinstance(task, str):
            if not task.strip():
                raise ValueError("a task needs some text")
            return cls(goal=task)
        if type(task) is not RuntimeTask:
            raise TypeError(f"a task is text or a RuntimeTask, not {type(task).__name__}")
        return task

    def to_context_payload(self) -> dict[str, Any]:
        """Input, criteria and metadata flattened into one dict, as context for the model."""
        payload: dict[str, Any] = dict(self.input)
        if self.criteria:
            payload["criteria"] = list(self.criteria)
        if self.metadata:
            payload["task_metadata"] = dict(self.metadata)
        return payload


def _signal_id() -> str:
    return f"sig_{secrets.token_hex(12)}"


class RuntimeSignal(Struct, frozen=True, omit_defaults=True):
    """Something that happened outside: a message, a due job, an alert.

    Two signals with the same ``dedupe_key`` in one session are one. ``observed_at`` is Unix seconds.
    """

    id: str = msgspec.field(default_factory=_signal_id)
    source: str = "custom"
    type: str = "event"
    summary: str = ""
    payload: dict[str, Any] = {}
    urgency: SignalUrgency = "normal"
    session_id: str | None = None
    run_id: str | None = None
    dedupe_key: str | None = None
    observed_at: float = msgspec.field(default_factory=time.time)

    @classmethod
    def create(
        cls,
        content: str,
        *,
        source: str = "custom",
        type: str = "event",  # noqa: A002 - the seed's own parameter name
        urgency: SignalUrgency = "normal",
        payload: Mapping[str, Any] | None = None,
        session_id: str | None = None,
        run_id: str | None = None,
        dedupe_key: str | None = None,
    ) -> RuntimeSignal:
        """Make a signal whose summary and ``payload["content"]`` are ``content``."""
        return cls(
            source=source,
            type=type,
            summary=content,
            payload={"content": content, **(payload or {})},
            urgency=urgency,
            session_id=session_id,
            run_id=run_id,
            dedupe_key=dedupe_key,
        )

    def for_session(self, session_id: str) -> RuntimeSignal:
        """A copy addressed to a session."""
        return msgspec.structs.replace(self, session_id=session_id)

    def for_run(self, run_id: str) -> RuntimeSignal:
        """A copy addressed to a run."""
        return msgspec.structs.replace(self, run_id=run_id)

    def to_event(self) -> dict[str, Any]:
        """The signal as a plain dict."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


Field = str | Callable[[Any], str | None] | None
_SUMMARY_KEYS = ("summary", "content", "text", "message", "name", "id")


@dataclass(frozen=True, slots=True)
class SignalAdapter:
    """Translates an outside event into a signal, field by field; each field is a literal or a callable.

    Without ``summary`` the usual keys of a mapping are tried; without ``payload`` the mapping itself is it.
    """

    source: str
    type: str = "event"
    urgency: SignalUrgency = "normal"
    summary: Field = None
    payload: Mapping[str, Any] | Callable[[Any], Mapping[str, Any]] | None = None
    session_id: Field = None
    run_id: Field = None
    dedupe_key: Field = None

    def adapt(self, event: Any) -> RuntimeSignal:
        """Return ``event`` as a signal. Exceptions of the field callables pass through."""
        mapping = _mapping(event)
        payload = self.payload(event) if callable(self.payload) else self.payload
        summary = _resolve(self.summary, event)
        if summary is None:
            found = (mapping[key] for key in _SUMMARY_KEYS if mapping.get(key))
            summary = str(next(found, "" if mapping else event))
        return RuntimeSignal(
            source=self.source,
            type=self.type,
            summary=summary,
            payload=dict(mapping if payload is None else payload),
            urgency=self.urgency,
            session_id=_resolve(self.session_id, event),
            run_id=_resolve(self.run_id, event),
            dedupe_key=_resolve(self.dedupe_key, event),
        )


def _mapping(event: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", event) if isinstance(event, Mapping) else {}


def _resolve(field: Field, event: Any) -> str | None:
    return field(event) if callable(field) else field
