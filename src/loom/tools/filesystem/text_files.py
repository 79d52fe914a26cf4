"""Telling text from binary and turning bytes into lines, the same way for reading and searching.

Lines end at LF, CRLF or CR, so a line number means the same to Grep and Read.
"""

from __future__ import annotations

import codecs
import io
import os
from typing import BinaryIO

from ...errors import ToolExecutionError

# As git and grep do: a NUL byte near the beginning means binary.
_SNIFF_BYTES = 8192
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SIGNATURES = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a ZIP archive or office document",
    b"\x1f\x8b": "a gzip archive",
    b"\x7fELF": "a program",
    b"SQLite format 3": "an SQLite database",
}


class BinaryFileError(ToolExecutionError):
    """The file holds no text."""


class TextFile:
    """A regular file opened as text. Takes over the descriptor, unless ``close_fd`` is false.

    Raises BinaryFileError when the beginning is not text.
    """

    def __init__(self, fd: int, shown: str, *, close_fd: bool = True) -> None:
        self._file: BinaryIO = open(fd, "rb", closefd=close_fd)  # noqa: SIM115 - closed by close()
        try:
            self.size = os.fstat(fd).st_size
            head = self._file.read(_SNIFF_BYTES)
            self.encoding = _encoding(head, self.size, shown)
            self._file.seek(0)
        except BaseException:
            self._file.close()
            raise
        self.replaced = False

    def lines(self) -> io.TextIOWrapper:
        """The file as a stream of lines, undecodable bytes as surrogates; pass each through ``clean``."""
        errors = "surrogateescape" if self.encoding == "utf-8-sig" else "replace"
        return io.TextIOWrapper(self._file, self.encoding, errors, newline=None)

    def text(self, limit: int) -> tuple[str, bool]:
        """The first ``limit`` bytes as text with LF line ends, and whether there is more."""
        content = self._file.read(limit + 1)
        decoded = content[:limit].decode(self.encoding, "replace")
        return decoded.replace("\r\n", "\n").replace("\r", "\n"), len(content) > limit

    def clean(self, text: str) -> str:
        """``text`` with each undecodable byte as U+FFFD; remembers in ``replaced`` that there was one."""
        if text.isascii():
            return text
        try:
            text.encode()
        except UnicodeEncodeError:
            self.replaced = True
            return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        return text

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> TextFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _encoding(head: bytes, size: int, shown: str) -> str:
    if head.startswith(_UTF16_MARKS):
        return "utf-16"
    if b"\0" in head or head.startswith(tuple(_SIGNATURES)):
        what = next((name for mark, name in _SIGNATURES.items() if head.startswith(mark)), "a binary file")
        raise BinaryFileError(f"{shown} is {what} of {size} bytes; only text can be read.")
    return "utf-8-sig"
