"""What a reply says, told the same whoever has read it: our adapters, the plain JSON, a service's own client."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from recordings import FOLDER, Recording, read

from loom.llm.base import reply_text
from loom.types import ChatResponse, ThinkingPart, Usage

Json = dict[str, Any]
FIXTURES_OF = Path(__file__).parent / "fixtures"


@dataclass
class Heard:
    """One reply. ``calls`` are name and arguments, ``thoughts`` the text of all reasoning."""

    text: str = ""
    thoughts: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list[tuple[str, Any]])
    usage: Usage = field(default_factory=Usage)
    stop: str = ""
    model: str = ""


def four_counts(response: ChatResponse) -> Usage:
    """The counts that all services make; tests/llm/test_usage.py is about the others."""
    usage = response.usage or Usage()
    return Usage(usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.cache_write_tokens)


def by_us(response: ChatResponse) -> Heard:
    """A reply of an adapter."""
    message = response.message
    parts = () if message.content is None or isinstance(message.content, str) else message.content
    return Heard(
        text=reply_text(message),
        thoughts="".join(part.text for part in parts if isinstance(part, ThinkingPart)),
        calls=[(call.name, json.loads(call.arguments)) for call in message.tool_calls or ()],
        usage=four_counts(response),
        stop=response.stop_reason.value,
        model=response.model,
    )


def fixtures(wire: str) -> list[Any]:
    """Our own cases of a wire as pytest parameters: written from documentation, there in a fresh clone."""
    found = map(read, sorted((FIXTURES_OF / wire).glob("*.json")))
    return [pytest.param(recording, id=f"our own {recording}") for recording in found]


def notes(wire: str, case: str) -> Json:
    """What a fixture says of itself besides its exchanges."""
    path = FIXTURES_OF / wire / f"{case}.json"
    said: Json = json.loads(path.read_text(encoding="utf-8"))
    return {name: value for name, value in said.items() if name != "interactions"}


def stale(named: dict[str, str], *services: str) -> set[str]:
    """Which of the recordings named as out of scope are not there, in a folder that is."""
    there = [service for service in services if (FOLDER / service).is_dir()]
    return {name for name in named if name.split("/")[0] in there and not (FOLDER / f"{name}.json").is_file()}


def in_scope(cases: list[Any], named: dict[str, str]) -> list[Any]:
    """``cases`` without those named as out of scope."""

    def name(case: Any) -> str:
        recording: Recording | None = case.values[0]
        return "" if recording is None else str(recording)

    return [case for case in cases if name(case) not in named]
