"""Takes secrets out of text that leaves us: error messages, logs, recordings, requests.

Two nets: exact matches of secrets we were given (in plain and in the usual encodings), and what secrets
commonly look like (``secret_formats``). Here is no policy about *when* to redact; callers decide.
"""

from __future__ import annotations

import base64
import html
import json
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import quote, quote_plus

import msgspec

from .secret_formats import find_secrets
from .untyped import is_dict, is_list

T = TypeVar("T")

_SHORTEST = 4
# Encoded, a shorter secret could not be told from chance.
_SHORTEST_ENCODED = 8
_GIVEN = "[REDACTED]"


class Cut(NamedTuple):
    """What is taken out of a text, ``text[start:end]``, and what stands there instead."""

    start: int
    end: int
    instead: str


def redact_sensitive_text(text: str) -> str:
    """``text`` with everything that looks like a secret replaced by ``[REDACTED_<label>]``."""
    return _without(text, _all_cuts(text, ()))


class Scrubber:
    """Removes given secrets from text, and then what looks like one.

    A given secret is found in plain, in URL, JSON, HTML, hex and base64 form (inside of longer base64 too) and
    backwards. Secrets shorter than 4 characters are not looked for: replacing them would destroy ordinary words.
    """

    __slots__ = ("_given", "_made")

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._given = tuple(secrets)
        self._made: tuple[str, ...] | None = None

    @property
    def _forms(self) -> tuple[str, ...]:
        # Made when a text is first looked at: most adapters never have an error to tell.
        if self._made is None:
            forms = {form for secret in self._given if len(secret) >= _SHORTEST for form in _forms(secret)}
            self._made = tuple(sorted(forms, key=len, reverse=True))
        return self._made

    def __call__(self, text: str) -> str:
        """``text`` without the secrets; the same object when there is none."""
        return _without(text, self.cuts(text))

    def cuts(self, text: str) -> list[Cut]:
        """What has to go from ``text``, in order and without overlap."""
        return _all_cuts(text, self._forms)

    def unfinished(self, text: str) -> int:
        """Where in ``text`` a given secret may have begun whose end is still to come; its length if nowhere."""
        first = len(text)
        for form in self._forms:
            start = text.find(form[0], max(0, len(text) - len(form) + 1), first)
            while start >= 0:
                if form.startswith(text[start:]):
                    first = start
                    break
                start = text.find(form[0], start + 1, first)
        return first

    def pieces(self, pieces: Sequence[str]) -> list[str]:
        """The pieces of one text, as many as before, without the secrets that lie in them or across them."""
        cuts, position = self.cuts("".join(pieces)), 0
        cleaned: list[str] = []
        for piece in pieces:
            cleaned.append(within(piece, position, cuts))
            position += len(piece)
        return cleaned

    def value(self, value: Any, name: str = "") -> Any:
        """JSON-like ``value`` without secrets in its strings and keys; the same object when there is none.

        ``name`` is the key it stands under: a string below ``password`` is a secret whatever it looks like.
        """
        if isinstance(value, str):
            return self._named(name, value)
        if is_dict(value):
            cleaned: dict[Any, Any] = {}
            same = True
            for key, item in value.items():
                new_key: Any = self.value(key)
                cleaned[new_key] = new_item = self.value(item, str(key))
                same = same and new_key is key and new_item is item
            return value if same else cleaned
        if is_list(value):
            items = [self.value(item, name) for item in value]
            return value if all(a is b for a, b in zip(items, value, strict=True)) else items
        return value

    def json(self, text: str) -> str:
        """The JSON ``text`` without secrets, however its strings are escaped; other text as any text."""
        try:
            value = msgspec.json.decode(text)
            cleaned = self.value(value)
        except (ValueError, RecursionError):
            return self(text)
        return text if cleaned is value else msgspec.json.encode(cleaned).decode()

    def _named(self, name: str, text: str) -> str:
        cleaned = self(text)
        if cleaned is not text or not name:
            return cleaned
        # Beside its name, in one line, the value is judged like everywhere else.
        start = len(name) + 5
        line = f'"{name}": {json.dumps(text, ensure_ascii=False)}'
        return next((cut.instead for cut in _joined(_lookalikes(line)) if cut.start == start), text)

    def __repr__(self) -> str:
        return "Scrubber(...)"


def within(text: str, position: int, cuts: Sequence[Cut]) -> str:
    """What is left of ``text``, which stands at ``position`` of what was cut; a mark stands where its cut began."""
    end = position + len(text)
    cuts = [cut for cut in cuts if cut.start < end and cut.end > position]
    if not cuts:
        return text
    kept: list[str] = []
    at = position
    for cut in cuts:
        kept.append(text[at - position : max(cut.start, position) - position])
        if cut.start >= position:
            kept.append(cut.instead)
        at = min(cut.end, end)
    return "".join([*kept, text[at - position :]])


def _without(text: str, cuts: Sequence[Cut]) -> str:
    return within(text, 0, cuts)


