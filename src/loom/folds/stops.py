"""What each way for a reply to stop means: one table, from which kernel, wires and faces take their part.

A new ``StopReason`` gets its row here and nowhere else. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from ..types import ErrorInfo, StopReason


class Meaning(Struct, frozen=True):
    """What follows from a reply that stopped so.

    ``error`` is how a run fails whose last reply it is; None when the reply is whole. ``withdrawn``: the service takes
    the reply back, and nothing may follow from it. ``outvoted``: calls in the reply say more than the reason.
    ``raised``: the loop face raises the error, where it tells others in the turn.
    """

    error: ErrorInfo | None = None
    withdrawn: bool = False
    outvoted: bool = False
    raised: bool = False


MEANINGS: Mapping[StopReason, Meaning] = {
    StopReason.STOP: Meaning(outvoted=True),
    StopReason.TOOL_USE: Meaning(outvoted=True),
    StopReason.UNKNOWN: Meaning(outvoted=True),
    StopReason.LENGTH: Meaning(
        ErrorInfo("output_truncated", "the reply was cut at the model's output limit")
    ),
    StopReason.CONTEXT_FULL: Meaning(
        ErrorInfo("context_overflow", "the reply was cut: the model's window is full"), raised=True
    ),
    StopReason.CONTENT_FILTER: Meaning(
        ErrorInfo("content_filter", "the model service withheld the reply"), withdrawn=True
    ),
    StopReason.REFUSAL: Meaning(ErrorInfo("refusal", "the model refused to answer"), withdrawn=True),
    StopReason.PAUSED: Meaning(
        ErrorInfo("reply_paused", "the model service paused its reply again and again"), outvoted=True
    ),
}

CUT_SHORT: Mapping[StopReason, ErrorInfo] = {
    reason: meaning.error for reason, meaning in MEANINGS.items() if meaning.error is not None
}
"""Ways to stop that leave a reply unfinished, and how a run then fails. Its last call may lack half its arguments."""

WITHDRAWN = frozenset(reason for reason, meaning in MEANINGS.items() if meaning.withdrawn)
"""The service takes the reply back: nothing may follow from it, least of all a tool call in it."""

CUT = frozenset(reason for reason, meaning in MEANINGS.items() if not meaning.outvoted)
"""The reply may end in half a call, and its whole calls are not run either."""

EMPTY = ErrorInfo("empty_reply", "the model replied with nothing", retryable=True)
"""How a run fails whose last reply says nothing."""

TOLD = frozenset(
    meaning.error.code for meaning in MEANINGS.values() if meaning.error and not meaning.raised
) | {EMPTY.code}
"""Codes of failures that are an answer of sorts: a turn of the loop face tells them and raises none."""
