"""What a web server sent, made into text: bounded decompression, character sets, kinds of content. No I/O."""

from __future__ import annotations

import codecs
import json
import re
import zlib
from dataclasses import dataclass
from typing import Any

from ...errors import ToolError
from .html_text import html_to_text

ACCEPTED_ENCODINGS = "gzip, deflate"
# Beside text/*: kinds that are text whatever their name says.
_TEXT_TYPES = frozenset(
    {
        "application/json", "application/xml", "application/javascript", "application/ecmascript",
        "application/yaml", "application/x-yaml", "application/toml", "application/sql",
        "application/graphql", "application/x-sh", "application/x-ndjson",
        "application/x-javascript", "application/xhtml+xml", "image/svg+xml", "message/rfc822",
    }
)  # fmt: skip
_HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
# The encodings of the web (WHATWG Encoding Standard) as Python spells them. Others, some of them slow, are
# not tried.
_CHARSETS = frozenset(
    {
        "utf-8", "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257",
        "cp1258", "cp874", "cp866", "iso8859-2", "iso8859-3", "iso8859-4", "iso8859-5", "iso8859-6",
        "iso8859-7", "iso8859-8", "iso8859-10", "iso8859-13", "iso8859-14", "iso8859-15",
        "iso8859-16", "koi8-r", "koi8-u", "mac-roman", "gb2312", "gbk", "gb18030", "big5", "euc_jp",
        "shift_jis", "cp932", "euc_kr", "cp949", "utf-16", "utf-16-le", "utf-16-be",
    }
)  # fmt: skip
_META_CHARSET = re.compile(rb"""(?i)<meta[^>]{0,200}?charset\s{0,9}=\s{0,9}["']?([a-z0-9_:-]{1,40})""")


class Inflater:
    """Undoes ``Content-Encoding`` piece by piece, never holding more than ``limit`` bytes of result.

    Raises ToolError for an encoding that was not asked for.
    """

    def __init__(self, encoding: str, limit: int) -> None:
        self._encoding = encoding.strip().lower()
        if self._encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise ToolError(f"the server sent the content encoding {self._encoding[:40]!a}, not asked for.")
        self._engine: Any = self._fresh(b"")
        self._started = False
        self._limit = limit
        self.content = bytearray()
        self.truncated = False

    def feed(self, piece: bytes) -> bool:
        """Take a piece. False when nothing more is wanted. Raises ToolError for damaged compression."""
        if self._encoding in ("", "identity"):
            self._keep(piece)
            return not self.truncated
        if not self._started and piece:
            self._engine, self._started = self._fresh(piece), True
        try:
            self._inflate(piece)
        except zlib.error as error:
            raise ToolError(f"the server's {self._encoding} compression is damaged.") from error
        return not self.truncated

    def finish(self) -> None:
        """The server has sent everything. Raises ToolError when its compression has no end."""
        if self._started and not self._engine.eof and not self.truncated:
            raise ToolError(f"the server's {self._encoding} compression stops in the middle.")

    def _inflate(self, piece: bytes) -> None:
        while piece and not self.truncated:
            if self._engine.eof:
                if not piece.startswith(b"\x1f"):
                    return  # padding after the end, which everybody ignores
                self._engine = self._fresh(piece)  # gzip may come in several members
            # One byte more than allowed tells a full page from a cut one.
            self._keep(self._engine.decompress(piece, self._limit + 1 - len(self.content)))
            piece = self._engine.unused_data if self._engine.eof else self._engine.unconsumed_tail

    def _keep(self, piece: bytes) -> None:
        self.content += piece[: self._limit + 1 - len(self.content)]
        if len(self.content) > self._limit:
            del self.content[self._limit :]
            self.truncated = True

    def _fresh(self, head: bytes) -> Any:  # zlib does not name the type of its decompressors
        if self._encoding != "deflate":
            return zlib.decompressobj(16 + zlib.MAX_WBITS)
        # "deflate" means zlib by the standard and raw deflate by habit; the first byte tells (RFC 1950, CM =
        # 8).
        zlib_wrapped = not head or head[0] & 0x0F == 8
        return zlib.decompressobj(zlib.MAX_WBITS if zlib_wrapped else -zlib.MAX_WBITS)


@dataclass(frozen=True, slots=True)
class PageText:
    """A body as text. ``replaced`` is true when some bytes did not fit the character set."""

    text: str
    title: str = ""
    replaced: bool = False


def split_type(content_type: str) -> tuple[str, str]:
    """``text/html; charset=x`` as (``text/html``, ``x``), lower case, either empty when absent."""
    kind, _, parameters = content_type.partition(";")
    charset = re.search(r"""(?i)charset\s*=\s*["']?([^\s"';]{1,40})""", parameters[:200])
    return kind.strip().lower()[:100], charset[1].lower() if charset else ""


def is_text_type(kind: str) -> bool:
    """Whether a media type is text. An absent one may be; its bytes decide."""
    return (
        not kind
        or kind.startswith("text/")
        or kind in _TEXT_TYPES
        or kind.endswith(("+json", "+xml", "+yaml"))
    )


def body_text(content: bytes, content_type: str, url: str) -> PageText:
    """The text of a body. Raises ToolError when it turns out to be binary."""
    kind, named = split_type(content_type)
    charset = _charset(content, kind, named)
    if not charset.startswith("utf-16") and b"\0" in content[:4096]:
        raise ToolError(f"{url} says it is {kind or 'of no type'!a} but holds binary data, not text.")
    text = content.decode(charset, "replace")
    replaced = "\ufffd" in text
    if kind in _HTML_TYPES or (not kind and text[:512].lstrip()[:9].lower() in ("<!doctype", "<html>")):
        title, readable = html_to_text(text, url)
        return PageText(readable, title, replaced)
    return PageText(text.removeprefix("\ufeff"), "", replaced)


def as_json(text: str, content_type: str) -> object:
    """The value of a JSON body for programs, or None when it is no JSON or broken."""
    kind, _ = split_type(content_type)
    if kind != "application/json" and not kind.endswith("+json"):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _charset(content: bytes, kind: str, named: str) -> str:
    for mark, charset in ((codecs.BOM_UTF8, "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if content.startswith(mark):
            return charset
    if not named and kind in _HTML_TYPES:
        meta = _META_CHARSET.search(content[:2048])
        named = meta[1].decode("ascii").lower() if meta else ""
    try:
        known = codecs.lookup(named).name if named else "utf-8"
    except LookupError:
        return "utf-8"
    if known in ("iso8859-1", "ascii"):
        return "cp1252"  # as browsers read these two
    return known if known in _CHARSETS else "utf-8"
