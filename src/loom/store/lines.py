"""The lines of a ``FileSessionStore``: what each may say, how it is sealed, and how it is read back.

A line is JSON: ``{"crc":"xxxxxxxx","record":{...}}``. The checksum (CRC-32) covers the record's bytes and
continues from the line before: a changed, missing, doubled or moved line is noticed. Nothing here does I/O.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from msgspec import Struct

from ..errors import StoreCorrupted, StoreError
from ..events import AnyEvent
from ..signals import RuntimeSignal
from ..types import jsonable
from .base import RunRecord, SessionRecord, TranscriptRecord
from .records import encode_row

FORMAT = "loom-sessions"
VERSION = 1

_OPEN = b'{"crc":"'
_MIDDLE = b'","record":'
_START = len(_OPEN) + 8 + len(_MIDDLE)
_END = b"}\n"


class Place(NamedTuple):
    """Where a line is in the file, newline included; ``seed`` is the checksum of the line before."""

    offset: int
    length: int
    seed: int


class _Line(Struct, frozen=True, tag_field="kind", omit_defaults=True):
    pass


class Header(_Line, frozen=True, tag="header"):
    """The first line."""

    format: str
    version: int


class _RequestId(Struct, frozen=True):
    id: str


class _AnswerTo(Struct, frozen=True):
    request_id: str


class _RowGlance(Struct, frozen=True):
    id: str
    session_id: str = ""
    parent: str | None = None


class _SignalGlance(Struct, frozen=True):
    id: str
    source: str = "custom"
    dedupe_key: str | None = None


class EventGlance(Struct, frozen=True):
    """As much of an event as the index needs. What only some kinds have is left as it is until asked for."""

    type: str
    seq: int = 0
    run_id: str = ""
    request: msgspec.Raw = msgspec.Raw()
    answer: msgspec.Raw = msgspec.Raw()
    request_id: str = ""
    child_session_id: str = ""

    def opens(self) -> str:
        """The id of the request that a ``request.opened`` opens."""
        return msgspec.json.decode(self.request, type=_RequestId).id

    def answers(self) -> str:
        """The id of the request that a ``request.answered`` answers."""
        return msgspec.json.decode(self.answer, type=_AnswerTo).request_id


class EventsLine(_Line, frozen=True, tag="events"):
    """One ``append``: events that follow each other, and the signals it took from the inbox."""

    session: str
    events: Sequence[EventGlance]
    taken: Sequence[str] = ()


class SessionLine(_Line, frozen=True, tag="session"):
    """A session's row."""

    row: _RowGlance


class RunLine(_Line, frozen=True, tag="run"):
    """A run's row."""

    row: _RowGlance


class TranscriptLine(_Line, frozen=True, tag="transcript"):
    """What a run said."""

    row: _RowGlance


class SignalLine(_Line, frozen=True, tag="signal"):
    """A signal was put into the inbox at ``at``, Unix seconds; its key counts for ``window`` seconds."""

    session: str
    at: float
    window: float
    signal: _SignalGlance


class LeaseLine(_Line, frozen=True, tag="lease"):
    """The session was taken, or its lease extended."""

    session: str
    owner: str
    token: int
    expires_at: float


class ReleaseLine(_Line, frozen=True, tag="release"):
    """The session was given back."""

    session: str


class DeleteLine(_Line, frozen=True, tag="delete"):
    """The session was forgotten with everything in it."""

    session: str


class CarriedLine(_Line, frozen=True, tag="carried"):
    """What a compaction carries over beside rows and events: newest token, dedupe keys (key, at, window)."""

    token: int
    seen: dict[str, list[tuple[str, float, float]]] = {}


AnyLine = (
    Header
    | EventsLine
    | SessionLine
    | RunLine
    | TranscriptLine
    | SignalLine
    | LeaseLine
    | ReleaseLine
    | DeleteLine
    | CarriedLine
)


class _WholeEvents(Struct, frozen=True):
    events: list[AnyEvent]


class _WholeSession(Struct, frozen=True):
    row: SessionRecord


class _WholeRun(Struct, frozen=True):
    row: RunRecord


class _WholeTranscript(Struct, frozen=True):
    row: TranscriptRecord


class _WholeSignal(Struct, frozen=True):
    signal: RuntimeSignal


_line_decoder: msgspec.json.Decoder[AnyLine] = msgspec.json.Decoder(AnyLine)
_events_decoder = msgspec.json.Decoder(_WholeEvents)
_session_decoder = msgspec.json.Decoder(_WholeSession)
_run_decoder = msgspec.json.Decoder(_WholeRun)
_transcript_decoder = msgspec.json.Decoder(_WholeTranscript)
_signal_decoder = msgspec.json.Decoder(_WholeSignal)
_encoder = msgspec.json.Encoder(enc_hook=jsonable)


