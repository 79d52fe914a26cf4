"""The nouns every floor shares: messages, tool calls and results, usage, run states.

Only plain, frozen data lives here: no I/O, no behaviour beyond reading oneself. A value that crosses
a process (the log, a wire, a store) is a ``msgspec.Struct``, so its codec comes with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any, ClassVar, Literal, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import force_setattr

from .usage import ModelUsage as ModelUsage
from .usage import Usage as Usage
from .usage import without_advisors as without_advisors


class Role(StrEnum):
    """Who a message is from."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class StopReason(StrEnum):
    """Why the model stopped writing.

    ``LENGTH`` is the output limit of the request, ``CONTEXT_FULL`` the end of the model's window. ``PAUSED``
    is a reply that its service would go on with if it were asked again; adapters do, within bounds.
    """

    STOP = "stop"
    TOOL_USE = "tool_use"
    LENGTH = "length"
    CONTEXT_FULL = "context_full"
    CONTENT_FILTER = "content_filter"
    REFUSAL = "refusal"
    PAUSED = "paused"
    UNKNOWN = "unknown"


class RunState(StrEnum):
    """Where a run stands. Only ``COMPLETED`` is success; ``WAITING`` can be resumed."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LIMIT_REACHED = "limit_reached"

    @property
    def terminal(self) -> bool:
        """True when the run can never move again."""
        return self not in (RunState.QUEUED, RunState.RUNNING, RunState.WAITING)


class Keyed:
    """Mixin: a value whose fields can also be read as keys, ``result["output"]``, never written."""

    __slots__ = ()

    def __getitem__(self, key: str) -> Any:
        if key.startswith("_") or not hasattr(self, key):
            raise KeyError(key)
        return getattr(self, key)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the field ``key``, or ``default`` when there is none."""
        try:
            return self[key]
        except KeyError:
            return default

    def keys(self) -> tuple[str, ...]:
        """The names of the fields, in order."""
        return tuple(getattr(self, "__struct_fields__", ()))

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key in self.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())


# --- messages -------------------------------------------------------------------------------------


class ContentPart(Struct, frozen=True, tag_field="type", omit_defaults=True):
    """One piece of a message that is more than text. The family is closed: it is ``Part``."""

    type: ClassVar[str]


class TextPart(ContentPart, frozen=True, tag="text"):
    """A run of text."""

    type: ClassVar[Literal["text"]] = "text"
    text: str


class _MediaPart(ContentPart, frozen=True):
    source: str
    media_type: str = ""


class ImagePart(_MediaPart, frozen=True, tag="image"):
    """An image. ``source`` is a path, an ``https:`` URL or a ``data:`` URL."""

    type: ClassVar[Literal["image"]] = "image"


class AudioPart(_MediaPart, frozen=True, tag="audio"):
    """A sound. ``source`` is a path, an ``https:`` URL or a ``data:`` URL."""

    type: ClassVar[Literal["audio"]] = "audio"


class VideoPart(_MediaPart, frozen=True, tag="video"):
    """A video. ``source`` is a path, an ``https:`` URL or a ``data:`` URL."""

    type: ClassVar[Literal["video"]] = "video"


class FilePart(_MediaPart, frozen=True, tag="file"):
    """A document such as a PDF. ``source`` is a path, an ``https:`` URL or a ``data:`` URL."""

    type: ClassVar[Literal["file"]] = "file"


class ThinkingPart(ContentPart, frozen=True, tag="thinking"):
    """Reasoning a model showed. ``signature`` and ``data`` go back to its service untouched.

    ``data`` holds what the service encrypted or redacted. ``origin`` names the wire it came over: no other
    can read signatures and data, so no other is sent them. Without an origin it goes to whichever asks.
    """

    type: ClassVar[Literal["thinking"]] = "thinking"
    text: str = ""
    signature: str | None = None
    data: str | None = None
    origin: str | None = None


class OpaquePart(ContentPart, frozen=True, tag="opaque"):
    """Something in a reply that only its service understands, such as a search it ran itself.

    ``data`` is its JSON text and goes back, in its place, over the wire ``origin`` and over no other.
    """

    type: ClassVar[Literal["opaque"]] = "opaque"
    origin: str
    data: str


class CallPart(ContentPart, frozen=True, tag="call"):
    """The place of the tool call number ``index`` (from 0) among the parts of its message.

    Only there when something follows the call: services that think between calls want the order back.
    """

    type: ClassVar[Literal["call"]] = "call"
    index: int


