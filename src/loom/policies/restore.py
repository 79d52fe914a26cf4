"""What of a session's past enters its next run. Pure: from the past runs to messages and text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from ..safety.declared import count, flag
from ..types import Artifact, ChatMessage, Role, to_json


class PastRun(Struct, frozen=True):
    """One finished run, as much as restoring needs. ``notes`` are one line per thing that happened."""

    prompt: str
    output: str
    messages: Sequence[ChatMessage] = ()
    inputs: dict[str, Any] = {}
    notes: Sequence[str] = ()
    artifacts: Sequence[Artifact] = ()


class SessionRestorePolicy(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A window on the past: the newest ``max_transcripts`` runs, each its prompt and final answer.

    ``max_messages`` and ``max_chars`` bound the whole window, newest first; a message that does not fit
    keeps its tail. ``include_context``, ``include_events`` and ``include_artifacts`` add a text block of at
    most ``max_runtime_items`` items a run. ``whole`` is no window at all: everything that was said, tool
    traffic included, in the very same messages, so that prompt caches hold.
    """

    enabled: bool = True
    include_transcript: bool = True
    include_context: bool = False
    include_events: bool = False
    include_artifacts: bool = False
    max_transcripts: int = 8
    max_messages: int = 24
    max_runtime_items: int = 12
    max_chars: int = 12000
    whole: bool = False

    def __post_init__(self) -> None:
        for name in ("max_transcripts", "max_messages", "max_runtime_items", "max_chars"):
            count(name, getattr(self, name), least=0)
        for name in (
            "enabled", "include_transcript", "include_context", "include_events", "include_artifacts", "whole"
        ):  # fmt: skip
            flag(name, getattr(self, name))

    @classmethod
    def everything(cls) -> SessionRestorePolicy:
        """The whole conversation."""
        return cls(whole=True)

    @classmethod
    def none(cls) -> SessionRestorePolicy:
        """Every run starts from nothing."""
        return cls(enabled=False)

    @classmethod
    def transcript_only(
        cls, *, max_transcripts: int = 8, max_messages: int = 24, max_chars: int = 12000
    ) -> SessionRestorePolicy:
        """Prompts and answers."""
        return cls(max_transcripts=max_transcripts, max_messages=max_messages, max_chars=max_chars)

    @classmethod
    def window(
        cls,
        *,
        max_transcripts: int = 8,
        max_messages: int = 24,
        max_runtime_items: int = 12,
        max_chars: int = 12000,
        include_context: bool = True,
        include_events: bool = True,
        include_artifacts: bool = True,
    ) -> SessionRestorePolicy:
        """Prompts and answers, and a summary of what happened around them."""
        return cls(
            include_context=include_context,
            include_events=include_events,
            include_artifacts=include_artifacts,
            max_transcripts=max_transcripts,
            max_messages=max_messages,
            max_runtime_items=max_runtime_items,
            max_chars=max_chars,
        )

    @classmethod
    def runtime_state(
        cls, *, max_transcripts: int = 8, max_runtime_items: int = 12, max_chars: int = 12000
    ) -> SessionRestorePolicy:
        """Only the summary of what happened."""
        return cls(
            include_transcript=False,
            include_context=True,
            include_events=True,
            include_artifacts=True,
            max_transcripts=max_transcripts,
            max_runtime_items=max_runtime_items,
            max_chars=max_chars,
        )

    def to_fields(self) -> dict[str, Any] | None:
        """The policy as plain data for the log; None for the whole conversation."""
        return None if self.whole else msgspec.to_builtins(self)

    @classmethod
    def from_fields(cls, fields: dict[str, Any] | None) -> SessionRestorePolicy:
        """The policy that ``to_fields`` wrote down."""
        return cls.everything() if fields is None else msgspec.convert(fields, cls)

    def messages(self, past: Sequence[PastRun]) -> list[ChatMessage]:
        """What of the past is said again, oldest first."""
        if not (self.enabled and self.include_transcript):
            return []
        kept: list[ChatMessage] = []
        room = self.max_chars
        for run in reversed(past[len(past) - min(self.max_transcripts, len(past)) :]):
            for role, text in ((Role.ASSISTANT, run.output), (Role.USER, run.prompt)):
                if text and room > 0 and len(kept) < self.max_messages:
                    kept.append(ChatMessage(role, text[-room:]))
                    room -= len(text)
        if kept and kept[-1].role is Role.ASSISTANT:
            kept.pop()
        return kept[::-1]

    def summary(self, past: Sequence[PastRun]) -> str:
        """What happened around those runs, as text; empty when the policy wants none of it."""
        if not self.enabled or not (self.include_context or self.include_events or self.include_artifacts):
            return ""
        blocks: list[str] = []
        for run in past[len(past) - min(self.max_transcripts, len(past)) :]:
            lines: list[str] = []
            if self.include_context and run.inputs:
                lines.append(f"context: {to_json(run.inputs)}")
            if self.include_events and self.max_runtime_items:
                lines += run.notes[-self.max_runtime_items :]
            if self.include_artifacts and self.max_runtime_items:
                lines += [f"artifact: {a.title} {a.uri}" for a in run.artifacts[-self.max_runtime_items :]]
            if lines:
                blocks.append(f"Run: {run.prompt[:200]}\n" + "\n".join(f"- {line}" for line in lines))
        text = "\n".join(blocks)
        return "Restored runtime state\n" + text[-self.max_chars :] if text and self.max_chars else ""
