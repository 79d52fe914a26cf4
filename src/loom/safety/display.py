"""How untrusted text is shown to a human, and how it is kept: whole, with nothing hidden or unencodable in it."""

from __future__ import annotations

import re
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


def whole_escapes(json: str) -> str:
    """JSON text with the escapes of lone surrogates, which no decoder takes, replaced by that of U+FFFD."""
    if "\\ud" not in json and "\\uD" not in json:
        return json
    return _ESCAPE.sub(lambda found: found[0] if found[1] is None else "\\ufffd", json)


HALF_ESCAPE = (
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u([dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)
"""Any escape of JSON. The first group is half of a character; whole ones and all other escapes have none."""
_ESCAPE = re.compile(HALF_ESCAPE, re.DOTALL)


def _hides(character: str) -> bool:
    if " " <= character <= "~":
        return False
    category = unicodedata.category(character)
    return category in _HIDDEN or category == "Zs"


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()