Part = TextPart | ImagePart | AudioPart | VideoPart | FilePart | ThinkingPart | OpaquePart | CallPart


class ToolCall(Struct, frozen=True, omit_defaults=True):
    """What the model asked to run. ``arguments`` is the JSON text exactly as the model wrote it."""

    id: str
    name: str
    arguments: str = "{}"
    signature: str | None = None


class Source(Struct, frozen=True, omit_defaults=True):
    """Something a reply says it rests on: a page, a search result, a document.

    ``url`` is empty for what has no address, such as a document that was attached. ``text`` is what of it was cited
    or shown. It is what the model's service says, and no more checked than the rest of a reply.
    """

    url: str = ""
    title: str = ""
    text: str = ""

    def filled(self, other: Source) -> Source:
        """This source, with the title and text of ``other`` where it has none."""
        return Source(self.url, self.title or other.title, self.text or other.text)


class ChatMessage(Struct, frozen=True, dict=True, omit_defaults=True):
    """One thing said in a conversation. ``sources`` are what a reply rests on; they are sent to no service.

    The instance ``__dict__`` belongs to the wires: each keeps its encoding of this message there under
    its own name, so that a message is encoded once however often it is sent. It is not part of the value.
    """

    role: Role
    content: str | Sequence[Part] | None = None
    tool_calls: Sequence[ToolCall] | None = None
    tool_call_id: str | None = None
    name: str | None = None
    is_error: bool = False
    sources: Sequence[Source] = ()

    def __post_init__(self) -> None:
        # Lists, as users write and decoders read them, would make equal messages unequal.
        for name in ("content", "tool_calls", "sources"):
            value: Any = getattr(self, name)
            if value.__class__ is list:
                force_setattr(self, name, tuple(value))

    @property
    def text_content(self) -> str | None:
        """The text parts joined by one space; None when there is no text."""
        if isinstance(self.content, str):
            return self.content or None
        if self.content is None:
            return None
        return " ".join(part.text for part in self.content if isinstance(part, TextPart)) or None


class Attempt(Struct, frozen=True, omit_defaults=True):
    """One model asked for one reply. ``error`` is None when it answered; ``duration`` is in seconds.

    ``model`` is how the declaration names it, such as ``"openai:gpt-5.6-terra"``. ``usage`` of one that failed is
    what it had counted by then; None when it had begun to answer and counted nothing.
    """

    model: str
    error: ErrorInfo | None = None
    usage: Usage | None = Usage()
    duration: float = 0.0


class ChatResponse(Struct, frozen=True, omit_defaults=True):
    """One whole reply of a model. ``usage`` None says that the service reported none, which is not zero.

    ``attempts`` are the models asked for it in order, where several may be.
    """

    type: ClassVar[Literal["response"]] = "response"
    message: ChatMessage
    usage: Usage | None = None
    stop_reason: StopReason = StopReason.UNKNOWN
    model: str = ""
    attempts: tuple[Attempt, ...] = ()


# --- tools ----------------------------------------------------------------------------------------


class ToolRetries(Struct, frozen=True, omit_defaults=True):
    """How often a tool that failed is entered again by itself, and after how many seconds.

    ``times`` are attempts after the first. Before the n-th of them ``delay * factor ** (n - 1)`` seconds pass,
    ``longest`` at most.
    """

    times: int
    delay: float = 0.5
    factor: float = 2.0
    longest: float = 30.0

    def pause(self, failed: int) -> float:
        """Seconds to wait after ``failed`` attempts."""
        if self.delay == 0:
            return 0.0
        try:
            return min(self.delay * self.factor ** (failed - 1), self.longest)
        except OverflowError:
            return self.longest


class ToolSpec(Struct, frozen=True, omit_defaults=True):
    """What a tool is: what the model sees (first three fields) and the facts governance needs.

    ``parameters`` is a JSON Schema of type object. ``needs_approval`` None means: ask when destructive.
    ``timeout`` is in seconds; None means the runtime's default. ``strict`` refuses near-miss arguments, such as
    ``"5"`` for a number, which are else read as they were meant. ``max_calls`` is how many calls one run may make.
    ``retries`` is for tools that are read_only or idempotent.
    """

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}  # msgspec copies empty literals
    read_only: bool = False
    destructive: bool = False
    concurrency_safe: bool = False
    needs_approval: bool | None = None
    idempotent: bool = False
    timeout: float | None = None
    meta: dict[str, Any] | None = None
    strict: bool = False
    max_calls: int | None = None
    retries: ToolRetries | None = None

    @property
    def asks(self) -> bool:
        """True when a call asks a human first, unless a rule or mode says otherwise."""
        return self.destructive if self.needs_approval is None else self.needs_approval

    @property
    def repeatable(self) -> bool:
        """True when running the same call again does no harm."""
        return self.read_only or self.idempotent


