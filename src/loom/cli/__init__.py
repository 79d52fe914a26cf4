"""The ``loom`` command. Only the way in is here; it works, and says what is missing, without the extra ``cli``."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_UNUSABLE = 2
EXIT_CANCELLED = 130


def main(args: Sequence[str] | None = None) -> int:
    """Run the command with ``args`` (default: those of the process) and return its exit code.

    Returns 2, having named the install command, when click or rich is not installed, and 130 after Ctrl-C,
    from the first import on.
    """
    # Nothing is imported above that takes time: only in here is Ctrl-C a way to leave and no traceback.
    try:
        from .streams import give_up_full_ones, open_closed_ones

        open_closed_ones()
        code = _run(args)
        return give_up_full_ones() or code
    except KeyboardInterrupt:
        return EXIT_CANCELLED


def _run(args: Sequence[str] | None) -> int:
    from importlib.util import find_spec

    from ..errors import MissingExtra

    if any(find_spec(name) is None for name in ("click", "rich")):
        print(f"error: {MissingExtra('the loom command', 'cli')}", file=sys.stderr)
        return EXIT_UNUSABLE
    from .app import run

    return run(args)
