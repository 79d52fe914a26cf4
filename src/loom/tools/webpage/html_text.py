"""The readable text of an HTML page, in time that grows with its length and no faster.

``html.parser`` of the standard library needs quadratic time on unclosed constructs (120 KB of ``<a x='`` take
half a minute on Python 3.11), and a page is written by whoever wants to. This scanner never looks at a
character twice: what the HTML standard drops at the end of the file, an unclosed tag or comment, ends it.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urljoin

# Atomic and possessive, so that a failed match costs one pass; a quote counts only after '='.
_TAG = re.compile(
    r"""<(?P<end>/?)(?P<name>[a-zA-Z][^\s/>]*+)(?P<attrs>(?:[^>=]++|=\s*+(?:"[^"]*+"|'[^']*+'|(?!["'])))*+)>"""
)
_ATTRIBUTE = re.compile(r"""([^\s"'>/=]++)\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s>]*+))""")
_SPACES = re.compile(r"[ \t\r\n\f\v]+")
# Content that is not read as markup, up to its own end tag (the HTML standard's raw text elements and title).
_RAW_TEXT = frozenset({"script", "style", "textarea", "title", "iframe", "noembed", "noframes", "xmp"})
_DROPPED_RAW = _RAW_TEXT - {"title", "textarea", "xmp"}
# Subtrees that are not what the page is about.
_DROPPED = frozenset({"nav", "noscript", "template", "svg", "select", "button", "dialog"})
_BLOCKS = frozenset(
    {
        "address", "article", "aside", "blockquote", "body", "br", "caption", "dd", "details",
        "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3",
        "h4", "h5", "h6", "header", "hr", "html", "li", "main", "ol", "p", "pre", "section",
        "summary", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul",
    }
)  # fmt: skip
_MAX_LINK = 500


@dataclass(frozen=True, slots=True)
class _Token:
    """A piece of a page: text, or a tag with its attributes. ``raw`` is the content of a raw text tag."""

    text: str = ""
    name: str = ""
    closing: bool = False
    attributes: str = ""
    raw: str = ""


@dataclass(slots=True)
class _Writer:
    """Blocks of text under construction."""

    base: str
    title: str = ""
    blocks: list[str] = field(default_factory=list[str])
    words: list[str] = field(default_factory=list[str])
    prefix: str = ""
    link: str | None = None
    link_words: list[str] = field(default_factory=list[str])
    dropped: str = ""
    dropped_depth: int = 0
    preformatted: int = 0

    def add_text(self, text: str) -> None:
        if self.dropped or not text:
            return
        (self.words if self.link is None else self.link_words).append(unescape(text))

    def block(self, prefix: str = "") -> None:
        """End the paragraph; the next one begins with ``prefix``."""
        self.end_link()
        text = "".join(self.words)
        text = text.strip("\n") if self.preformatted else _SPACES.sub(" ", text).strip()
        if text.strip():
            self.blocks.append(self.prefix + text)
        if text.strip() or prefix:
            self.prefix = prefix
        self.words.clear()

    def end_link(self) -> None:
        if self.link is None:
            return
        text = _SPACES.sub(" ", "".join(self.link_words))
        target, self.link = self.link, None
        self.link_words.clear()
        self.words.append(f"[{text.strip()}]({target})" if text.strip() and target else text)


def html_to_text(page: str, url: str) -> tuple[str, str]:
    """The title and the text of a page: headings as ``#``, list items as ``-``, links as ``[text](address)``.

    Links are made absolute against ``url``. Scripts, styles, navigation and forms are left out.
    """
    writer = _Writer(url)
    for token in _tokens(page):
        if not token.name:
            writer.add_text(token.text)
        elif token.closing:
            _close(writer, token.name)
        else:
            _open(writer, token)
    writer.block()
    return writer.title, "\n\n".join(writer.blocks)


def unescape(text: str) -> str:
    """Character references as characters; text with an absurd one is left as it is."""
    try:
        return html.unescape(text)
    except ValueError:  # a number of thousands of digits: int() refuses it
        return text


def _tokens(page: str) -> Iterator[_Token]:
    at, end = 0, len(page)
    while at < end:
        mark = page.find("<", at)
        if mark < 0:
            yield _Token(page[at:])
            return
        if mark > at:
            yield _Token(page[at:mark])
        following = page[mark + 1 : mark + 2]
        first = page[mark + 2 : mark + 3] if following == "/" else following
        named = first.isascii() and first.isalpha()
        if page.startswith("<!--", mark):
            at = _after(page, "-->", mark + 4)
        elif following in ("!", "?") or (following == "/" and not named):
            at = _after(page, ">", mark + 2)
        elif match := _TAG.match(page, mark):
            name, closing = match["name"].lower()[:32], bool(match["end"])
            at, raw = match.end(), ""
            if name in _RAW_TEXT and not closing:
                stop = re.compile(rf"(?i)</{name}[\s/>]").search(page, at)
                raw = page[at : stop.start() if stop else end]
                at = stop.start() if stop else end
            yield _Token(name=name, closing=closing, attributes=match["attrs"], raw=raw)
        elif named:
            return  # a tag that never ends: nothing after it is text
        else:
            yield _Token("<")
            at = mark + 1


def _after(page: str, mark: str, at: int) -> int:
    found = page.find(mark, at)
    return len(page) if found < 0 else found + len(mark)


def _open(writer: _Writer, token: _Token) -> None:
    name = token.name
    if name == "title":
        writer.title = writer.title or _SPACES.sub(" ", unescape(token.raw)).strip()
    elif name in _DROPPED_RAW:
        return
    elif writer.dropped:
        writer.dropped_depth += name == writer.dropped
    elif name in _DROPPED:
        if not token.attributes.rstrip().endswith("/"):
            writer.dropped, writer.dropped_depth = name, 1
    elif name == "a":
        writer.end_link()
        writer.link = _link(token.attributes, writer.base)
    elif name in ("textarea", "xmp"):
        writer.add_text(token.raw)
    elif name in _BLOCKS:
        writer.block(_prefix(name))
        writer.preformatted += name == "pre"


def _close(writer: _Writer, name: str) -> None:
    if writer.dropped:
        writer.dropped_depth -= name == writer.dropped
        if not writer.dropped_depth:
            writer.dropped = ""
    elif name == "a":
        writer.end_link()
    elif name in _BLOCKS:
        writer.block()
        if name == "pre":
            writer.preformatted = max(0, writer.preformatted - 1)


def _prefix(name: str) -> str:
    if name[0] == "h" and name[1:].isdigit():
        return "#" * int(name[1:]) + " "
    return "- " if name == "li" else ""


def _link(attributes: str, base: str) -> str:
    """The address of an ``a`` tag, or nothing when it is none that could be fetched."""
    for name, *values in _ATTRIBUTE.findall(attributes[:4096]):
        if name.lower() == "href":
            try:
                address = urljoin(base, unescape("".join(values)).strip())
            except ValueError:
                return ""
            plain = address.startswith(("http://", "https://")) and address.isprintable()
            usable = plain and len(address) <= _MAX_LINK
            return address.replace(" ", "%20").replace(")", "%29") if usable else ""
    return ""
