"""The ``loom`` command. Only the way in is here; it works, and says what is missing, without the extra ``cli``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from io import TextIOWrapper

from ..errors import MissingExtra

EXIT_UNUSABLE = 2


def main(args: Sequence[str] | None = None) -> int:
    """Run the command with ``args`` (default: those of the process) and leave with its exit code.

    Returns 2, having named the install command, when click or rich is not installed.
    """
    if any(find_spec(name) is None for name in ("click", "rich")):
        print(f"error: {MissingExtra('the loom command', 'cli')}", file=sys.stderr)
        return EXIT_UNUSABLE
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A character that this terminal has no way to show must not end a run.
            stream.reconfigure(errors="backslashreplace")
    from .app import command

    command.main(args=args, prog_name="loom")
    return 0
