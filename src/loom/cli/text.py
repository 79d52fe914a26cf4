"""Words for people: untrusted text made safe to show, and numbers made short. No terminal is touched here."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ..safety.display import visible
from ..safety.media import MediaPart
from ..types import Usage

# What a terminal or a reader could be misled by: controls but newline and tab, line separators, characters that
# turn the direction or hide text, lone surrogates. Joiners stay: scripts and emoji need them.
_MISLEADING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
_ARGUMENT_CHARS = 40


def printable(text: str) -> str:
    """Text of a model, a tool or a file for a terminal: lines and tabs as they are, no control over it."""
    return _MISLEADING.sub(lambda found: visible(found[0]), text.replace("\r\n", "\n"))


def printable_json(raw: bytes) -> str:
    """JSON text with the same characters as JSON escapes; what it says stays the same."""
    return _MISLEADING.sub(_json_escape, raw.decode())


def _json_escape(found: re.Match[str]) -> str:
    pairs = found[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{pairs[start : start + 4]}" for start in range(0, len(pairs), 4))


def one_line(text: str, limit: int) -> str:
    """The beginning of a text as one line of at most ``limit`` characters, with nothing hidden in it."""
    flat = " ".join(text[: limit * 4].split())
    shown = visible(flat)
    return shown if len(shown) <= limit and len(text) <= limit * 4 else f"{shown[: limit - 1]}…"


def short_arguments(raw: str, limit: int = 100) -> str:
    """A call's arguments (JSON text of a model) as ``name=value`` pairs on one line."""
    try:
        arguments = msgspec.json.decode(raw or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError):
        return one_line(raw, limit)
    pairs = (f"{name}={_short_value(value)}" for name, value in arguments.items())
    return one_line(" ".join(pairs), limit)


def _short_value(value: object) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return one_line(text, _ARGUMENT_CHARS)


def part_words(part: MediaPart) -> str:
    """A picture, sound, film or document: its type and size, or its address."""
    head, _, payload = part.source.partition(",")
    if head[:5].lower() != "data:":
        return one_line(part.source, 120)
    count = len(payload) * 3 // 4 - payload[-2:].count("=")
    kib = count / 1024
    size = f"{count} bytes" if kib < 1 else f"{kib:.1f} KiB" if kib < 1024 else f"{kib / 1024:.1f} MiB"
    return f"{one_line(head[5:].partition(';')[0], 60)}, {size}"


def duration(milliseconds: float) -> str:
    """A time as people say it."""
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def counted(number: int, noun: str) -> str:
    """``1 call``, ``2 calls``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def tokens(usage: Usage) -> str:
    """What a model service counted; nothing at all is no count, and an estimate says so."""
    if not usage.total_tokens:
        return "no tokens counted"
    about = "about " if usage.estimated else ""
    cached = f" ({usage.cache_read_tokens:,} cached)" if usage.cache_read_tokens else ""
    return f"{about}{usage.input_tokens:,} in{cached} + {usage.output_tokens:,} out tokens"


def money(cost: float | None, estimated: float | None = None) -> str:
    """A cost, in the currency of the model's price. Unknown is not nothing, and an estimate says so."""
    if cost is None:
        return "cost unknown" if estimated is None else f"cost unknown, about {estimated:.4f}"
    return f"cost {cost:.4f}"
