"""What is alike in the tool calls of all wires' replies: ids that are stable and unique, arguments as text."""

from __future__ import annotations

from collections.abc import Sequence

from ..types import ChatMessage
from .encoding import encode


class CallIds:
    """The ids of one reply's calls. ``history`` is the conversation asked about; ids count on from it."""

    __slots__ = ("_history", "_taken")

    def __init__(self, history: Sequence[ChatMessage] = ()) -> None:
        self._history = history
        self._taken: set[str] = set()

    def take(self, said: str | None) -> str:
        """The id of the next call: ``said``, with a number when it is taken, or one made up."""
        wanted = said or self._invented()
        unique, number = wanted, 2
        while unique in self._taken:
            unique, number = f"{wanted}_{number}", number + 1
        self._taken.add(unique)
        return unique

    def _invented(self) -> str:
        # Counted on from the calls of the conversation, so that the same request gets the same ids and no
        # two calls of a conversation share one.
        earlier = sum(len(message.tool_calls or ()) for message in self._history)
        return f"call_{earlier + len(self._taken) + 1}"


def argument_text(arguments: object) -> str:
    """Arguments as text; some servers send the object itself."""
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    return encode(arguments).decode()
