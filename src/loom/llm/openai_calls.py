"""Tool calls in replies of the chat completions wire, however a server numbers and names their pieces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from ..types import ChatMessage
from .base import ToolCallDeltaEvent
from .encoding import is_object
from .reply_calls import CallIds, argument_text
from .untyped import as_dict, as_text


class Function(Struct, gc=False):
    """What is called."""

    name: Any = None
    arguments: Any = None


class Call(Struct, gc=False):
    """A call, or a piece of one."""

    index: Any = None
    id: Any = None
    function: Function | None = None
    extra_content: Any = None


class Slot:
    """A tool call as it grows. ``said_id`` is the id the service gave, ``id`` the one that is unique."""

    __slots__ = ("arguments", "id", "name", "number", "said_id", "signature")

    def __init__(self, number: int, said_id: str | None, unique: str) -> None:
        self.number = number
        self.said_id = said_id
        self.id = unique
        self.name = ""
        self.arguments: list[str] = []
        self.signature: str | None = None

    def text(self) -> str:
        """The arguments so far."""
        return "".join(self.arguments)


class Calls:
    """The calls of one reply. ``history`` is the conversation asked about, for ids that do not repeat in it."""

    __slots__ = ("_by_index", "_ids", "slots")

    def __init__(self, history: Sequence[ChatMessage]) -> None:
        self.slots: list[Slot] = []
        self._by_index: dict[int, Slot] = {}
        self._ids = CallIds(history)

    def add(self, call: Call, *, whole: bool) -> ToolCallDeltaEvent:
        """Take a call, or a piece of one."""
        name = call.function.name if call.function and isinstance(call.function.name, str) else ""
        arguments = argument_text(call.function.arguments if call.function else None)
        before = None if whole else self._growing(call, name)
        slot = (
            before
            if before is not None and not _begins_again(before, arguments)
            else self._open(call, before)
        )
        if name:
            slot.name = name
        if arguments:
            slot.arguments.append(arguments)
        if call.extra_content:
            google = as_dict(as_dict(call.extra_content).get("google"))
            slot.signature = as_text(google.get("thought_signature")) or slot.signature
        return ToolCallDeltaEvent(slot.number, slot.id, name or None, arguments or None)

    def _growing(self, call: Call, name: str) -> Slot | None:
        """The call this piece belongs to, or None when it begins a new one."""
        slot: Slot | None = None
        if isinstance(call.index, int):
            slot = self._by_index.get(call.index)
        elif call.id and isinstance(call.id, str):
            slot = next((slot for slot in reversed(self.slots) if slot.said_id == call.id), None)
            if slot is None and not name and self.slots:
                slot = self.slots[-1]
        elif not name and self.slots:
            slot = self.slots[-1]
        if slot is None or not name:
            return slot
        # Some servers number every parallel call 0, or none: a name with another id is the next call.
        other = bool(call.id) and slot.said_id is not None and call.id != slot.said_id
        return None if other else slot

    def _open(self, call: Call, before: Slot | None) -> Slot:
        """A new call; ``before`` is the whole one in whose place it begins, which may be told again."""
        said = call.id if call.id and isinstance(call.id, str) else before.said_id if before else None
        slot = Slot(len(self.slots), said, self._ids.take(said))
        slot.name = before.name if before else ""
        self.slots.append(slot)
        if isinstance(call.index, int):
            self._by_index[call.index] = slot
        return slot


def _begins_again(slot: Slot, arguments: str) -> bool:
    """Whether ``arguments`` begin after those of ``slot`` were whole: the next call, or the same once more."""
    return (
        arguments.startswith("{")
        and bool(slot.arguments)
        and slot.arguments[-1].rstrip().endswith("}")
        and is_object(slot.text())
    )