def seal(record: bytes, seed: int) -> tuple[bytes, int]:
    """The line that holds ``record`` after a line with the checksum ``seed``, and its own checksum."""
    crc = zlib.crc32(record, seed)
    return b"".join((_OPEN, b"%08x" % crc, _MIDDLE, record, _END)), crc


def unseal(line: bytes, seed: int) -> tuple[bytes, int]:
    """The record in ``line`` and its checksum. Raises ValueError saying what is wrong."""
    record = line[_START : -len(_END)]
    crc = zlib.crc32(record, seed)
    if (
        not line.startswith(_OPEN)
        or line[_START - len(_MIDDLE) : _START] != _MIDDLE
        or not line.endswith(_END)
    ):
        raise ValueError("is not a line of this format")
    if line[len(_OPEN) : len(_OPEN) + 8] != b"%08x" % crc:
        raise ValueError("does not match its checksum")
    return record, crc


MARK_SIZE = 34
"""Bytes of a mark."""


def write_mark(end: int, seed: int) -> bytes:
    """A mark: how far a file goes, the checksum of its last line, and one of its own."""
    said = b"%016x %08x" % (end, seed)
    return b"%s %08x" % (said, zlib.crc32(said))


def read_mark(mark: bytes) -> tuple[int, int]:
    """How far a file must go at least, and the checksum there; 0 when nobody has said. Raises ValueError."""
    if not mark.strip(b"\0"):
        return 0, 0  # of an older version, or of a disk that lost power before it was written
    said = mark[:25]
    if len(mark) != MARK_SIZE or mark[25:] != b" %08x" % zlib.crc32(said):
        raise ValueError("bears a mark that cannot be read")
    return int(said[:16], 16), int(said[17:], 16)


def read_line(record: bytes) -> AnyLine:
    """A record as a value. Raises msgspec.DecodeError."""
    return _line_decoder.decode(record)


def read_events(record: bytes) -> list[AnyEvent]:
    """The whole events of an events record. Raises msgspec.DecodeError."""
    return _events_decoder.decode(record).events


def read_session(record: bytes) -> SessionRecord:
    """The row of a session record. Raises msgspec.DecodeError."""
    return _session_decoder.decode(record).row


def read_run(record: bytes) -> RunRecord:
    """The row of a run record. Raises msgspec.DecodeError."""
    return _run_decoder.decode(record).row


def read_transcript(record: bytes) -> TranscriptRecord:
    """The row of a transcript record. Raises msgspec.DecodeError."""
    return _transcript_decoder.decode(record).row


def read_signal(record: bytes) -> RuntimeSignal:
    """The signal of a signal record. Raises msgspec.DecodeError."""
    return _signal_decoder.decode(record).signal


def write_line(line: AnyLine) -> bytes:
    """The record of a line that is held whole."""
    return _encoder.encode(line)


def write_row(record: SessionRecord | RunRecord | TranscriptRecord) -> bytes:
    """The record of a row."""
    return b'{"kind":"%s","row":%s}' % (_ROWS[type(record)], encode_row(record))


def write_signal(session_id: str, at: float, window: float, signal: RuntimeSignal) -> bytes:
    """The record of a signal put into the inbox. Raises StoreError when its payload is not plain data."""
    about = (_encoder.encode(session_id), _encoder.encode(at), _encoder.encode(window), encode_row(signal))
    return b'{"kind":"signal","session":%s,"at":%s,"window":%s,"signal":%s}' % about


def write_events(session_id: str, bodies: Sequence[bytes], taken: Sequence[str]) -> bytes:
    """The record of one append, from events that are JSON already."""
    head = b'{"kind":"events","session":' + _encoder.encode(session_id) + b',"events":['
    tail = b'],"taken":' + _encoder.encode(taken) + b"}" if taken else b"]}"
    return head + b",".join(bodies) + tail


_ROWS: dict[type, bytes] = {SessionRecord: b"session", RunRecord: b"run", TranscriptRecord: b"transcript"}
HEADER = seal(_encoder.encode(Header(FORMAT, VERSION)), 0)[0]


def check_header(line: bytes, where: str) -> None:
    """Raise StoreError unless ``line``, the first of a file, is a header that this version can read."""
    try:
        header = read_line(unseal(line, 0)[0])
    except (ValueError, msgspec.DecodeError) as error:
        raise StoreCorrupted(
            f"{where}, line 1: this is not a Loom session file; it was left as it is"
        ) from error
    if not isinstance(header, Header) or header.format != FORMAT:
        raise StoreCorrupted(f"{where}, line 1: this is not a Loom session file; it was left as it is")
    if header.version > VERSION:
        raise StoreError(
            f"{where} was written by a newer Loom: upgrade (format {header.version}, here {VERSION})"
        )
