"""An append-only sequence of messages that is cheap to extend and to hold many versions of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from ..types import ChatMessage


class Transcript(Sequence[ChatMessage]):
    """A value: ``plus`` gives a longer transcript and leaves this one as it is.

    Versions share one list and differ in how much of it they see, so the newest grows in constant
    time, as Go's slices do; growing an older version copies.
    """

    __slots__ = ("_items", "_length")

    def __init__(self, messages: Iterable[ChatMessage] = ()) -> None:
        self._items = list(messages)
        self._length = len(self._items)

    def plus(self, *messages: ChatMessage) -> Transcript:
        """This transcript and then ``messages``."""
        grown = Transcript.__new__(Transcript)
        grown._items = self._items if self._length == len(self._items) else self._items[: self._length]
        grown._items.extend(messages)
        grown._length = self._length + len(messages)
        return grown

    def upto(self, length: int) -> Transcript:
        """The first ``length`` messages, sharing the list."""
        view = Transcript.__new__(Transcript)
        view._items = self._items
        view._length = min(length, self._length)
        return view

    def after(self, start: int) -> list[ChatMessage]:
        """The messages from position ``start``, as a list."""
        return self._items[start : self._length]

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[ChatMessage]:
        return iter(self._items[: self._length])

    @overload
    def __getitem__(self, index: int) -> ChatMessage: ...
    @overload
    def __getitem__(self, index: slice) -> list[ChatMessage]: ...
    def __getitem__(self, index: int | slice) -> ChatMessage | list[ChatMessage]:
        if isinstance(index, slice):
            return self._items[: self._length][index]
        if not -self._length <= index < self._length:
            raise IndexError(index)
        return self._items[index % self._length]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Transcript) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # equal by value, so not hashable

    def __repr__(self) -> str:
        return f"Transcript({self._length} messages)"
