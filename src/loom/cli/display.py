"""What one sees of a run: its events as they happen, for people or as JSON, and the line at its end."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any, Protocol, TextIO

import msgspec
from rich.console import Console
from rich.status import Status
from rich.text import Text

from ..events import (
    Event,
    ModelReplied,
    ModelRequested,
    RequestAnswered,
    TextDelta,
    ToolCallDelta,
    ToolDecided,
    ToolFinished,
    ToolProgress,
    ToolRequested,
    ToolStarted,
    encode_event,
)
from ..runtime.result import RunResult
from ..types import RunState
from .text import counted, duration, money, one_line, printable, printable_json, short_arguments, tokens

_OUTCOME_STYLES = {"ok": "green", "denied": "yellow", "cancelled": "yellow"}
_STATE_STYLES = {RunState.COMPLETED: "green", RunState.WAITING: "yellow", RunState.CANCELLED: "yellow"}


class Display(Protocol):
    """Shows a run."""

    def recall(self, events: Iterable[Event]) -> None:
        """Know what happened before, without showing it."""
        ...

    def show(self, event: Event) -> None:
        """Show one event."""
        ...

    def pause(self) -> None:
        """Leave the terminal to somebody else, at the beginning of a line."""
        ...

    def finish(self, result: RunResult[str]) -> None:
        """Show what it came to."""
        ...


def console_for(stream: TextIO) -> Console:
    """A console that writes styles to a terminal only, and none when NO_COLOR is set (no-color.org)."""
    terminal = stream.isatty()
    return Console(
        file=stream,
        force_terminal=terminal,
        color_system="auto" if terminal and not os.environ.get("NO_COLOR") else None,
        markup=False,
        highlight=False,
        emoji=False,
    )


class PeopleDisplay:
    """The answer on standard output, everything else on standard error.

    On a terminal the text appears as it comes; into a pipe goes only the final answer of a run that completed.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._live = sys.stdout.isatty()
        self._quiet = quiet
        self._err = console_for(sys.stderr)
        self._spins = self._err.is_terminal and not self._err.is_dumb_terminal and not quiet
        self._status: Status | None = None
        self._arguments: dict[str, str] = {}
        self._running: dict[str, str] = {}
        self._in_line = False
        self._streamed = False
        self._models: list[str] = []

    def recall(self, events: Iterable[Event]) -> None:
        """See Display."""
        for event in events:
            self._learn(event)

    def show(self, event: Event) -> None:
        """See Display."""
        self._learn(event)
        if isinstance(event, TextDelta):
            self._write(event.text)
        elif isinstance(event, ModelRequested):
            self._streamed = False
            self._spin("waiting for the model")
        elif isinstance(event, ModelReplied):
            if not self._streamed:
                self._write(event.message.text_content or "")
            self._end_line()
        elif isinstance(event, ToolCallDelta):
            if event.name:
                self._spin(f"writing a call of {one_line(event.name, 60)}")
        elif isinstance(event, ToolStarted):
            self._running[event.call_id] = event.name
            self._spin(self._call(event.call_id, event.name, 80))
        elif isinstance(event, ToolProgress):
            if event.text:
                self._spin(one_line(event.text, 80))
        elif isinstance(event, ToolFinished):
            self._running.pop(event.call_id, None)
            self._tool_line(event)
        elif isinstance(event, RequestAnswered):
            self._answer_line(event)

    def pause(self) -> None:
        """See Display."""
        if self._status is not None:
            self._status.stop()
            self._status = None
        self._end_line()

    def finish(self, result: RunResult[str]) -> None:
        """See Display."""
        self.pause()
        if result.state is RunState.COMPLETED and not self._live:
            sys.stdout.write(printable(result.unwrap()).rstrip("\n") + "\n")
            sys.stdout.flush()
        if result.error is not None and result.state not in (RunState.COMPLETED, RunState.CANCELLED):
            self.note(f"{result.error.code}: {result.error.message}", style="red")
        if not self._quiet:
            self._footer(result)

    def note(self, text: str, *, style: str = "") -> None:
        """Tell the person something on standard error."""
        self.pause()
        self._err.print(Text(printable(text), style=style), soft_wrap=True)

    # --- pieces ---------------------------------------------------------------------------------------

    def _learn(self, event: Event) -> None:
        if isinstance(event, ToolRequested) or (isinstance(event, ToolDecided) and event.arguments):
            self._arguments[event.call_id] = event.arguments or "{}"
        elif isinstance(event, ModelReplied) and event.model and event.model not in self._models:
            self._models.append(event.model)

    def _write(self, text: str) -> None:
        if not self._live or not text:
            return
        if self._status is not None:
            self.pause()
        self._streamed = True
        sys.stdout.write(printable(text))
        sys.stdout.flush()
        self._in_line = not text.endswith("\n")

    def _end_line(self) -> None:
        if self._in_line:
            sys.stdout.write("\n")
            sys.stdout.flush()
            self._in_line = False

    def _spin(self, text: str) -> None:
        if not self._spins:
            return
        if self._status is None:
            self._end_line()
            self._status = self._err.status(Text(text, style="dim"))
            self._status.start()
        else:
            self._status.update(Text(text, style="dim"))

    def _call(self, call_id: str, name: str, limit: int) -> str:
        shown = one_line(name, 60)
        arguments = short_arguments(self._arguments.get(call_id, "{}"), max(10, limit - len(shown)))
        return f"{shown} {arguments}".rstrip()

    def _tool_line(self, event: ToolFinished) -> None:
        if self._quiet:
            return
        self.pause()
        line = Text("  ")
        line.append(self._call(event.call_id, event.name, 100))
        line.append("  ")
        line.append(event.outcome, style=_OUTCOME_STYLES.get(event.outcome, "red"))
        line.append(f" {duration(event.duration_ms)}", style="dim")
        if not event.success and event.result.text:
            line.append(f"  {one_line(event.result.text, 160)}", style="dim")
        self._err.print(line, soft_wrap=True)
        if self._running:
            self._spin(", ".join(self._running.values()))

    def _answer_line(self, event: RequestAnswered) -> None:
        if self._quiet:
            return
        self.pause()
        answer = event.answer
        verb = {"approve": "approved", "deny": "denied", "answer": "answered"}[answer.verdict]
        words = [f"  {verb}"]
        if answer.by:
            words.append(f"by {one_line(answer.by, 60)}")
        if answer.reason:
            words.append(f"({one_line(answer.reason, 100)})")
        self._err.print(Text(" ".join(words), style="dim"), soft_wrap=True)

    def _footer(self, result: RunResult[str]) -> None:
        facts = [
            counted(result.iterations, "model call"),
            tokens(result.usage),
            money(result.cost, result.estimated_cost),
            ", ".join(one_line(model, 60) for model in self._models),
            duration(result.duration_ms),
        ]
        line = Text(_state_words(result), style=_STATE_STYLES.get(result.state, "red"))
        line.append(" · " + " · ".join(fact for fact in facts if fact), style="dim")
        self._err.print(line, soft_wrap=True)


class JsonDisplay:
    """One JSON object a line on standard output: every event, then the result, whose type is ``result``."""

    def recall(self, events: Iterable[Event]) -> None:
        """See Display."""

    def show(self, event: Event) -> None:
        """See Display."""
        self._line(encode_event(event))

    def pause(self) -> None:
        """See Display."""

    def finish(self, result: RunResult[str]) -> None:
        """See Display."""
        self._line(msgspec.json.encode(result_fields(result)))

    def _line(self, raw: bytes) -> None:
        sys.stdout.write(printable_json(raw) + "\n")
        sys.stdout.flush()


def result_fields(result: RunResult[str]) -> dict[str, Any]:
    """A result without the events and messages, which the lines before it told already."""
    left_out = ("events", "messages", "denied")
    fields = {name: result[name] for name in result if name not in left_out}
    return {"type": "result", **fields}


def _state_words(result: RunResult[str]) -> str:
    if result.state is RunState.WAITING:
        return f"waiting for {counted(len(result.pending), 'answer')}"
    return result.state.value.replace("_", " ")
