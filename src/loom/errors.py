"""Every error of the package. The class says what to do next.

LoomError
├─ ConfigError              the declaration contradicts itself: fix the code
│  └─ MissingExtra          an optional package is absent: install what the message names
├─ ProviderError            the model service failed: see .retryable, .status, .retry_after
│  ├─ ProviderUnavailableError   unreachable, overloaded or broken: try later
│  ├─ RateLimitError             too many requests: wait .retry_after seconds
│  ├─ AuthenticationError        the key is missing or refused: fix the key
│  ├─ InvalidRequestError        the service refused the request: fix the request
│  ├─ MalformedReplyError        the service answered nonsense: report it
│  └─ OfflineError               the embedded offline model cannot do the task: connect a model
├─ ContextError
│  └─ ContextOverflowError  the conversation is larger than the model's window: compact
├─ ToolError                a tool did not do its work; the model sees the text
│  ├─ ToolNotFoundError     no tool of that name
│  ├─ ToolArgumentsError    the arguments do not fit the schema: correct them
│  ├─ ToolPermissionError   policy or a human said no
│  ├─ ToolExecutionError    the tool raised
│  └─ ToolTimeoutError      the tool took too long
├─ StoreError               the record keeper failed: the former state is intact
│  ├─ RecordNotFound        no such session, run or request
│  ├─ StoreCorrupted        a file is damaged: restore the named file
│  ├─ LeaseLost             another process took the session over: stop writing
│  └─ SessionBusy           another process is working in the session: wait or fork
├─ RecordingError           recorded model traffic cannot be served
│  ├─ RecordingDamaged      the file is no recording, or damaged: record again
│  └─ ReplayDiverged        another request came than the recorded one: the message says where they differ
├─ RequestClosed            the request was answered or has expired: read session.pending()
├─ OutputInvalid            the reply does not fit output_type after the allowed attempts
├─ HookFailed               a hook of the application raised: fix the hook
├─ RunStuck                 the same failing call three times in a row
├─ RunFailed                the run failed in another way: see .code
├─ RunCancelled             somebody stopped the run: the message says why
├─ RunWaiting               the run waits for the answers to .pending: resume it with them
├─ RunNotOver               the run goes on, so it has no result yet: read its stream to the end
└─ BudgetExceeded           a limit of the declaration was reached: raise it or narrow the task
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .types import Attempt, ErrorInfo, describe_error, error_text

if TYPE_CHECKING:
    from .requests import Request


class LoomError(Exception):
    """Root of the tree. ``code`` is stable and machine-readable; ``retryable`` is advice, not a promise.

    ``attempts`` are the models that were asked in vain, where several may be. ``turn`` is what a turn of the
    loop agent had come to when it raised this.
    """

    code: str = "error"
    retryable: bool = False
    attempts: tuple[Attempt, ...] = ()
    turn: Any = None

    def info(self) -> ErrorInfo:
        """This error as data, with its cause, for results, logs and stores."""
        cause = self.__cause__ or (None if self.__suppress_context__ else self.__context__)
        status, retry_after = getattr(self, "status", None), getattr(self, "retry_after", None)
        return ErrorInfo(
            code=str(self.code),
            message=_encodable(error_text(self)),
            retryable=self.retryable is True,
            cause=_encodable(describe_error(cause)) if cause is not None else None,
            status=status if isinstance(status, int) else None,
            retry_after=float(retry_after) if isinstance(retry_after, int | float) else None,
        )


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


class ConfigError(LoomError):
    """The declaration contradicts itself."""

    code = "config"


class MissingExtra(ConfigError, ImportError):
    """An optional package is absent. The message says how to install it."""

    code = "missing_extra"

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an optional package: {how_to_install(extra)}")


def how_to_install(extra: str) -> str:
    """How to get an extra, in words that follow a colon. By its name the package index has another project's."""
    return (
        f"install Loom with its extra '{extra}' (loom-agent[{extra}]), from where you have it: "
        f"pip install '/path/to/loom[{extra}]'"
    )


class ProviderError(LoomError):
    """The model service failed.

    ``status`` is the HTTP status when there was one, ``retry_after`` seconds the service asked us to wait,
    ``provider_code`` and ``request_id`` are the service's own words for its support desk.
    """

    code = "provider"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
        provider_code: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        if retryable is not None:
            self.retryable = retryable
        self.retry_after = retry_after
        self.provider_code = provider_code
        self.request_id = request_id


class ProviderUnavailableError(ProviderError):
    """The service is unreachable, overloaded or broken."""

    code = "provider_unavailable"
    retryable = True


class RateLimitError(ProviderError):
    """The service wants fewer requests."""

    code = "rate_limit"
    retryable = True


class AuthenticationError(ProviderError):
    """The key is missing or was refused."""

    code = "authentication"


