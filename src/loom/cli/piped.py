"""What is piped into a command, as text: bounded, decoded, and not waited for for ever."""

from __future__ import annotations

import codecs
import os
import select
import stat
import sys
from collections.abc import Callable
from io import UnsupportedOperation
from typing import TextIO

from ..errors import ConfigError
from .text import counted

MAX_BYTES = 4 * 1024 * 1024
"""About a million tokens: more than a model reads at once. What is larger belongs into a file under ``--root``."""

SILENCE = 30.0
"""Seconds without a byte after which a pipe that nobody asked us to wait for is an error."""

_PATIENCE = 1.0
"""Seconds after which a person is told what is waited for."""

_ODD_AT_MOST = 0.1
"""The part of the characters that may be no UTF-8 in what is still text."""

_BLOCK = 65536
_HOW = "leave it out with --no-stdin or < /dev/null, or wait as long as it takes with --stdin"
_MIB = 1024 * 1024


def has_input() -> bool:
    """Whether standard input is a pipe, a file or a socket: something that was put there to be read."""
    try:
        kind = os.fstat(sys.stdin.fileno()).st_mode
    except (UnsupportedOperation, OSError, ValueError):
        return True  # no stream of the system's: whoever called us in this process has put it there
    return stat.S_ISFIFO(kind) or stat.S_ISREG(kind) or stat.S_ISSOCK(kind)


def read_text(*, silence: float | None, note: Callable[[str], None]) -> str:
    """All of standard input as text; empty when there is none.

    ``silence`` is how many seconds without a byte are borne, None for any. ``note`` tells the person something.
    Raises ConfigError for what is silent for longer, too large, or no text.
    """
    try:
        descriptor = sys.stdin.fileno()
    except (UnsupportedOperation, OSError, ValueError):
        content = sys.stdin.buffer.read(MAX_BYTES + 1)
    else:
        content = read(descriptor, silence=silence, note=note)
    text = text_of(content)
    if odd := text.count("\ufffd") - content.count("\ufffd".encode()):
        note(f"standard input is not UTF-8 in {counted(odd, 'place')}, where \ufffd stands now")
    return text


def read(descriptor: int, *, silence: float | None, note: Callable[[str], None] = lambda _: None) -> bytes:
    """Everything up to the end, or one byte more than is allowed. Raises ConfigError like ``read_text``."""
    content = bytearray()
    told = False
    while len(content) <= MAX_BYTES:
        if not told and not _comes(descriptor, _PATIENCE if silence is None else min(_PATIENCE, silence)):
            told = True
            note("waiting for the end of standard input" + ("" if silence is None else f"; {_HOW}"))
        if told and silence is not None and not _comes(descriptor, silence):
            raise ConfigError(f"standard input is open and was silent for {silence:g} s; {_HOW}")
        block = os.read(descriptor, _BLOCK)
        if not block:
            break
        content += block
    return bytes(content[: MAX_BYTES + 1])


def text_of(content: bytes) -> str:
    """The text that these bytes are. Raises ConfigError when they are too many or none."""
    if len(content) > MAX_BYTES:
        raise ConfigError(
            f"standard input is over {MAX_BYTES // _MIB} MiB: put it in a file under --root, where the agent can "
            "search it and read parts of it"
        )
    text = content.removeprefix(codecs.BOM_UTF8).decode(errors="replace")
    if "\0" in text or text.count("\ufffd") > _ODD_AT_MOST * len(text):
        raise ConfigError(
            "standard input is not text in UTF-8; show a picture, PDF, sound or film with --attach FILE"
        )
    return text


def read_line(stream: TextIO) -> str:
    """The next line; empty at the end. Raises ConfigError for one that is too long."""
    line = stream.readline(MAX_BYTES + 1)
    if len(line) > MAX_BYTES:
        raise ConfigError(f"a line of standard input is over {MAX_BYTES // _MIB} MiB")
    return line


def _comes(descriptor: int, seconds: float) -> bool:
    """Whether there is a byte, or the end, within that time."""
    ready, _, _ = select.select([descriptor], [], [], seconds)
    return bool(ready)
