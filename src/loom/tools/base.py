"""Port: what a model may call.

A handler owes ``tool`` (its ``ToolSpec``) and ``invoke(args) -> ToolResult``. One that needs to know the run
it serves also has ``invoke_in_context(args, context)``, which is then called instead. Handlers never decide
whether they may run; the governed path in the kernel does.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic

from .._generics import DepsT
from ..errors import ConfigError, StoreError, ToolPermissionError
from ..events import Event, ToolProgress
from ..requests import Answer, Request
from ..types import ToolResult, ToolRetries, ToolSpec

__all__ = [
    "GOES_ON",
    "Parked",
    "RunContext",
    "SpecFacts",
    "ToolContext",
    "ToolHandler",
    "ToolResult",
    "ToolSpec",
    "Unsaved",
    "checked_name",
    "checked_spec",
]

GOES_ON = "the work goes on and cannot be stopped"
"""Argument of the CancelledError of a handler that ends when it is cancelled, but whose work does not."""


@dataclass(kw_only=True)
class RunContext(Generic[DepsT]):
    """What the application gives one run: inputs the model may see, and dependencies only tools see.

    ``inputs`` is plain data shown to the model. ``deps`` is any object, handed to tools, never stored.
    """

    inputs: dict[str, Any] = field(default_factory=dict[str, Any])
    knowledge: Any = None
    extensions: dict[str, Any] = field(default_factory=dict[str, Any])
    deps: DepsT = None  # type: ignore[assignment]

    def with_deps(self, deps: DepsT) -> RunContext[DepsT]:
        """A copy with other dependencies."""
        return dataclasses.replace(self, deps=deps)

    def to_payload(self) -> dict[str, Any]:
        """Inputs and extensions as one plain dict."""
        payload = {**self.inputs, **self.extensions}
        if self.knowledge is not None:
            payload["knowledge"] = self.knowledge
        return payload


class Parked(BaseException):
    """Raised inside a tool to leave it until the requests are answered; the run then waits.

    Derives from BaseException because it is no error and a tool must not swallow it. When an answer
    is there the tool is entered again from its beginning, so only repeatable tools may park.
    """

    def __init__(self, requests: Sequence[Request]) -> None:
        super().__init__(f"waiting for {len(requests)} answer(s)")
        self.requests = tuple(requests)


@dataclass(kw_only=True)
class ToolContext(RunContext[DepsT]):
    """Where a call stands. A tool function gets it by annotating a parameter; the model never sees it.

    ``idempotency_key`` is the same for every attempt at this call; pass it to the outside system.
    ``answers`` are those already given to this call, by request id. ``scope`` is what a run started by this
    call draws on (budget, human, depth); hand it on, do not look inside.
    """

    session_id: str
    run_id: str
    call_id: str
    tool_name: str
    idempotency_key: str
    attempt: int = 1
    depth: int = 0
    answers: dict[str, Answer] = field(default_factory=dict[str, Answer])
    scope: Any = None
    _post: Callable[[Event], None] = lambda event: None
    _asked: int = 0

    async def read_output(self, reference: str) -> str | None:
        """The whole text of an output of this session that was shown cut, or None when it is not kept any more.

        ``reference`` is what the notice in the conversation says. Raises StoreError.
        """
        store = getattr(self.scope, "store", None)
        return None if store is None else await store.read_output(self.session_id, reference)

    def emit(self, text: str = "", data: Any = None) -> None:
        """Tell whoever follows the run how far the tool is. Not kept, not shown to the model."""
        self.post(ToolProgress(call_id=self.call_id, text=text, data=data))

    def post(self, event: Event) -> None:
        """Put an event of this call into the run's stream."""
        self._post(event)

    def ask(self, prompt: str, *, choices: Sequence[str] = ()) -> Any:
        """Ask the human and return the answer's value. Leaves the tool when there is none yet.

        The n-th question of a call is the same question each time the tool is entered. Raises
        ToolPermissionError when the human declined to answer.
        """
        self._asked += 1
        seed = f"{self.idempotency_key}\0{self._asked}".encode()
        request_id = f"req_{hashlib.sha256(seed).hexdigest()[:20]}"
        answer = self.answers.get(request_id)
        if answer is None:
            raise Parked(
                [
                    Request(
                        id=request_id,
                        kind="question",
                        prompt=str(prompt),
                        run_id=self.run_id,
                        session_id=self.session_id,
                        call_id=self.call_id,
                        tool_name=self.tool_name,
                        choices=(choices,) if isinstance(choices, str) else tuple(map(str, choices)),
                    )
                ]
            )
        if answer.verdict == "deny":
            raise ToolPermissionError(f"the human declined to answer: {answer.reason or 'no reason given'}")
        return answer.value if answer.verdict == "answer" else True


class Unsaved(BaseException):
    """Raised inside a tool that drives a run of its own when that run could not be written down.

    Derives from BaseException because it is no outcome of the call: the run above stops too, as it was last saved,
    and both are gone on with by resuming it. ``error`` says what the store said.
    """

    def __init__(self, error: StoreError) -> None:
        super().__init__(str(error))
        self.error = error


