"""What comes in from outside: tasks asked for, signals that happened, and adapters that translate."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import msgspec
from msgspec import Struct

from .errors import ConfigError
from .types import AudioPart, FilePart, ImagePart, Part, TextPart, VideoPart

SignalUrgency = Literal["low", "normal", "high", "critical"]


class RuntimeTask(Struct, frozen=True, omit_defaults=True):
    """Work asked for: a goal, and optionally structured input, criteria of success and metadata.

    ``extensions`` is more context under keys of the application's own; the model is shown it beside the input.
    ``attachments`` are shown to the model after the goal. When there is text among them they are the whole
    message, in their order, and the goal is its text. A task is data and may come over a wire, so they are
    ``data:`` and web URLs, never paths: see ``loom.media``.
    """

    goal: str
    input: dict[str, Any] = {}
    criteria: list[str] = []
    metadata: dict[str, Any] = {}
    attachments: list[Part] = []
    extensions: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if not isinstance(self.goal, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError(f"the goal of a task must be text, not {self.goal!r:.80}")
        if isinstance(self.criteria, str):
            raise ConfigError(
                'the criteria of a task must be a list of texts; write ["..."], also for a single one'
            )

    @classmethod
    def from_input(cls, task: TaskInput) -> RuntimeTask:
        """Accept a task, text, or a sequence of text and media parts, which are kept in order.

        Raises TypeError for anything else, ValueError for no text.
        """
        if isinstance(task, RuntimeTask):
            if type(task) is not RuntimeTask:
                raise TypeError(f"a task is text, parts or a RuntimeTask, not {type(task).__name__}")
            return task
        parts = _parts([task] if isinstance(task, str) else task)
        texts = [part.text for part in parts if isinstance(part, TextPart) and part.text.strip()]
        if not texts:
            raise ValueError("a task needs some text")
        if all(isinstance(part, TextPart) for part in parts[: len(texts)]):
            del parts[: len(texts)]  # all of the text comes first
        return cls(goal="\n\n".join(texts), attachments=parts)

    def content(self, before: str = "", after: str = "") -> str | tuple[Part, ...]:
        """The goal and the attachments as a message says them, with text put before and after."""
        text = "\n\n".join(piece for piece in (before, self.goal, after) if piece)
        if not self.attachments:
            return text
        if not any(isinstance(part, TextPart) for part in self.attachments):
            return (TextPart(text), *self.attachments) if text else tuple(self.attachments)
        around = [(TextPart(piece),) if piece else () for piece in (before, after)]
        return (*around[0], *self.attachments, *around[1])

    def to_context_payload(self) -> dict[str, Any]:
        """Input, extensions, criteria and metadata flattened into one dict, as context for the model."""
        payload: dict[str, Any] = {**self.input, **self.extensions}
        if self.criteria:
            payload["criteria"] = list(self.criteria)
        if self.metadata:
            payload["task_metadata"] = dict(self.metadata)
        return payload


TaskInput = str | RuntimeTask | Sequence[str | Part]
"""What can be asked for: text, a task, or text and parts in order. Parts may name files of this machine."""

_ATTACHABLE = (TextPart, ImagePart, AudioPart, VideoPart, FilePart)


def _parts(given: object) -> list[Part]:
    if not isinstance(given, Sequence) or isinstance(given, bytes | bytearray):
        raise TypeError(f"a task is text, parts or a RuntimeTask, not {type(given).__name__}")
    parts: list[Part] = []
    for item in cast("Sequence[object]", given):
        part = TextPart(item) if isinstance(item, str) else item
        if not isinstance(part, _ATTACHABLE):
            raise TypeError(f"a task is made of text and media parts, not of {type(part).__name__}")
        if not isinstance(part, TextPart) or part.text.strip():
            parts.append(part)
    return parts


def _signal_id() -> str:
    return f"sig_{secrets.token_hex(12)}"


class RuntimeSignal(Struct, frozen=True, omit_defaults=True):
    """Something that happened outside: a message, a due job, an alert.

    Two signals of one ``source`` with the same ``dedupe_key`` in one session are one: what one source says hides
    nothing that another says. ``observed_at`` is Unix seconds.
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
