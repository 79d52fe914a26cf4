"""Everything that can happen inside a run: one frozen value per happening, one family.

The same value feeds the log, streams, hooks, servers and the store. ``durable`` says whether it is kept
(deltas are not). ``seq`` is its place in the session's log, from 1; an event that is not kept carries the
seq of the kept event before it. No decisions are made here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal

import msgspec
from msgspec import Struct

from .errors import StoreCorrupted
from .requests import Answer, Request
from .signals import RuntimeTask
from .types import Attempt, ChatMessage, ErrorInfo, Limits, RunState, StopReason, ToolResult, Usage, jsonable

_ENVELOPE = frozenset({"run_id", "session_id", "seq", "at", "worked"})


class Event(Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """Base of the family. ``at`` is Unix seconds, ``type`` the word for what happened: ``tool.started``.

    ``worked`` is how many seconds passed since the kept event before it in the same process, by a clock that no one
    sets: what limits on time and durations count, since ``at`` jumps when the computer's clock is corrected.
    """

    type: ClassVar[str]
    durable: ClassVar[bool] = True
    visibility: ClassVar[str] = "user"

    run_id: str = ""
    session_id: str = ""
    seq: int = 0
    at: float = 0.0
    worked: float = 0.0

    @property
    def id(self) -> str:
        """A name for this event, unique for kept events."""
        return f"{self.session_id}:{self.seq}"

    @property
    def ts(self) -> datetime:
        """When it happened, in UTC."""
        return datetime.fromtimestamp(self.at, UTC)

    @property
    def fields(self) -> dict[str, Any]:
        """The event's own fields as they are, without the envelope."""
        return {name: getattr(self, name) for name in self.__struct_fields__ if name not in _ENVELOPE}

    @property
    def payload(self) -> dict[str, Any]:
        """The event's own fields as what JSON can say: dicts, lists, text, numbers. Made anew each time."""
        plain: dict[str, Any]
        try:
            plain = msgspec.json.decode(_payload_encoder.encode(self.fields))
        except (UnicodeEncodeError, OverflowError):  # half a character, or a number that few can read
            import json

            plain = json.loads(json.dumps(msgspec.to_builtins(self.fields, str_keys=True, enc_hook=_plain)))
        return plain


def _plain(value: Any) -> Any:
    """What a payload shows of a value that an application put into an event that is not kept."""
    try:
        return jsonable(value)
    except TypeError:
        return str(value)


_payload_encoder = msgspec.json.Encoder(enc_hook=_plain)

# --- run --------------------------------------------------------------------------------------------


class RunStarted(Event, frozen=True, kw_only=True, tag="run.started"):
    """A run begins. With it alone, and the log before it, the run's first window can be rebuilt.

    History is what the session's runs that finished before this event said, as far as ``restore`` (the
    fields of a ``SessionRestorePolicy``; None is all of it) lets it in. ``messages`` is a conversation
    handed in whole instead. ``restored`` is text the policy carried over.
    """

    type: ClassVar[Literal["run.started"]] = "run.started"
    task: RuntimeTask
    messages: Sequence[ChatMessage] = ()
    restore: dict[str, Any] | None = None
    restored: str = ""
    inputs: dict[str, Any] = {}
    limits: Limits = Limits()
    depth: int = 0
    parent_run_id: str | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """The event's own fields, with the prompt and the session beside them."""
        return {"prompt": self.task.goal, "session_id": self.session_id, **super().fields}


class RunResumed(Event, frozen=True, kw_only=True, tag="run.resumed"):
    """A run that was waiting or whose process died goes on. ``from_state`` is where it stood."""

    type: ClassVar[Literal["run.resumed"]] = "run.resumed"
    from_state: RunState


class CancelRequested(Event, frozen=True, kw_only=True, tag="run.cancelling"):
    """Someone asked the run to stop."""

    type: ClassVar[Literal["run.cancelling"]] = "run.cancelling"
    reason: str = ""


class LimitReached(Event, frozen=True, kw_only=True, tag="limit.reached"):
    """A limit of the budget was met. ``limit`` is the name of the field of ``Limits``.

    ``estimated`` says that ``spent`` holds estimates, in place of what a service did not report.
    """

    type: ClassVar[Literal["limit.reached"]] = "limit.reached"
    limit: str
    allowed: float
    spent: float
    estimated: bool = False


class ErrorRaised(Event, frozen=True, kw_only=True, tag="error"):
    """Something failed that ends the run.

    ``usage`` is what a model call had used when it failed, if its service had begun to answer: as that counted it,
    else an estimate, which says so itself. ``estimated_cost`` is its price, None when the model has none that is known;
    what a service charges for a reply that failed is never certain.
    """

    type: ClassVar[Literal["error"]] = "error"
    error: ErrorInfo
    usage: Usage | None = None
    estimated_cost: float | None = None


