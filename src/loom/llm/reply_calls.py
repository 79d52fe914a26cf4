"""What is alike in the tool calls of all wires' replies: ids that are stable, arguments as text."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from ..safety.calls import one_each
from ..types import ChatMessage, ChatResponse
from .encoding import encode
from .halves import with_whole_text


class CallIds:
    """The ids of one reply's calls. ``history`` is the conversation asked about; ids count on from it."""

    __slots__ = ("_count", "_history", "_invented", "_renamed", "_taken")

    def __init__(self, history: Sequence[ChatMessage] = ()) -> None:
        self._history = history
        self._taken: set[str] = set()
        self._invented: set[str] = set()
        self._renamed: dict[str | None, str] = {}
        self._count = 0

    def take(self, said: str | None) -> str:
        """The id of the next call: what the service ``said``, or one made up that no other call has.

        An id said twice stays: it is the same call told again, or a fault (``safety/calls.py``).
        """
        self._count += 1
        if said and said not in self._invented:
            self._taken.add(said)
            return said
        if said in self._renamed:
            return self._renamed[said]
        unique = self._free(said or self._next())
        self._taken.add(unique)
        if said:
            self._renamed[said] = unique
        else:
            self._invented.add(unique)
        return unique

    def _free(self, wanted: str) -> str:
        unique, number = wanted, 2
        while unique in self._taken:
            unique, number = f"{wanted}_{number}", number + 1
        return unique

    def _next(self) -> str:
        # Counted on from the calls of the conversation, so that the same request gets the same ids and no
        # two calls of a conversation share one.
        earlier = sum(len(message.tool_calls or ()) for message in self._history)
        return f"call_{earlier + self._count}"


def once(reply: ChatResponse) -> ChatResponse:
    """``reply`` with every call once and every character whole.

    Raises MalformedReplyError when one id stands for two calls.
    """
    reply = with_whole_text(reply)
    return replace(reply, message=one_each(reply.message)) if reply.message.tool_calls else reply


def argument_text(arguments: object) -> str:
    """Arguments as text; some servers send the object itself."""
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    return encode(arguments).decode()
