"""Standard input, output and error as the command needs them, whatever it was started with.

A stream that is closed becomes an empty one; one that cannot be written to any more is given up in silence, with an
exit code. What is piped in is read by ``piped``.
"""

from __future__ import annotations

import errno
import os
import sys
from io import TextIOWrapper

FAILED = 1
READER_GONE = 141
"""What shells report for a program that wrote to a reader that had left: 128 and SIGPIPE's number."""

_MODES = {"stdin": "r", "stdout": "w", "stderr": "w"}


def open_closed_ones() -> None:
    """Open closed streams on nothing, and let no character end a run that one of them cannot show or read.

    A descriptor that is left closed would be that of the next file, and a database would hear what is printed.
    """
    for descriptor, (name, mode) in enumerate(_MODES.items()):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest that is free: this one
        stream = getattr(sys, name)
        if stream is None:
            # It lives as long as the process.
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
        elif isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace" if mode == "r" else "backslashreplace")


def give_up_full_ones() -> int:
    """Write out what is left; the exit code for what cannot be, or 0. Afterwards nothing is left to fail."""
    code = 0
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is None:
            continue  # it was closed when this process began
        try:
            stream.flush()
        except OSError as error:
            code = code or code_of(error)
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, stream.fileno())
            os.close(nothing)
    return code


def code_of(error: OSError) -> int:
    """The exit code for a stream that could not be written to."""
    return READER_GONE if error.errno == errno.EPIPE else FAILED
