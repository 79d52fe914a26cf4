"""An object or array while its text is still coming: what is certain of it so far.

Text is read once, piece by piece, with a stack and no way back, so the cost of a growing answer is linear in
its length, however small the pieces and whatever they hold. Values are plain data and not validated.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from math import isfinite
from typing import Any, Literal

from .json_kinds import is_array

MAX_DEPTH = 100
"""Containers in containers; what is deeper is not read."""

# How many items a copy for showing may cost for each character read since the last: bounds all copies together.
_ITEMS_A_CHARACTER = 32
_LONGEST_NUMBER = 1000

_SPACE = re.compile(r"[ \t\n\r]*")
_PLAIN = re.compile(r'[^"\\\x00-\x1f\ud800-\udfff]+')
_NUMERIC = re.compile(r"[-+0-9.eE]+")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_HEX = frozenset("0123456789abcdefABCDEF")
_ESCAPES = {
    '"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t",
}  # fmt: skip
_WORDS: dict[str, tuple[str, bool | None]] = {
    "t": ("rue", True),
    "f": ("alse", False),
    "n": ("ull", None),
}


class _NotJSONError(Exception):
    """The text goes on, at a position, in a way that no JSON does. Never leaves ``feed``."""

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position


class PartialJSON:
    """``feed`` it text as it comes; ``value`` is the object or array so far, None before it has begun.

    ``opening`` are the brackets it may begin with: what comes before (prose, a code fence) and after is passed
    over. Strings are shown as far as they came; a number or a word only when it has ended, a member when its
    value has begun. Text that is no JSON ends the reading: what was certain stays. Nothing raises.
    """

    __slots__ = (
        "_certain", "_changes", "_code", "_high", "_keys", "_may_close", "_opener", "_pieces", "_reading",
        "_root", "_shown", "_size", "_stack", "_step", "_unpaid", "_word", "complete",
    )  # fmt: skip

    def __init__(self, opening: str = "{[") -> None:
        self.complete = False
        self._opener = re.compile(f"[{re.escape(opening)}]")
        self._step: Callable[[str, int], int] = self._search
        self._root: Any = None
        self._stack: list[Any] = []
        self._keys: list[str] = []  # the member that is under way in each container of the stack
        self._certain = False
        self._may_close = False
        self._reading: Literal["", "key", "string", "number"] = ""
        self._pieces: list[str] = []  # of what is read
        self._size = 0  # of those pieces
        self._code = ""
        self._high = 0
        self._word: tuple[str, bool | None] = ("", None)
        self._changes: int = 0
        self._shown: int = 0  # of those changes
        self._unpaid = 0  # characters since

    def feed(self, text: str) -> bool:
        """Read on. True when ``value`` has changed since the last True, and is worth its copy again.

        A copy costs what is still open, so a large value is shown less often the slower it grows.
        """
        position, end = 0, len(text)
        while position < end:
            try:
                position = self._step(text, position)
            except _NotJSONError as error:
                position = self._give_up(error.position)
        self._unpaid += end
        if self._changes == self._shown or not (self.complete or self._is_paid_for()):
            return False
        self._shown, self._unpaid = self._changes, 0
        return True

    @property
    def value(self) -> Any:
        """A copy of what there is. What has closed is shared between copies, so do not change it."""
        if not self._stack:
            return self._root
        copies = [container.copy() for container in self._stack]
        for parent, key, child in zip(copies, self._keys, copies[1:], strict=False):
            if isinstance(parent, list):
                parent[-1] = child
            else:
                parent[key] = child
        if self._reading == "string":
            self._pieces = ["".join(self._pieces)]
            _put(copies[-1], self._keys[-1], self._pieces[0])
        return copies[0]

    def _is_paid_for(self) -> bool:
        return self._unpaid * _ITEMS_A_CHARACTER >= sum(map(len, self._stack)) + self._size

    def _give_up(self, position: int) -> int:
        """A bracket in prose that began no JSON is passed over; otherwise this is the end."""
        if self._certain:
            self._step = self._ignore
        else:
            self._root, self._stack, self._keys, self._reading = None, [], [], ""
            self._step = self._search
        return position

    # --- steps: each reads on from a position, returns the next, and may name the step that follows --------

    def _search(self, text: str, position: int) -> int:
        found = self._opener.search(text, position)
        if found is None:
            return len(text)
        self._open(found[0], found.start())
        self._root = self._stack[0]
        return found.end()

    def _ignore(self, text: str, position: int) -> int:
        return len(text)

    def _value(self, text: str, position: int) -> int:
        position = _past_space(text, position)
        first = text[position : position + 1]
        if not first:
            return position
        if first == "]" and self._may_close:
            return self._close(first, position)
        if first == '"':
            self._begin("string", self._string)
            self._certain = True
            self._changes += 1
            return position + 1
        if first in "{[":
            self._open(first, position)
            return position + 1
        if first in "-0123456789":
            self._begin("number", self._number)
            return position
        if first not in _WORDS:
            raise _NotJSONError(position)
        self._word, self._step = _WORDS[first], self._words
        return position + 1

    def _key(self, text: str, position: int) -> int:
        position = _past_space(text, position)
        first = text[position : position + 1]
        if first == '"':
            self._begin("key", self._string)
            return position + 1
        if first == "}" and self._may_close:
            return self._close(first, position)
        if first:
            raise _NotJSONError(position)
        return position

    def _colon(self, text: str, position: int) -> int:
        position = _past_space(text, position)
        first = text[position : position + 1]
        if first == ":":
            self._certain, self._may_close, self._step = True, False, self._value
            return position + 1
        if first:
            raise _NotJSONError(position)
        return position

    def _after(self, text: str, position: int) -> int:
        position = _past_space(text, position)
        first = text[position : position + 1]
        if first == ",":
            self._may_close = False
            self._step = self._value if isinstance(self._stack[-1], list) else self._key
            return position + 1
        return self._close(first, position) if first else position

    def _string(self, text: str, position: int) -> int:
        if not self._high and (run := _PLAIN.match(text, position)) is not None:
            self._grow(run[0])
            return run.end()
        if text[position] == "\\":
            self._code, self._step = "", self._escape
        elif text[position] == '"' and not self._high:
            self._end_string()
        else:
            raise _NotJSONError(position)
        return position + 1

    def _escape(self, text: str, position: int) -> int:
        one = text[position]
        if not self._code and one == "u":
            self._code = "u"
        elif not self._code and one in _ESCAPES and not self._high:
            self._grow(_ESCAPES[one])
            self._step = self._string
        elif self._code and one in _HEX:
            self._code += one
            if len(self._code) == 5:
                self._end_code(int(self._code[1:], 16), position)
        else:
            raise _NotJSONError(position)
        return position + 1

    def _end_code(self, code: int, position: int) -> None:
        """A UTF-16 code unit is there; characters beyond 16 bits are two of them."""
        is_low = 0xDC00 <= code < 0xE000
        if is_low != bool(self._high):
            raise _NotJSONError(position)
        if 0xD800 <= code < 0xDC00:
            self._high = code
        else:
            self._grow(chr(0x10000 + (self._high - 0xD800 << 10) + code - 0xDC00 if self._high else code))
            self._high = 0
        self._step = self._string

    def _number(self, text: str, position: int) -> int:
        run = _NUMERIC.match(text, position)
        if run is not None:
            self._grow(run[0])
            if self._size > _LONGEST_NUMBER:
                raise _NotJSONError(position)
            return run.end()
        written = "".join(self._pieces)
        if _NUMBER.fullmatch(written) is None:
            raise _NotJSONError(position)
        number = int(written) if written.lstrip("-").isdecimal() else float(written)
        if not isfinite(number):
            raise _NotJSONError(position)
        self._place(number)
        return position

    def _words(self, text: str, position: int) -> int:
        rest, value = self._word
        if text[position] != rest[0]:
            raise _NotJSONError(position)
        self._word = (rest[1:], value)
        if len(rest) == 1:
            self._place(value)
        return position + 1

    # --- what steps do ------------------------------------------------------------------------------------

    def _begin(self, reading: Literal["key", "string", "number"], step: Callable[[str, int], int]) -> None:
        self._reading, self._pieces, self._size, self._high = reading, [], 0, 0
        self._step = step

    def _grow(self, piece: str) -> None:
        self._pieces.append(piece)
        self._size += len(piece)
        self._changes += self._reading == "string"

    def _end_string(self) -> None:
        written = "".join(self._pieces)
        if self._reading == "string":
            self._place(written)
            return
        self._keys[-1] = written
        self._reading, self._size, self._step = "", 0, self._colon

    def _place(self, value: Any) -> None:
        """A value has ended."""
        _put(self._stack[-1], self._keys[-1], value)
        if self._reading != "string":
            self._changes += 1
        self._reading, self._size = "", 0
        self._certain, self._step = True, self._after

    def _open(self, bracket: str, position: int) -> None:
        if len(self._stack) == MAX_DEPTH:
            raise _NotJSONError(position)
        container: Any = {} if bracket == "{" else []
        if self._stack:
            _put(self._stack[-1], self._keys[-1], container)
            self._changes += 1
        self._stack.append(container)
        self._keys.append("")
        self._may_close = True
        self._step = self._key if bracket == "{" else self._value

    def _close(self, bracket: str, position: int) -> int:
        if bracket != ("]" if isinstance(self._stack[-1], list) else "}"):
            raise _NotJSONError(position)
        self._stack.pop()
        self._keys.pop()
        self._step = self._after
        if not self._stack:
            self.complete, self._step = True, self._ignore
            self._changes += not self._root
        return position + 1


def _past_space(text: str, position: int) -> int:
    space = _SPACE.match(text, position)
    return space.end() if space else position


def _put(container: Any, key: str, value: Any) -> None:
    if is_array(container):
        container.append(value)
    else:
        container[key] = value