class RunFinished(Event, frozen=True, kw_only=True, tag="run.finished"):
    """The run has ended. ``output`` is the final text; the last words of the model, however it ended.

    ``cost`` is None when not all of it is known; ``estimated_cost`` is then what can be told with estimates.
    """

    type: ClassVar[Literal["run.finished"]] = "run.finished"
    state: RunState
    output: str = ""
    error: ErrorInfo | None = None
    usage: Usage = Usage()
    cost: float | None = None
    iterations: int = 0
    child_iterations: int = 0
    tool_calls: int = 0
    duration_ms: int = 0
    estimated_cost: float | None = None


class SessionForked(Event, frozen=True, kw_only=True, tag="session.forked"):
    """A session begins with what another had said up to a seq."""

    type: ClassVar[Literal["session.forked"]] = "session.forked"
    source_session_id: str
    source_seq: int
    messages: Sequence[ChatMessage]


# --- model --------------------------------------------------------------------------------------------


class ModelRequested(Event, frozen=True, kw_only=True, tag="model.requested"):
    """The model is about to be asked. Not kept: a request without a reply is simply asked again."""

    type: ClassVar[Literal["model.requested"]] = "model.requested"
    durable = False
    iteration: int
    messages: int


class TextDelta(Event, frozen=True, kw_only=True, tag="text.delta"):
    """Some text, as it comes."""

    type: ClassVar[Literal["text.delta"]] = "text.delta"
    durable = False
    text: str


class ThinkingDelta(Event, frozen=True, kw_only=True, tag="thinking.delta"):
    """Some reasoning, as it comes."""

    type: ClassVar[Literal["thinking.delta"]] = "thinking.delta"
    durable = False
    text: str


class ToolCallDelta(Event, frozen=True, kw_only=True, tag="tool_call.delta"):
    """A piece of a tool call, as it comes. ``arguments`` is a fragment of JSON text."""

    type: ClassVar[Literal["tool_call.delta"]] = "tool_call.delta"
    durable = False
    index: int
    call_id: str | None = None
    name: str | None = None
    arguments: str = ""


class PartialOutput(Event, frozen=True, kw_only=True, tag="output.partial"):
    """The typed output as far as it came: plain data, not validated, and not to be changed.

    Only for agents with an ``output_type``, while the model is writing. Strings are cut where the text is, a
    number is there when it has ended; a large value is shown less often than a small one.
    """

    type: ClassVar[Literal["output.partial"]] = "output.partial"
    durable = False
    value: Any


class ModelReplied(Event, frozen=True, kw_only=True, tag="model.replied"):
    """The model's whole reply. ``cost`` is None when the model's price is not known, or not all of its usage.

    ``usage`` says whether it is ``estimated``, in whole or in part; what that costs is ``estimated_cost``, and
    ``cost`` None. ``attempts`` is empty when the first model asked has answered; else it holds those that failed
    before and, last, the one that answered. ``usage`` is of the reply alone; the costs are of all of them.
    """

    type: ClassVar[Literal["model.replied"]] = "model.replied"
    iteration: int
    message: ChatMessage
    usage: Usage = Usage()
    stop_reason: StopReason = StopReason.UNKNOWN
    model: str = ""
    cost: float | None = None
    duration_ms: int = 0
    attempts: tuple[Attempt, ...] = ()
    estimated_cost: float | None = None

    @property
    def spent(self) -> Usage:
        """The tokens of the reply and of the attempts that failed before it."""
        spent = self.usage
        for attempt in self.attempts:
            if attempt.error is not None and attempt.usage is not None:
                spent += attempt.usage
        return spent


class ModelRetried(Event, frozen=True, kw_only=True, tag="model.retried"):
    """A request to the model failed (try ``attempt``, from 1) and was made again after ``delay`` seconds."""

    type: ClassVar[Literal["model.retried"]] = "model.retried"
    iteration: int
    attempt: int
    delay: float
    error: ErrorInfo


class ReplyCut(Event, frozen=True, kw_only=True, tag="model.cut"):
    """What the model had written when its reply was broken off. ``usage`` and ``estimated_cost`` are estimates."""

    type: ClassVar[Literal["model.cut"]] = "model.cut"
    iteration: int
    text: str
    usage: Usage = Usage()
    estimated_cost: float | None = None


# --- tools --------------------------------------------------------------------------------------------

Verdict = Literal["allow", "deny"]
Outcome = Literal["ok", "error", "denied", "timeout", "cancelled", "unknown"]


class ToolRequested(Event, frozen=True, kw_only=True, tag="tool.requested"):
    """The model asked for a tool. ``arguments`` is the model's JSON text."""

    type: ClassVar[Literal["tool.requested"]] = "tool.requested"
    call_id: str
    name: str
    arguments: str
    iteration: int


class ToolDecided(Event, frozen=True, kw_only=True, tag="tool.decided"):
    """A gate decided about a call, and why. ``arguments`` is what will run, when a gate edited it.

    ``concurrency_safe`` says that the call may run beside others, and before earlier ones that are not over.
    """

    type: ClassVar[Literal["tool.decided"]] = "tool.decided"
    call_id: str
    name: str
    verdict: Verdict
    source: str
    reason: str = ""
    arguments: str | None = None
    digest: str = ""
    concurrency_safe: bool = False