_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""What OpenAI accepts as a name; the other services accept at least this."""


def checked_name(name: object) -> str:
    """A name every service accepts. Raises ConfigError for any other, letters that only look alike included."""
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    odd = next((char for char in name if not _NAME.fullmatch(char)), "") if isinstance(name, str) else ""
    shown = f" ({odd!r} is U+{ord(odd):04X})" if odd else ""
    raise ConfigError(
        f"{name!r} is no name for a tool{shown}: use 1 to 64 of the letters a-z and A-Z, digits, _ and -"
    )


def checked_spec(spec: object) -> ToolSpec:
    """A spec whose fields every service can be sent. Raises ConfigError naming the first that is wrong."""
    if not isinstance(spec, ToolSpec):
        raise ConfigError(f"the `tool` of a handler must be a ToolSpec, not {type(spec).__name__}")
    name = checked_name(spec.name)
    description: Any = spec.description
    parameters: Any = spec.parameters
    if not isinstance(description, str):
        raise ConfigError(f"{name}: its description must be text, not {type(description).__name__}")
    if not isinstance(parameters, dict) or parameters.get("type", "object") != "object":  # pyright: ignore[reportUnknownMemberType]
        raise ConfigError(f"{name}: its parameters must be a JSON Schema of type object")
    _check_flags(spec)
    timeout: Any = spec.timeout
    if timeout is not None and not (_is_number(timeout) and timeout > 0):
        raise ConfigError(f"{name}: its timeout must be a positive number of seconds, not {timeout!r}")
    if spec.read_only and spec.destructive:
        raise ConfigError(f"{name}: a tool is either read_only or destructive, not both")
    _check_limits(spec)
    return spec


_FLAGS = ("read_only", "destructive", "concurrency_safe", "idempotent", "strict")


def _check_flags(spec: ToolSpec) -> None:
    """Refuse what merely counts as true or false: ``read_only="no"`` would run in plan mode."""
    for flag in _FLAGS:
        if not isinstance(given := getattr(spec, flag), bool):
            raise ConfigError(f"{spec.name}: {flag} must be True or False, not {given!r:.80}")
    needs: Any = spec.needs_approval
    if needs is not None and not isinstance(needs, bool):
        raise ConfigError(
            f"{spec.name}: needs_approval (requires_permission) must be True, False or None, not {needs!r:.80}"
        )


def _check_limits(spec: ToolSpec) -> None:
    most: Any = spec.max_calls
    if most is not None and (type(most) is not int or most < 1):
        raise ConfigError(f"{spec.name}: max_calls must be a whole number from 1, not {most!r}")
    retries: Any = spec.retries
    if retries is None:
        return
    if not isinstance(retries, ToolRetries) or type(retries.times) is not int or retries.times < 1:
        raise ConfigError(
            f"{spec.name}: retries must be a whole number from 1, or ToolRetries(...), not {retries!r}"
        )
    waits: tuple[Any, ...] = (retries.delay, retries.factor, retries.longest)
    if not all(_is_number(wait) and 0 <= wait < math.inf for wait in waits):
        raise ConfigError(f"{spec.name}: delay, factor and longest of its retries must be numbers from 0")
    if not spec.repeatable:
        raise ConfigError(
            f"{spec.name}: retries repeat its effect; declare it read_only or idempotent if that does no harm"
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class SpecFacts:
    """Mixin: what the spec of a handler says, as attributes of the handler."""

    if TYPE_CHECKING:

        @property
        def tool(self) -> ToolSpec:
            """The spec."""
            ...

    @property
    def description(self) -> str:
        """What the model is told the tool does."""
        return self.tool.description

    @property
    def parameters(self) -> dict[str, Any]:
        """The JSON Schema of the arguments. Not to be changed."""
        return self.tool.parameters

    @property
    def read_only(self) -> bool:
        """Whether the tool changes nothing."""
        return self.tool.read_only

    @property
    def destructive(self) -> bool:
        """Whether the tool may destroy something."""
        return self.tool.destructive

    @property
    def concurrency_safe(self) -> bool:
        """Whether calls of the tool may run beside others."""
        return self.tool.concurrency_safe

    @property
    def needs_approval(self) -> bool | None:
        """Whether a human is asked first; None asks for a destructive tool."""
        return self.tool.needs_approval

    @property
    def requires_permission(self) -> bool:
        """Whether a call asks a human first, unless a rule or mode says otherwise."""
        return self.tool.asks

    @property
    def idempotent(self) -> bool:
        """Whether running the same call again does no harm."""
        return self.tool.idempotent

    @property
    def strict(self) -> bool:
        """Whether near-miss arguments are refused."""
        return self.tool.strict

    @property
    def max_calls(self) -> int | None:
        """How many calls one run may make; None is no limit."""
        return self.tool.max_calls

    @property
    def retries(self) -> ToolRetries | None:
        """How often the tool is entered again when it fails."""
        return self.tool.retries

    @property
    def timeout(self) -> float | None:
        """Seconds a call may take; None is the runtime's default."""
        return self.tool.timeout


class ToolHandler(ABC):
    """A tool. Subclassing is optional: anything with ``tool`` and ``invoke`` will do.

    ``wants_context`` False promises that ``invoke_in_context``, where there is one, never looks at the context.
    A handler that is cancelled and does not end is left behind after a grace, unless it says that it
    ``heeds_cancel``: then it is waited for, however long it takes to settle what it has begun.
    """

    heeds_cancel: ClassVar[bool] = False

    @property
    def wants_context(self) -> bool:
        """Whether the handler has use for a context."""
        return hasattr(self, "invoke_in_context")

    @property
    @abstractmethod
    def tool(self) -> ToolSpec:
        """What the model and the gates are told. Must not change while an agent uses the handler."""

    @abstractmethod
    async def invoke(self, args: dict[str, Any]) -> ToolResult:
        """Do the work. ``args`` fit the schema. Raise ToolError (or anything) to report a failure."""
