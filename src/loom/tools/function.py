"""``@tool``: a Python function as a tool the model may call, still callable as the plain function.

Decorating stores the function and its facts and nothing more; the schema is built, and pydantic imported,
when it is first needed. Reading the signature, validating arguments and turning return values into results
are the work of the siblings.
"""

from __future__ import annotations
import __future__

import dataclasses
import functools
import inspect
import math
import re
import sys
import types
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast, overload

from ..errors import ConfigError, ToolExecutionError
from ..events import Event
from ..types import ToolResult, ToolRetries, ToolSpec, describe_error, safe_repr
from .base import RunContext, SpecFacts, ToolContext, ToolHandler, checked_name, checked_spec
from .functions.returned import to_result, with_files_read
from .threads import run_in_thread

if TYPE_CHECKING:
    from .functions.arguments import Arguments

__all__ = ["FunctionTool", "as_handler", "tool"]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_STARS = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS
_GENERATORS = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_POSTPONED = __future__.annotations.compiler_flag
_WORD = re.compile(r"[^\W\d]\w*")
_NO_NAMES: Mapping[str, Any] = types.MappingProxyType({})


@dataclasses.dataclass(frozen=True, slots=True)
class _Facts:
    """What the decorator was told, as the fields of ``ToolSpec`` are called."""

    description: str | None = None
    read_only: bool = False
    destructive: bool = False
    concurrency_safe: bool = False
    needs_approval: bool | None = None
    idempotent: bool = False
    timeout: float | None = None
    strict: bool = False
    max_calls: int | None = None
    retries: ToolRetries | None = None

    def spec(self, name: str, description: str, parameters: dict[str, Any]) -> ToolSpec:
        """The spec with these facts."""
        return ToolSpec(
            name=name,
            description=description,
            parameters=parameters,
            read_only=self.read_only,
            destructive=self.destructive,
            concurrency_safe=self.concurrency_safe,
            needs_approval=self.needs_approval,
            idempotent=self.idempotent,
            timeout=self.timeout,
            strict=self.strict,
            max_calls=self.max_calls,
            retries=self.retries,
        )


_NO_FACTS = _Facts()