class InvalidRequestError(ProviderError):
    """The service refused the request as it stands."""

    code = "invalid_request"


class MalformedReplyError(ProviderError):
    """The service answered something that is not a reply."""

    code = "malformed_reply"


class OfflineError(ProviderError):
    """The embedded offline model cannot do what it was asked to do, or what it was told to call failed."""

    code = "offline"


class ContextError(LoomError):
    """Something is wrong with what the model would be shown."""

    code = "context"


class ContextOverflowError(ContextError):
    """The conversation does not fit the model's window."""

    code = "context_overflow"

    def __init__(self, message: str, *, status: int | None = None, request_id: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.request_id = request_id


class ToolError(LoomError):
    """A tool did not do its work. Raise it in a tool to choose the text the model reads."""

    code = "tool"


class ToolNotFoundError(ToolError):
    """There is no tool of that name."""

    code = "tool_not_found"


class ToolArgumentsError(ToolError):
    """The arguments do not fit the tool's schema."""

    code = "tool_arguments"


class ToolPermissionError(ToolError):
    """Policy or a human said no."""

    code = "tool_denied"


class ToolExecutionError(ToolError):
    """The tool raised."""

    code = "tool_failed"


class ToolTimeoutError(ToolError):
    """The tool took longer than its timeout."""

    code = "tool_timeout"


class StoreError(LoomError):
    """The record keeper failed; what was stored before is intact."""

    code = "store"


class RecordNotFound(StoreError, LookupError):
    """There is no such session, run or request."""

    code = "not_found"


class StoreCorrupted(StoreError):
    """A file is damaged. The message names it; it has not been touched."""

    code = "store_corrupted"


class LeaseLost(StoreError):
    """Another process took the session over; this one must stop writing to it."""

    code = "lease_lost"


class SessionBusy(StoreError):
    """Another process is working in this session. ``owner`` is the name it took the session under."""

    code = "session_busy"
    retryable = True

    def __init__(self, message: str, *, owner: str = "") -> None:
        super().__init__(message)
        self.owner = owner


class RecordingError(LoomError):
    """Recorded model traffic cannot be served."""

    code = "recording"


class RecordingDamaged(RecordingError):
    """The file is no recording, or damaged. The message names file and line."""

    code = "recording_damaged"


class ReplayDiverged(RecordingError):
    """A request is not the recorded one, or a recorded one never came. ``request`` counts from 1."""

    code = "replay_diverged"

    def __init__(self, message: str, *, request: int = 0, field: str = "") -> None:
        super().__init__(message)
        self.request = request
        self.field = field


class RequestClosed(LoomError):
    """The request was answered already, has expired or never existed."""

    code = "request_closed"


class OutputInvalid(LoomError):
    """The reply does not fit ``output_type`` after the allowed attempts."""

    code = "output_invalid"


class HookFailed(LoomError):
    """A hook of the application raised, where the run could not go on without it."""

    code = "hook_error"


class RunStuck(LoomError):
    """The same call failed three times in a row."""

    code = "stuck"


class RunFailed(LoomError):
    """The run failed. ``code`` is that of its ``ErrorInfo``, for which there is no class of its own."""

    code = "run_failed"


class RunCancelled(LoomError):
    """Somebody stopped the run, which therefore has no output."""

    code = "cancelled"


class RunWaiting(LoomError):
    """The run waits for people, and has no output yet. ``pending`` are the requests to answer."""

    code = "waiting"

    def __init__(self, message: str, *, pending: Sequence[Request] = ()) -> None:
        super().__init__(message)
        self.pending = tuple(pending)


class RunNotOver(LoomError, RuntimeError):
    """The run goes on, and has no result yet. Read its stream to the end first."""

    code = "run_not_over"


class BudgetExceeded(LoomError):
    """A limit of the declaration was reached."""

    code = "budget_exceeded"


def to_exception(info: ErrorInfo) -> LoomError:
    """The error that this data tells of, to be raised. A code that is none of ours makes a ``RunFailed``.

    Its ``code``, ``retryable``, ``status`` and ``retry_after`` are those of ``info``; what caused it is a note.
    """
    kind = _by_code(LoomError).get(info.code, RunFailed)
    error = ConfigError(info.message) if kind is MissingExtra else kind(info.message)
    error.code, error.retryable = info.code, info.retryable
    for name, value in (("status", info.status), ("retry_after", info.retry_after)):
        if value is not None:
            setattr(error, name, value)
    if info.cause:
        error.add_note(f"caused by {info.cause}")
    return error


def _by_code(kind: type[LoomError]) -> dict[str, type[LoomError]]:
    """Our classes by code. Those of an application may take other arguments, or share their parent's code."""
    known = {kind.code: kind} if kind.__module__ == __name__ else {}
    for child in kind.__subclasses__():
        known |= _by_code(child)
    return known
