"""Why the name of a tool in a rule can mean no tool, now or later."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches

from ..safety.permissions import is_pattern, name_matches

_NO_NAME = re.compile(r"[^a-zA-Z0-9_\-*?\[\]!]")
"""What no name of a tool has and no pattern needs."""


def name_fault(name: str, known: Sequence[str]) -> str:
    """Why ``name``, a name or a pattern, matches none of the tools ``known`` and none to come; empty when it may."""
    if any(name_matches(one, name) for one in known):
        return ""
    if not is_pattern(name):
        return f"there is no tool {name!r}, only {', '.join(known)}{meant(name, known)}" if known else ""
    if odd := _NO_NAME.search(name):
        return f"{name!r} can match no tool, since no name has {odd[0]!r} in it; write one rule or name for each tool"
    if not known:
        return ""
    if cased := [one for one in known if name_matches(one.casefold(), name.casefold())]:
        there = name.casefold() if name_matches(cased[0], name.casefold()) else cased[0]
        return f"no tool matches {name!r}, since upper case is another letter; did you mean {there!r}?"
    bare = re.sub(r"[\[\]]", "", name)
    if bare != name and any(name_matches(one.casefold(), bare.casefold()) for one in known):
        return f"no tool matches {name!r}, since [...] stands for a single sign; did you mean {bare!r}?"
    return ""


def meant(name: str, known: Sequence[str]) -> str:
    """The end of a complaint about ``name``: which of ``known`` may have been meant."""
    lowered = {one.casefold(): one for one in known}
    close = get_close_matches(name.casefold(), list(lowered), n=1)
    return f"; did you mean {lowered[close[0]]!r}?" if close else ""
