"""Rules for paths a model names: what a path may look like and whether it may stay in a root. Pure text.

Nothing here touches a disk, and nothing here proves that a path stays inside: a name can turn into a link
between a check and its use. The proof is the descriptor walk of ``tools.rooted``, which asks these rules
about each piece of text it meets, the path of the model and the targets of links alike.

A path is text to us: no ``~``, no variables, no Unicode folding, no percent escapes. What is not a name
that exists under the root is simply not found.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import ToolArgumentsError, ToolPermissionError

# PATH_MAX and NAME_MAX of Linux; longer ones cannot exist, so they are refused before any system call.
MAX_PATH_BYTES = 4096
MAX_NAME_BYTES = 255
# The kernel follows at most 40 links in one path (path_resolution(7)); so do we.
MAX_LINK_HOPS = 40

_INVISIBLE = frozenset({"Cc", "Cs", "Zl", "Zp"})
_BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True, slots=True)
class PathRequest:
    """A path as names below a root.

    ``parts`` may hold ``..``, which the walk takes back step by step; ``.`` and empty parts are gone.
    ``directory_only`` is true when the text ended in ``/``, ``/.`` or ``/..``. ``shown`` is the text, safe to
    print.
    """

    parts: tuple[str, ...]
    directory_only: bool
    shown: str


def parse_path(text: str, roots: Sequence[str]) -> PathRequest:
    """Read ``text`` as a path below a root whose absolute spellings are ``roots``.

    An absolute path is accepted when it begins with one of ``roots``. Raises ToolArgumentsError for text
    that cannot be a path, ToolPermissionError for one that plainly leads elsewhere.
    """
    shown = visible(text)
    _check_text(text, shown)
    names = _names(text)
    if text.startswith("/"):
        inside = _below(names, roots)
        if inside is None:
            raise ToolPermissionError(
                f"{shown} is outside the root of these tools. Name it relative to the root, as in 'src/a'."
            )
        names = inside
    return PathRequest(names, text.endswith(("/", "/.", "/..")) or text in (".", ".."), shown)


def follow_link(target: str, roots: Sequence[str], shown: str) -> tuple[bool, tuple[str, ...]]:
    """Read the target of a link found under a root: (starts again at the root, names to walk).

    Raises ToolPermissionError when the link leads out of the root.
    """
    if not target.startswith("/"):
        return False, _names(target)
    inside = _below(_names(target), roots)
    # guard: tests/safety/test_paths.py
    if inside is None:
        raise ToolPermissionError(
            f"{shown} leads out of the root of these tools through a link; it is not followed."
        )
    return True, inside


def leaves_root(shown: str) -> ToolPermissionError:
    """The error for a path whose ``..`` climb above the root."""
    return ToolPermissionError(
        f"{shown} climbs above the root of these tools with '..'. Stay below the root."
    )


def visible(text: str, limit: int = 300) -> str:
    """``text`` on one line with control, direction and undecodable characters as backslash escapes.

    Ordinary letters of all scripts stay as they are, so a printed name can be given back as it is.
    """
    if text.isascii() and text.isprintable() and len(text) <= limit:
        return text
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(_escaped(char) for char in cut)


def _escaped(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # an undecodable byte of a file name (PEP 383)
        return f"\\x{ord(char) - 0xDC00:02x}"
    if char in _BIDI_CONTROLS or unicodedata.category(char) in _INVISIBLE:
        return char.encode("unicode_escape", "backslashreplace").decode("ascii")
    return char


def _check_text(text: str, shown: str) -> None:
    if not text:
        raise ToolArgumentsError("the path is empty; '.' is the root.")
    # guard: tests/safety/test_paths.py
    if "\0" in text:
        raise ToolArgumentsError(f"the path {shown} holds a NUL character, which no file name can.")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ToolArgumentsError(f"the path {shown} holds a character that is not valid Unicode.") from None
    if size > MAX_PATH_BYTES:
        raise ToolArgumentsError(f"the path has {size} bytes; no path is longer than {MAX_PATH_BYTES}.")
    if any(len(name.encode()) > MAX_NAME_BYTES for name in text.split("/")):
        raise ToolArgumentsError(f"a name in the path {shown} is longer than {MAX_NAME_BYTES} bytes.")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split("/") if name not in ("", "."))


def _below(names: tuple[str, ...], roots: Sequence[str]) -> tuple[str, ...] | None:
    for root in roots:
        head = _names(root)
        if names[: len(head)] == head:
            return names[len(head) :]
    return None
