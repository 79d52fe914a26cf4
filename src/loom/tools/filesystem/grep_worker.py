"""The process that runs a model's regular expression, so that it can be ended. Standard library only.

``re`` backtracks and keeps the interpreter lock while it does: a pattern such as ``(a+)+$`` would stop every
task of the program for hours, and no timeout inside the process could help. Here the kernel's own alarm ends
this process. It sees text and a pattern, no files, and dies with its input.

Frames, both ways: four bytes of length, then JSON. First ``{"pattern", "ignore_case", "seconds"}``, answered
by ``{"error": text or null}``; then for each text a frame ``{"text", "limit"}``, answered by ``[[line,
column], ...]`` counted from 0.
"""

from __future__ import annotations

import json
import re
import signal
import struct
import sys
from typing import Any, BinaryIO

# Longer lines are searched in their beginning only: generated code, where one line can be the whole file.
MAX_LINE_CHARS = 20_000


def read_frame(stream: BinaryIO) -> Any:
    """The next frame, or None at the end of the stream."""
    head = stream.read(4)
    if len(head) < 4:
        return None
    size = struct.unpack(">I", head)[0]
    body = stream.read(size)
    return json.loads(body) if len(body) == size else None


def write_frame(stream: BinaryIO, value: Any) -> None:
    """Send one frame."""
    body = json.dumps(value).encode()
    stream.write(struct.pack(">I", len(body)) + body)
    stream.flush()


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Compile the pattern, then answer texts until there are no more."""
    start = read_frame(requests)
    if start is None:
        return
    seconds = start["seconds"]
    signal.setitimer(signal.ITIMER_REAL, seconds)  # nobody catches it: the kernel ends the process
    try:
        pattern = re.compile(start["pattern"], re.IGNORECASE if start["ignore_case"] else 0)
    except (re.error, OverflowError, RecursionError) as error:
        write_frame(answers, {"error": str(error) or type(error).__name__})
        return
    write_frame(answers, {"error": None})
    while True:
        signal.setitimer(signal.ITIMER_REAL, 0)
        request = read_frame(requests)
        if request is None:
            return
        signal.setitimer(signal.ITIMER_REAL, seconds)
        found: list[tuple[int, int]] = []
        text: str = request["text"]
        for number, line in enumerate(text.split("\n")):
            match: re.Match[str] | None = pattern.search(line, 0, MAX_LINE_CHARS)
            if match is not None:
                found.append((number, match.start()))
                if len(found) >= request["limit"]:
                    break
        write_frame(answers, found)


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
