"""A session's log as something to read: lines for a terminal, Markdown, or plain data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from ..events import (
    ErrorRaised,
    Event,
    LimitReached,
    ModelReplied,
    RequestAnswered,
    RequestOpened,
    RunFinished,
    RunResumed,
    RunStarted,
    SessionForked,
    ToolDecided,
    ToolFinished,
    ToolRequested,
    encode_event,
)
from ..safety.display import visible
from ..safety.media import MEDIA_PARTS
from ..store.base import SessionStore
from ..types import Part
from .text import counted, duration, money, one_line, part_words, printable, short_arguments, tokens

_RESULT_LINES = 12


def readable(events: Sequence[Event], *, whole: bool = False) -> Iterator[str]:
    """The lines of a transcript. Tool results are cut short unless ``whole``."""
    arguments: dict[str, str] = {}
    for event in events:
        if isinstance(event, ToolRequested) or (isinstance(event, ToolDecided) and event.arguments):
            arguments[event.call_id] = event.arguments or "{}"
        elif isinstance(event, RunStarted):
            yield f"── run {event.run_id} · {when(event.at)}"
            yield from _indented("you: ", event.task.goal)
            yield from (f"     [{words}]" for words in _shown(event.task.attachments))
        elif isinstance(event, ModelReplied):
            yield from _indented("", event.message.text_content or "")
            yield from (f"[{words}]" for words in _shown(event.message.content))
        elif isinstance(event, ToolFinished):
            shown = one_line(event.name, 60)
            call = f"{shown} {short_arguments(arguments.get(event.call_id, ''))}".rstrip()
            yield f"  [{call}] {event.outcome} {duration(event.duration_ms)}"
            yield from _cut(event.result.text, _RESULT_LINES if not whole else None)
        else:
            yield from _remark(event)


def _remark(event: Event) -> Iterator[str]:
    if isinstance(event, SessionForked):
        source = f"{one_line(event.source_session_id, 60)} at {event.source_seq}"
        yield f"── forked from {source}, with {counted(len(event.messages), 'message')}"
    elif isinstance(event, RunResumed):
        yield f"  (resumed {when(event.at)})"
    elif isinstance(event, RequestOpened):
        yield f"  ? {event.request.id}: {visible(event.request.prompt)}"
    elif isinstance(event, RequestAnswered):
        yield f"  ! {answer_words(event)}"
    elif isinstance(event, LimitReached):
        yield f"  limit reached: {event.limit} of {event.allowed:g}"
    elif isinstance(event, ErrorRaised):
        yield f"  {event.error.code}: {printable(event.error.message)}"
    elif isinstance(event, RunFinished):
        words = (
            event.state.value.replace("_", " "),
            counted(event.iterations, "model call"),
            tokens(event.usage),
            money(event.cost, event.estimated_cost),
            duration(event.duration_ms),
        )
        yield f"── {' · '.join(words)}"


def answer_words(event: RequestAnswered) -> str:
    """Who answered what, on one line."""
    answer = event.answer
    said = {"approve": "approved", "deny": "denied", "answer": f"answered {_plain(answer.value)}"}
    by = f" by {one_line(answer.by, 60)}" if answer.by else ""
    why = f": {one_line(answer.reason, 200)}" if answer.reason else ""
    return f"{answer.request_id} {said[answer.verdict]}{by}{why}"


def event_line(event: Event) -> str:
    """One event on one line: its place, its time, its word, and the beginning of what it says."""
    fields = msgspec.json.encode(msgspec.to_builtins(event.payload, enc_hook=str)).decode()
    return f"{event.seq:>6}  {when(event.at)}  {event.type:<18}{one_line(fields, 160)}"


def when(at: float) -> str:
    """Unix seconds as local time."""
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _shown(content: str | Sequence[Part] | None) -> list[str]:
    """The media in a message, in words."""
    parts = () if content is None or isinstance(content, str) else content
    return [part_words(part) for part in parts if isinstance(part, MEDIA_PARTS)]


def _indented(first: str, text: str) -> Iterator[str]:
    for number, line in enumerate(printable(text).splitlines()):
        yield (first if number == 0 else " " * len(first)) + line


def _cut(text: str, lines: int | None) -> Iterator[str]:
    shown = printable(text).splitlines()
    for line in shown[:lines]:
        yield f"    {line if lines is None else line[:200]}"
    if lines is not None and len(shown) > lines:
        yield f"    … {counted(len(shown) - lines, 'line')} more"


def _plain(value: object) -> str:
    return one_line(value if isinstance(value, str) else msgspec.json.encode(value).decode(), 200)


# --- export -------------------------------------------------------------------------------------------


def as_markdown(session_id: str, events: Sequence[Event]) -> str:
    """The session as one Markdown document: a heading a run, tool results in fences."""
    arguments: dict[str, str] = {}
    parts = [f"# Session {_inline(session_id)}"]
    for event in events:
        if isinstance(event, ToolRequested) or (isinstance(event, ToolDecided) and event.arguments):
            arguments[event.call_id] = event.arguments or "{}"
        elif isinstance(event, RunStarted):
            parts.append(f"## {one_line(event.task.goal, 80)}")
            parts.append(f"*Run `{event.run_id}`, {when(event.at)}*")
            parts.append("\n".join(f"> {line}" for line in printable(event.task.goal).splitlines()))
            parts += [f"> Attached: {_inline(words)}" for words in _shown(event.task.attachments)]
        elif isinstance(event, ModelReplied):
            if text := printable(event.message.text_content or "").strip():
                parts.append(text)
            parts += [f"Shown: {_inline(words)}" for words in _shown(event.message.content)]
        elif isinstance(event, ToolFinished):
            asked = printable(arguments.get(event.call_id, "{}"))
            parts.append(f"**Tool** {_inline(event.name)} {_inline(asked)}: {event.outcome}")
            parts.append(_fenced(printable(event.result.text)))
        else:
            parts += [f"*{line.strip(' ─')}*" for line in _remark(event)]
    return "\n\n".join(parts) + "\n"


def _inline(text: str) -> str:
    flat = printable(" ".join(text.split()))
    ticks = "`" * (max((len(run) for run in re.findall("`+", flat)), default=0) + 1)
    pad = " " if "`" in flat else ""
    return f"{ticks}{pad}{flat}{pad}{ticks}"


def _fenced(text: str) -> str:
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}text\n{text.rstrip()}\n{fence}"


def as_data(store: SessionStore, session_id: str, events: Sequence[Event]) -> dict[str, Any]:
    """The session as plain data: its row, its runs with their messages, and every event of its log."""
    runs: list[dict[str, Any]] = []
    for run in store.list_runs(session_id):
        transcript = store.load_transcript(run.id)
        messages = transcript.messages if transcript else []
        runs.append({**msgspec.to_builtins(run), "messages": messages})
    record = store.load_session(session_id)
    return {
        "session": msgspec.to_builtins(record) if record else {"id": session_id},
        "runs": runs,
        "events": [msgspec.Raw(encode_event(event)) for event in events],
    }