class ToolResult(Struct, frozen=True, omit_defaults=True):
    """What came back from a tool: text for the model, data and media beside it, or an error."""

    text: str = ""
    metadata: dict[str, Any] = {}
    is_error: bool = False
    content_parts: Sequence[Part] | None = None
    data: Any = None

    def to_text(self) -> str:
        """The text the model reads."""
        return self.text

    @property
    def content(self) -> str | tuple[Part, ...]:
        """What the model gets: the text, and after it the parts. A text that a part repeats is said once."""
        parts = tuple(self.content_parts or ())
        if not parts:
            return self.text
        if not self.text or any(isinstance(part, TextPart) and part.text == self.text for part in parts):
            return parts
        return (TextPart(self.text), *parts)


# --- outcomes -------------------------------------------------------------------------------------


class ErrorInfo(Struct, Keyed, frozen=True, omit_defaults=True):
    """A failure as data: ``code`` names the kind, ``retryable`` says whether asking again may help."""

    code: str
    message: str
    retryable: bool = False
    cause: str | None = None
    status: int | None = None
    retry_after: float | None = None

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class Artifact(Struct, Keyed, frozen=True, omit_defaults=True):
    """Something a run produced that outlives it. ``uri`` names where it is, ``metadata`` may hold it."""

    id: str
    run_id: str
    kind: str
    title: str = ""
    uri: str = ""
    created_at: float = 0.0
    metadata: dict[str, Any] = {}


class Limits(Struct, frozen=True, omit_defaults=True):
    """What one run may spend, children included; None is no limit.

    ``max_iterations`` counts model calls, ``max_seconds`` is wall time while running (waiting for a
    human does not count), ``max_cost`` is in the currency of the model's price, ``max_depth`` is how
    deep runs may start runs.
    """

    max_iterations: int | None = 100
    max_tool_calls: int | None = None
    max_tokens: int | None = None
    max_cost: float | None = None
    max_seconds: float | None = None
    max_depth: int | None = 5


def jsonable(value: Any) -> Any:
    """Turn what msgspec cannot encode into plain data; pydantic models, paths and exceptions are known.

    Raises TypeError naming the type for anything else.
    """
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(mode="json")
    if hasattr(value, "__fspath__"):
        return str(value)
    if isinstance(value, BaseException):
        return describe_error(value)
    raise TypeError(f"a value of type {type(value).__name__} is not plain data; pass JSON-like values")


def error_text(error: BaseException) -> str:
    """What an error says, also when its own ``__str__`` fails: it may be the application's."""
    try:
        return str(error)
    except KeyboardInterrupt:
        raise
    except BaseException as failure:
        return f"(its text cannot be read: its __str__ raised {type(failure).__name__})"


def describe_error(error: BaseException) -> str:
    """The error in one line, its kind first. Raises nothing, whatever the error is made of."""
    text = error_text(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def safe_repr(value: object) -> str:
    """``repr(value)``, and the type's name when that fails: it may be the application's."""
    try:
        return repr(value)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return f"<a {type(value).__name__} whose repr fails>"


StructT = TypeVar("StructT", bound=Struct)


def sound(value: StructT) -> StructT:
    """``value`` as it would come back from a store: every field of its type, plain data throughout.

    Structs do not check their fields; this does, for values that foreign code made. Raises ValueError or
    TypeError saying what is wrong.
    """
    return msgspec.json.decode(_encoder.encode(value), type=type(value))


_encoder = msgspec.json.Encoder(enc_hook=jsonable)
_canonical = msgspec.json.Encoder(enc_hook=jsonable, order="sorted")


def to_json(value: Any) -> str:
    """``value`` as compact JSON text."""
    return _encoder.encode(value).decode()


def canonical_json(value: Any) -> bytes:
    """``value`` as JSON with sorted keys: equal values have equal bytes, so it can be digested."""
    return _canonical.encode(value)
