"""Secrets in text that comes in pieces: ``redact`` where the whole is never at hand."""

from __future__ import annotations

import re

from .redact import Scrubber, within
from .secret_contexts import in_context

# What a secret's format is made of; anything else ends a word.
_NO_WORD = re.compile(r"[^\w.~+/=:%$!@\\-]", re.ASCII)
_LAST_WORD = re.compile(r"[\w.~+/=:%$!@\\-]*", re.ASCII)
_TO_THE_NEXT_WORD = re.compile(r"[^\s\"'`]*")
# A name before its value, the head of a key before its lines: nothing known is longer.
_CONTEXT_CHARS = 256
# The longest private keys have some 6,500 characters; more than this is not held back for anything.
_MOST_HELD = 16_384


class StreamScrubber:
    """A ``Scrubber`` for text that comes in pieces, however it is cut.

    ``feed`` returns what is safe to show of what came so far, ``close`` the rest. Held back is the last word
    (a secret's format may still be growing), the beginning of a given secret, and an open value such as
    ``"password": "...`` or a private key. At most 16 KiB wait; a secret that is longer and was not given is only
    found in part.
    """

    __slots__ = ("_inside", "_scrubber", "_shown", "_text")

    def __init__(self, scrubber: Scrubber) -> None:
        self._scrubber = scrubber
        self._text = ""  # what was shown last, for its context, and what is held back
        self._shown = 0
        self._inside = False

    @property
    def held(self) -> int:
        """How many characters are held back."""
        return len(self._text) - self._shown

    def feed(self, text: str) -> str:
        """Take the next piece and return what can be shown now, which may be nothing."""
        if self._inside:
            rest = _TO_THE_NEXT_WORD.match(text)
            text = text[rest.end() if rest else 0 :]
            self._inside = not text
        self._text += text
        if self.held <= _MOST_HELD and _NO_WORD.search(text) is None:
            return ""  # the last word goes on
        return self._show(last=False)

    def close(self) -> str:
        """What is left to show. The object can be used for another text then."""
        shown = self._show(last=True)
        self._text, self._shown, self._inside = "", 0, False
        return shown

    def _show(self, *, last: bool) -> str:
        text = self._text
        cuts = self._scrubber.cuts(text)
        until = len(text) if last else self._safe_end(text)
        for cut in reversed(cuts):
            if not last and cut.start < until and (cut.end > until or cut.end == len(text)):
                until = cut.start
        if len(text) - until > _MOST_HELD:
            # Nothing that was given is cut through here: its forms are held by the same end.
            until = min(len(text) - _MOST_HELD // 2, self._scrubber.unfinished(text))
            if cuts and cuts[-1].start < until and cuts[-1].end == len(text):
                until, self._inside = len(text), True
        until = max(until, self._shown)
        shown = within(text[self._shown : until], self._shown, cuts)
        kept = max(0, until - _CONTEXT_CHARS)
        self._text, self._shown = text[kept:], until - kept
        return shown

    def _safe_end(self, text: str) -> int:
        word = _LAST_WORD.match(text[: self._shown - 1 if self._shown else None : -1])
        until = len(text) - (word.end() if word else 0)
        for found in in_context(text):
            if max(found.end, found.reach) == len(text):
                until = min(until, found.start)
        return min(until, self._scrubber.unfinished(text))
