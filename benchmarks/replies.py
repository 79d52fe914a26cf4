"""The replies of the scripted model, rendered once and kept as bytes that are ready to be written.

A script is a few numbers in the path of the base URL, so that one server serves every scenario at once:
``/steps/50/delay/200/v1/chat/completions``. What follows ``/v1`` names the wire. Standard library only: peers'
environments import this too. The wires that only our own rows speak are rendered by ``wire_replies``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nConnection: keep-alive\r\n"
_USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


@dataclass(frozen=True, slots=True)
class Script:
    """What the model does: ``steps`` rounds of ``calls`` calls of ``tool``, then a text of ``tokens`` pieces.

    ``delay`` is milliseconds before every reply, ``pace`` microseconds before each piece of a stream.
    """

    steps: int = 0
    calls: int = 1
    tool: str = "add"
    tokens: int = 1
    delay: int = 0
    pace: int = 0

    @property
    def path(self) -> str:
        """The part of a base URL that asks for this script."""
        parts = [f"{name}/{getattr(self, name)}" for name in self.__slots__]
        return "/" + "/".join(parts) + "/v1"

    @property
    def text(self) -> str:
        """The final text."""
        return "".join(_pieces(self.tokens))

    @property
    def executed(self) -> int:
        """How many tool calls one run of this script makes."""
        return self.steps * self.calls


@lru_cache(maxsize=256)
def script_of(path: str) -> Script:
    """The script a request path asks for. Raises ValueError for a path that names none."""
    before, version, _ = urlsplit(path).path.partition("/v1")
    parts = before.strip("/").split("/")
    if not version or len(parts) % 2:
        raise ValueError(f"{path} is no script")
    named: dict[str, Any] = dict(zip(parts[::2], parts[1::2], strict=True))
    if not named.keys() <= set(Script.__slots__):
        raise ValueError(f"{path} is no script")
    return Script(**{name: value if name == "tool" else int(value) for name, value in named.items()})


@lru_cache(maxsize=8192)
def whole_reply(script: Script, results: int) -> bytes:
    """The HTTP response to a request that holds ``results`` tool results."""
    if results < script.executed:
        message = {"role": "assistant", "content": None, "tool_calls": _calls(script, results)}
        reason = "tool_calls"
    else:
        message = {"role": "assistant", "content": script.text}
        reason = "stop"
    choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
    body = _json({**_envelope("chat.completion"), "choices": [choice], "usage": _USAGE})
    return sized(body)


def sized(body: bytes) -> bytes:
    """A response in one piece."""
    return (_HEAD % b"application/json") + b"Content-Length: %d\r\n\r\n" % len(body) + body


@lru_cache(maxsize=1024)
def streamed_reply(script: Script, results: int) -> tuple[bytes, ...]:
    """The same as a stream: the head of the response, then its chunks in HTTP's chunked coding."""
    return chunked(_events(script, results))


def chunked(events: Iterable[bytes]) -> tuple[bytes, ...]:
    """The head of a streamed response, and its events in HTTP's chunked coding."""
    head = (_HEAD % b"text/event-stream") + b"Transfer-Encoding: chunked\r\n\r\n"
    return (head, *(b"%x\r\n%s\r\n" % (len(event), event) for event in events), b"0\r\n\r\n")


def _events(script: Script, results: int) -> Iterator[bytes]:
    yield _event({"role": "assistant", "content": ""})
    if results < script.executed:
        for index, call in enumerate(_calls(script, results)):
            yield _event({"tool_calls": [{"index": index, **call}]})
        yield _event({}, "tool_calls")
    else:
        for piece in _pieces(script.tokens):
            yield _event({"content": piece})
        yield _event({}, "stop")
    yield _sse({**_envelope("chat.completion.chunk"), "choices": [], "usage": _USAGE})
    yield b"data: [DONE]\n\n"


def _event(delta: dict[str, Any], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
    return _sse({**_envelope("chat.completion.chunk"), "choices": [choice]})


def _calls(script: Script, results: int) -> list[dict[str, Any]]:
    return [
        {
            "id": f"call_{results}_{position}",
            "type": "function",
            "function": {"name": script.tool, "arguments": _json({"a": results, "b": position}).decode()},
        }
        for position in range(script.calls)
    ]


def _pieces(tokens: int) -> Iterator[str]:
    return (f" word{number:04d}" for number in range(tokens))


def _envelope(kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1_700_000_000, "model": "scripted"}


def _sse(value: Any) -> bytes:
    return b"data: " + _json(value) + b"\n\n"


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