class FunctionTool(SpecFacts, ToolHandler, Generic[P, R_co]):
    """A function and its tool. Calling it calls the function; ``tool`` and ``invoke`` are what an agent uses.

    Made by ``@tool``. A synchronous function runs on a thread when an agent calls it: cancelling such a call
    returns at once, but the function goes on, since a thread cannot be killed. ``name`` is known without
    building the schema; the other facts (``description``, ``parameters``, ``read_only`` and so on) are read off the
    spec. As an attribute of a class it binds to the object, as a function does.
    """

    __wrapped__: Callable[P, R_co]

    def __init__(
        self,
        func: Callable[P, R_co],
        *,
        name: str | None = None,
        facts: _Facts = _NO_FACTS,
        local_names: Mapping[str, Any] = _NO_NAMES,
    ) -> None:
        self.name = _checked_name(func, name)
        self._facts = facts
        self._local_names = local_names
        self._arguments: Arguments | None = None
        self._spec: ToolSpec | None = None
        self._bound: tuple[ToolSpec, Arguments] | None = None
        self._class_side: FunctionTool[..., Any] | None = None
        self._is_async = _check_kind(func, self.name)
        self.__wrapped__ = func
        self.__name__: str = getattr(func, "__name__", self.name)
        self.__qualname__: str = getattr(func, "__qualname__", self.name)
        self.__module__ = getattr(func, "__module__", __name__)
        self.__doc__ = func.__doc__

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the plain function: no validation, no thread, no governance."""
        return self.__wrapped__(*args, **kwargs)

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> FunctionTool[P, R_co]: ...

    @overload
    def __get__(
        self: FunctionTool[Concatenate[Any, Q], R], instance: object, owner: type | None = None
    ) -> FunctionTool[Q, R]: ...

    def __get__(self, instance: object | None, owner: type | None = None) -> FunctionTool[Any, Any]:
        if instance is None:
            return self
        bound: FunctionTool[..., Any] = FunctionTool(
            types.MethodType(self.__wrapped__, instance),
            name=self.name,
            facts=self._facts,
            local_names=self._local_names,
        )
        bound._class_side = self  # what was compiled for one object serves for all
        return bound

    def __repr__(self) -> str:
        return f"<tool {self.name}>"

    @property
    def tool(self) -> ToolSpec:
        """What the model and the gates are told. Built on first use; raises ConfigError when it cannot be."""
        spec = self._spec
        return spec if spec is not None else self._compile()[0]

    @property
    def wants_context(self) -> bool:
        """Whether the function has a parameter for the context."""
        return (self._arguments or self._compile()[1]).wants_context

    def check_arguments(self, args: object) -> None:
        """Validate without running. Raises ToolArgumentsError whose text the model can act on."""
        self.read_arguments(args)

    def read_arguments(
        self, args: object, context: RunContext[Any] | None = None, *, strict: bool = False
    ) -> dict[str, Any]:
        """The arguments as they were meant, without running. ``context`` is what validators get as ``info.context``.

        ``strict``, here or as declared, reads nothing into them. Raises ToolArgumentsError whose text the model
        can act on.
        """
        arguments = self._arguments or self._compile()[1]
        return arguments.read(args, context, strict=strict or self._facts.strict)[0]

    async def invoke(self, args: dict[str, Any]) -> ToolResult:
        """Validate and run. A function that takes a context raises ToolError here unless it has a default."""
        return await self._run(args, None)

    async def invoke_in_context(self, args: dict[str, Any], context: ToolContext[Any]) -> ToolResult:
        """Validate and run; the parameter annotated as context, if there is one, gets ``context``."""
        return await self._run(args, context)

    async def _run(self, args: object, context: ToolContext[Any] | None) -> ToolResult:
        import asyncio

        arguments = self._arguments or self._compile()[1]
        if context is not None and not self._is_async:
            context = _for_thread(context)
        positional, keywords = arguments.bind(args, context, strict=self._facts.strict)
        func = cast("Callable[..., Any]", self.__wrapped__)
        try:
            if self._is_async:
                value = await func(*positional, **keywords)
            else:
                value = await run_in_thread(functools.partial(func, *positional, **keywords))
                if inspect.isawaitable(value):  # a wrapper around an async function looks synchronous
                    value = await value
        except SystemExit as error:
            raise ToolExecutionError(f"{self.name} tried to exit the program (code {error.code})") from error
        except asyncio.CancelledError as error:
            current = asyncio.current_task()
            if current is None or current.cancelling():
                raise
            # nobody cancelled this call; something it awaited was cancelled, and that is its own failure
            raise ToolExecutionError(f"{self.name} awaited something that was cancelled") from error
        return await with_files_read(_as_result(value, self.name), self.name)

    def _compile(self) -> tuple[ToolSpec, Arguments]:
        known = self._class_side._bound if self._class_side is not None else None
        if known is not None:
            self._spec, self._arguments = known
            return known
        from .functions.arguments import compile_arguments

        summary, arguments = compile_arguments(self.__wrapped__, self.name, self._local_names)
        facts = self._facts
        described = summary if facts.description is None else facts.description
        spec = facts.spec(self.name, described, arguments.schema)
        self._arguments, self._spec, self._local_names = arguments, spec, _NO_NAMES
        if self._class_side is not None:
            self._class_side._bound = spec, arguments
        return spec, arguments


class _Decorator(Protocol):
    def __call__(self, func: Callable[P, R], /) -> FunctionTool[P, R]: ...


@overload
def tool(func: Callable[P, R], /) -> FunctionTool[P, R]: ...


@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    read_only: bool = False,
    destructive: bool = False,
    concurrency_safe: bool = False,
    requires_permission: bool | None = None,
    idempotent: bool = False,
    timeout: float | None = None,
    strict: bool = False,
    max_calls: int | None = None,
    retries: int | ToolRetries = 0,
) -> _Decorator: ...


def tool(
    func: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    read_only: bool = False,
    destructive: bool = False,
    concurrency_safe: bool = False,
    requires_permission: bool | None = None,
    idempotent: bool = False,
    timeout: float | None = None,
    strict: bool = False,
    max_calls: int | None = None,
    retries: int | ToolRetries = 0,
) -> Any:
    """Make a function a tool: ``@tool``, or ``@tool(read_only=True)``.

    The schema comes from the annotations, the description from the docstring's first paragraph unless given.
    ``requires_permission`` None asks a human only for a destructive tool. ``timeout`` is in seconds. ``strict``
    refuses near-miss arguments such as ``"5"`` for a number, which are else read as they were meant. ``max_calls``
    is how many calls one run may make; those beyond are refused, which the model reads. ``retries`` is how often the
    function is called again when it raises, a number or ``ToolRetries``; for read_only and idempotent tools only.
    A ToolError is the tool's own word and not retried, nor is a timeout. Raises ConfigError for a function a model
    could not call.
    """
    if func is not None:
        return FunctionTool(_unwrapped(func), local_names=_local_names(func, inspect.currentframe()))
    again = ToolRetries(retries) if isinstance(retries, int) else retries
    none = type(retries) is int and retries == 0
    facts = _Facts(
        description, read_only, destructive, concurrency_safe, requires_permission, idempotent, timeout, strict,
        max_calls, None if none else again,
    )  # fmt: skip
    checked_spec(
        facts.spec(name if name is not None else "tool", "" if description is None else description, {})
    )
    if timeout == math.inf:
        raise ConfigError(
            "timeout must be a positive number of seconds, not infinite; leave it out for the default"
        )

    def decorate(func: Callable[P, R], /) -> FunctionTool[P, R]:
        names = _local_names(func, inspect.currentframe())
        return FunctionTool(_unwrapped(func), name=name, facts=facts, local_names=names)

    return decorate


def as_handler(candidate: object) -> ToolHandler:
    """A handler from a handler, an object with ``tool`` and ``invoke``, or a bare function.

    A plain function gives the same handler each time, and what is compiled for a method serves all its objects: web
    products make an agent per request. It is kept on the function, so it dies with it. Raises ConfigError for
    anything else.
    """
    if isinstance(candidate, ToolHandler):
        return candidate
    if isinstance(candidate, type):
        raise ConfigError(
            f"{candidate.__name__} is a class, not a tool; pass an instance of it, or a function"
        )
    if _has_tool(candidate):
        has_invoke = hasattr(candidate, "invoke") or hasattr(candidate, "invoke_in_context")
        if has_invoke and isinstance(getattr(candidate, "tool", None), ToolSpec):
            return cast("ToolHandler", candidate)
    elif isinstance(candidate, types.FunctionType | functools.partial):
        return _kept_tool(cast("Callable[..., Any]", candidate))
    elif isinstance(candidate, types.MethodType) and isinstance(candidate.__func__, types.FunctionType):
        return _kept_tool(candidate.__func__).__get__(candidate.__self__)
    elif callable(candidate):
        return FunctionTool(candidate)
    if hasattr(type(candidate), "as_tool"):
        raise ConfigError(
            f"{safe_repr(candidate)} is an agent, not a tool: pass its .as_tool(name=..., description=...), which "
            "says what it is called and what it is for"
        )
    raise ConfigError(
        f"{safe_repr(candidate)} is not a tool: it needs a `tool` that is a ToolSpec and an `invoke(args)` method, "
        "or must be a function"
    )


def _kept_tool(func: Callable[..., Any]) -> FunctionTool[..., Any]:
    """The one tool of a function or partial, which is kept on it."""
    known = func.__dict__.get("__loom_tool__")
    if isinstance(known, FunctionTool) and known.__wrapped__ is func:
        return cast("FunctionTool[..., Any]", known)
    made: FunctionTool[..., Any] = FunctionTool(func)
    func.__dict__["__loom_tool__"] = made
    return made


def _has_tool(candidate: Any) -> bool:
    try:
        return hasattr(candidate, "tool")
    except Exception as error:  # a property of the application's
        raise ConfigError(
            f"a {type(candidate).__name__} cannot say what it is as a tool: {describe_error(error)}"
        ) from error


def _unwrapped(func: Any) -> Any:
    """The function inside a staticmethod or another tool; ConfigError for what cannot be decorated."""
    if isinstance(func, FunctionTool | staticmethod):
        return func.__wrapped__  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - any callable
    if isinstance(func, classmethod):
        raise ConfigError("@tool cannot decorate a classmethod; pass the bound method instead")
    if isinstance(func, type) or not callable(func):
        raise ConfigError(f"@tool decorates a function, not {safe_repr(func)}; options are passed by keyword")
    return func


def _checked_name(func: Any, given: str | None) -> str:
    name = given
    if name is None:
        inner = func.func if isinstance(func, functools.partial) else func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        name = getattr(inner, "__name__", None) or type(inner).__name__
    try:
        return checked_name(name)
    except ConfigError as error:
        raise ConfigError(f"{error}; pass @tool(name=...)") from None


def _check_kind(func: Any, label: str) -> bool:
    """Whether the function is async. Raises ConfigError for generators and catch-all parameters."""
    code = getattr(func, "__code__", None)
    if code is None:
        if inspect.isgeneratorfunction(func) or inspect.isasyncgenfunction(func):
            raise ConfigError(f"{label}: a generator cannot be a tool; return a list")
        return inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(type(func).__call__)
    flags = code.co_flags
    if flags & _GENERATORS:
        raise ConfigError(f"{label}: a generator cannot be a tool; return a list")
    if flags & _STARS and not hasattr(func, "__wrapped__") and not hasattr(func, "__signature__"):
        raise ConfigError(f"{label}: *args and **kwargs cannot be described to a model; name each parameter")
    return bool(flags & inspect.CO_COROUTINE)


def _local_names(func: Any, decorator_frame: types.FrameType | None) -> Mapping[str, Any]:
    """Names of the enclosing function that postponed annotations may need, kept until the schema is built."""
    frame = decorator_frame.f_back if decorator_frame is not None else None
    if frame is None or frame.f_locals is frame.f_globals:
        return _NO_NAMES
    code = getattr(func, "__code__", None)
    if sys.version_info >= (3, 14) and not (code and code.co_flags & _POSTPONED):
        return _NO_NAMES  # annotations are evaluated on demand there, with their own scope
    texts = [
        text if isinstance(text, str) else safe_repr(text)
        for text in _annotations(func).values()
        if _mentions_names(text)
    ]
    if not texts:
        return _NO_NAMES
    words = {word for text in texts for word in _WORD.findall(text)}
    return {name: value for name, value in frame.f_locals.items() if name in words or isinstance(value, type)}


def _annotations(func: Any) -> Mapping[str, Any]:
    """A function's annotations; none when evaluating them fails, which is told when the schema is built."""
    try:
        found: Mapping[str, Any] = getattr(func, "__annotations__", _NO_NAMES)
    except Exception:  # where they are evaluated on demand, they are the application's code
        return _NO_NAMES
    return found


def _mentions_names(annotation: object) -> bool:
    """Whether an annotation is, or may contain, text that is still to be resolved."""
    return isinstance(annotation, str) or "ForwardRef(" in safe_repr(annotation)


def _as_result(value: object, label: str) -> ToolResult:
    """The result for a returned value, whose own serialisers may raise anything; the work is done by then."""
    try:
        return to_result(value, label)
    except (KeyboardInterrupt, ToolExecutionError):
        raise
    except BaseException as error:
        from .functions.foreign_errors import told

        failure = told(error)
    raise ToolExecutionError(f"{label} did its work, but what it returned cannot be shown: {failure}")


def _for_thread(context: ToolContext[Any]) -> ToolContext[Any]:
    """A context whose events reach the run on its own thread."""
    import asyncio

    loop = asyncio.get_running_loop()
    post = context.post

    def post_from_thread(event: Event) -> None:
        loop.call_soon_threadsafe(post, event)

    return dataclasses.replace(context, _post=post_from_thread)