def _all_cuts(text: str, forms: Sequence[str]) -> list[Cut]:
    given = [cut for form in forms for cut in _occurrences(text, form)]
    cuts = _joined([*given, *_lookalikes(text)])
    while cuts:
        # What touched a secret may be one too, now that a word begins where it begins: so that nothing more is
        # found in a text whose secrets are gone.
        left = within(text, 0, [Cut(cut.start, cut.end, "[" * (cut.end - cut.start)) for cut in cuts])
        more = [cut for cut in _lookalikes(left) if left[cut.start : cut.end].strip("[")]
        if not more:
            break
        cuts = _joined([*cuts, *more])
    return cuts


def _lookalikes(text: str) -> Iterator[Cut]:
    for found in find_secrets(text):
        if found.label is not None:
            yield Cut(found.start, found.end, f"[REDACTED_{found.label}]")


def _occurrences(text: str, form: str) -> Iterator[Cut]:
    start = text.find(form)
    while start >= 0:
        yield Cut(start, start + len(form), _GIVEN)
        start = text.find(form, start + len(form))


def _joined(found: Iterable[Cut]) -> list[Cut]:
    """The cuts in order, those that overlap made one. A given secret names it, else what comes first."""
    cuts: list[Cut] = []
    for cut in sorted(found, key=lambda cut: cut.start):
        if cuts and cut.start < cuts[-1].end:
            last = cuts[-1]
            instead = _GIVEN if _GIVEN in (last.instead, cut.instead) else last.instead
            cuts[-1] = Cut(last.start, max(last.end, cut.end), instead)
        else:
            cuts.append(cut)
    return cuts


# --- the forms of a secret --------------------------------------------------------------------------

_URL_SAFE = str.maketrans("+/", "-_")


def _forms(secret: str) -> Iterator[str]:
    octets = secret.encode("utf-8", "surrogatepass")
    yield secret
    for quoted in (quote(octets, safe=""), quote(octets), quote_plus(octets)):
        yield quoted
        yield re.sub("%[0-9A-F]{2}", lambda match: match.group().lower(), quoted)
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield html.escape(secret)
    if len(octets) < _SHORTEST_ENCODED:
        return
    yield secret[::-1]
    yield octets.hex()
    yield octets.hex().upper()
    for encoded in (base64.b64encode(octets).decode().rstrip("="), *map(_inside, (octets,) * 3, range(3))):
        yield encoded
        yield encoded.translate(_URL_SAFE)


def _inside(octets: bytes, shift: int) -> str:
    """What ``octets`` look like in the base64 of more, when they begin at a multiple of 3 plus ``shift``."""
    encoded = base64.b64encode(bytes(shift) + octets).decode().rstrip("=")
    # The outermost characters hold bits of the neighbours.
    return encoded[(0, 2, 3)[shift] : None if (len(octets) + shift) % 3 == 0 else -1]


class Hidden(Generic[T]):
    """A box for a value that must not show in a repr, a traceback with locals, or a dump of attributes."""

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def reveal(self) -> T:
        """The value, for the one line that needs it."""
        return self._value

    def __repr__(self) -> str:
        return "Hidden(...)"

    def __reduce__(self) -> str:
        raise TypeError("a hidden value is not pickled; build the provider again in the other process")


_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class RedactingFilter(logging.Filter):
    """Scrubs log records: message with arguments, exception, stack, and fields given as ``extra``.

    Add it to *handlers*: ``handler.addFilter(RedactingFilter(secrets))``. On a logger it would see that logger's
    own records and none of its children's. Loom's own loggers have one (``redact_own_logs``), because the texts of
    exceptions that tools and hooks raise are in their lines. The exception becomes text here, because a handler
    that formats it again would show it unscrubbed.
    """

    def __init__(self, scrubber: Scrubber | None = None) -> None:
        super().__init__()
        self._scrubber = scrubber or Scrubber()

    def filter(self, record: logging.LogRecord) -> bool:
        """Scrub ``record`` in place and let it through."""
        scrub = self._scrubber
        try:
            message = record.getMessage()
        except Exception:  # arguments that do not fit: logging reports that itself, but would show them raw
            message = f"{record.msg} {record.args!r}"
        record.msg, record.args = scrub(message), None
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = record.exc_text or logging.Formatter().formatException(record.exc_info)
            record.exc_info = None
        if record.exc_text:
            record.exc_text = scrub(record.exc_text)
        if record.stack_info:
            record.stack_info = scrub(record.stack_info)
        for name in vars(record).keys() - _STANDARD:
            setattr(record, name, scrub.value(getattr(record, name), name))
        return True


_OWN_LOGGERS = ("loom.hooks", "loom.human", "loom.loop", "loom.session", "loom.tools")


@cache
def redact_own_logs() -> None:
    """Take what looks like a secret out of everything that Loom itself logs. Done once, by the first agent."""
    for name in _OWN_LOGGERS:
        logging.getLogger(name).addFilter(RedactingFilter())
