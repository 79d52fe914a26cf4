"""Why a reply stopped, in our words, and which of those reasons no tool call outvotes."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..types import StopReason

WITHDRAWN = frozenset({StopReason.CONTENT_FILTER, StopReason.REFUSAL})
"""The service takes the reply back: nothing may follow from it, least of all a tool call in it."""
CUT = WITHDRAWN | {StopReason.LENGTH, StopReason.CONTEXT_FULL}
"""The reply may end in half a call, and its whole calls are not run either."""

# Services and gateways make up words for their filters: data_inspection_failed, content_filter: SAFETY, ...
_FILTERED = re.compile(
    r"filter|safety|unsafe|blocked|blocklist|prohibit|sensitive|moderat|guardrail|withh?eld|toxic|violat"
    r"|inspection|recitation|spii",
    re.IGNORECASE,
)
# ... and for whatever breaks a reply off: max_output_tokens, timeout, cancelled, repetition, ...
_BROKEN_OFF = re.compile(
    r"max|length|limit|trunc|time.?out|cancel|abort|malform|repet|error|fail|interrupt|incomplete|partial",
    re.IGNORECASE,
)
_REFUSED = re.compile(r"refus", re.IGNORECASE)


def stop_of(reason: str | None, known: Mapping[str, StopReason]) -> StopReason:
    """What ``reason`` means: as its wire knows it; for a new word, whether it withdraws or cuts the reply."""
    if not reason:
        return StopReason.UNKNOWN
    stop = known.get(reason) or known.get(reason.lower())
    if stop is None and _FILTERED.search(reason):
        return StopReason.CONTENT_FILTER
    if stop is None and _REFUSED.search(reason):
        return StopReason.REFUSAL
    if stop is None and _BROKEN_OFF.search(reason):
        return StopReason.LENGTH
    return stop or StopReason.UNKNOWN


def later(before: str | None, reason: str, known: Mapping[str, StopReason]) -> str:
    """Which of two reasons of one reply holds: the later one, unless the first withdrew the reply."""
    return before if before and stop_of(before, known) in WITHDRAWN else reason
