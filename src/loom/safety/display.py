"""How untrusted text is shown to a human, and how it is kept: whole, with nothing hidden or unencodable in it."""

from __future__ import annotations

import unicodedata

_HIDDEN = frozenset({"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"})


def visible(text: str) -> str:
    """``text`` with every control, format and unassigned character written as an escape.

    Covers line breaks, terminal escapes, zero-width and bidirectional marks; spaces other than U+0020 too.
    """
    return "".join(_escape(c) if _hides(c) else c for c in text)


def encodable(text: str) -> str:
    """``text`` with lone surrogates, which no store or wire can hold, replaced by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _hides(character: str) -> bool:
    if " " <= character <= "~":
        return False
    category = unicodedata.category(character)
    return category in _HIDDEN or category == "Zs"


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()