class ToolStarted(Event, frozen=True, kw_only=True, tag="tool.started"):
    """A tool is about to run. For a tool that is not read-only this is durable before its first effect."""

    type: ClassVar[Literal["tool.started"]] = "tool.started"
    call_id: str
    name: str
    idempotency_key: str
    attempt: int = 1


class ToolRetried(Event, frozen=True, kw_only=True, tag="tool.retried"):
    """A tool failed and is entered again by itself, after ``delay`` seconds. ``attempt`` is the one that failed."""

    type: ClassVar[Literal["tool.retried"]] = "tool.retried"
    call_id: str
    name: str
    attempt: int
    error: ErrorInfo
    delay: float = 0.0


class ToolProgress(Event, frozen=True, kw_only=True, tag="tool.progress"):
    """A running tool says how far it is."""

    type: ClassVar[Literal["tool.progress"]] = "tool.progress"
    durable = False
    call_id: str
    text: str = ""
    data: Any = None


class ToolParked(Event, frozen=True, kw_only=True, tag="tool.parked"):
    """A tool was left to wait for these requests (ids). It is entered again when one is answered."""

    type: ClassVar[Literal["tool.parked"]] = "tool.parked"
    call_id: str
    name: str
    requests: Sequence[str]


class ToolFinished(Event, frozen=True, kw_only=True, tag="tool.finished"):
    """A call has its one result. Only the outcome ``ok`` is success."""

    type: ClassVar[Literal["tool.finished"]] = "tool.finished"
    call_id: str
    name: str
    outcome: Outcome
    result: ToolResult
    error: ErrorInfo | None = None
    duration_ms: int = 0

    @property
    def success(self) -> bool:
        """True when the tool did its work."""
        return self.outcome == "ok"


class ChildStarted(Event, frozen=True, kw_only=True, tag="child.started"):
    """A tool started a run of its own, in a session of its own."""

    type: ClassVar[Literal["child.started"]] = "child.started"
    call_id: str
    child_run_id: str
    child_session_id: str
    agent: str = ""


class ChildFinished(Event, frozen=True, kw_only=True, tag="child.finished"):
    """A child run ended. What it and those below it spent counts toward its parent.

    ``waited_seconds`` is how long people were asked meanwhile, which is nobody's working time.
    """

    type: ClassVar[Literal["child.finished"]] = "child.finished"
    call_id: str
    child_run_id: str
    state: RunState
    usage: Usage = Usage()
    cost: float | None = None
    iterations: int = 0
    tool_calls: int = 0
    waited_seconds: float = 0.0
    estimated_cost: float | None = None


# --- people, judges -----------------------------------------------------------------------------------


class RequestOpened(Event, frozen=True, kw_only=True, tag="request.opened"):
    """The run needs an answer from a human."""

    type: ClassVar[Literal["request.opened"]] = "request.opened"
    request: Request


class RequestAnswered(Event, frozen=True, kw_only=True, tag="request.answered"):
    """A human answered. An answer counts once."""

    type: ClassVar[Literal["request.answered"]] = "request.answered"
    answer: Answer

    @property
    def request_id(self) -> str:
        """Which request."""
        return self.answer.request_id


class RequestWithdrawn(Event, frozen=True, kw_only=True, tag="request.withdrawn"):
    """Nobody needs the answer any more: the call that asked has its result."""

    type: ClassVar[Literal["request.withdrawn"]] = "request.withdrawn"
    request_id: str


class RequestExpired(RequestWithdrawn, frozen=True, kw_only=True, tag="request.expired"):
    """A request's time was up before anybody answered; what needed the answer asks anew."""

    type: ClassVar[Literal["request.expired"]] = "request.expired"  # type: ignore[assignment]  # a kind of withdrawal


class QualityJudged(Event, frozen=True, kw_only=True, tag="quality.judged"):
    """A final reply was judged. A critique goes back to the model."""

    type: ClassVar[Literal["quality.judged"]] = "quality.judged"
    passed: bool
    attempt: int
    critique: str = ""
    judge: str = ""


AnyEvent = (
    RunStarted
    | RunResumed
    | CancelRequested
    | LimitReached
    | ErrorRaised
    | RunFinished
    | SessionForked
    | ModelRequested
    | TextDelta
    | ThinkingDelta
    | ToolCallDelta
    | PartialOutput
    | ModelReplied
    | ReplyCut
    | ModelRetried
    | ToolRequested
    | ToolDecided
    | ToolStarted
    | ToolRetried
    | ToolProgress
    | ToolParked
    | ToolFinished
    | ChildStarted
    | ChildFinished
    | RequestOpened
    | RequestAnswered
    | RequestWithdrawn
    | RequestExpired
    | QualityJudged
)

_encoder = msgspec.json.Encoder(enc_hook=jsonable)
_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)


def encode_event(event: Event) -> bytes:
    """One event as one line of JSON, without a newline. Raises TypeError for data that is not plain."""
    return _encoder.encode(event)


def decode_event(raw: bytes | str, *, where: str = "the log") -> AnyEvent:
    """Read one event back. Raises StoreCorrupted naming ``where`` for anything that is not one."""
    try:
        return _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoreCorrupted(f"{where} holds an event that cannot be read: {error}") from error
