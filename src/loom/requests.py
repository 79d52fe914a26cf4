"""What is asked of a human, and what comes back.

Both are durable data: a request may be asked in one process and answered in another, days later.
Who can be asked is the port ``loom.hitl.base.Human``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from msgspec import Struct

from .errors import ConfigError
from .types import Keyed

RequestKind = Literal["approval", "question"]
AnswerVerdict = Literal["approve", "deny", "answer"]
_VERDICTS = ("approve", "deny", "answer")


class Answer(Struct, Keyed, frozen=True, omit_defaults=True):
    """What a human said to one request. ``by`` names who; ``value`` is the answer to a question.

    Raises ConfigError for a verdict that is none: it would be taken for a no, or for nothing.
    """

    request_id: str
    verdict: AnswerVerdict
    value: Any = None
    reason: str = ""
    by: str = ""
    at: float = 0.0

    def __post_init__(self) -> None:
        if self.verdict not in _VERDICTS:
            known = ", ".join(_VERDICTS)
            raise ConfigError(f"the verdict of an answer must be one of {known}, not {self.verdict!r:.80}")


class Request(Struct, Keyed, frozen=True, omit_defaults=True):
    """A question put to a human on behalf of one call of one run.

    An approval is bound by ``digest`` to exactly what will run: tool, schema, ``arguments`` (JSON text,
    after hooks), session and run. ``expires_at`` is Unix seconds; an answer after it is refused.
    ``choices`` are the answers a question allows.
    """

    id: str
    kind: RequestKind
    prompt: str
    run_id: str = ""
    session_id: str = ""
    call_id: str = ""
    tool_name: str = ""
    arguments: str = "{}"
    digest: str = ""
    choices: Sequence[str] = ()
    opened_at: float = 0.0
    expires_at: float | None = None
    origin: str = ""

    def approve(self, *, by: str = "") -> Answer:
        """Yes, run exactly this, once."""
        return Answer(request_id=self.id, verdict="approve", by=_text(by))

    def deny(self, reason: str = "", *, by: str = "") -> Answer:
        """No; the model is told ``reason``."""
        return Answer(request_id=self.id, verdict="deny", reason=_text(reason), by=_text(by))

    def answer(self, value: Any, *, by: str = "") -> Answer:
        """Answer a question with plain data."""
        return Answer(request_id=self.id, verdict="answer", value=value, by=_text(by))


def _text(value: object) -> str:
    """Who or why, as text: an id out of somebody's database is often a number, and None is nothing said."""
    return "" if value is None else str(value)
