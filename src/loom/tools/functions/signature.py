"""Reads a function the way a tool needs it: parameters, resolved annotations, and who gets the context.

No schema and no validation here. Postponed annotations are resolved one by one with the function's own
globals, the local names captured when it was decorated, and its closure, so that one unresolvable name
gives an error that says which.
"""

from __future__ import annotations

import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, get_args, get_origin

from ...errors import ConfigError
from ...types import describe_error, safe_repr
from ..base import RunContext, ToolContext

__all__ = ["MISSING", "Parameter", "Signature", "defining_function", "read_signature"]

MISSING: Final = inspect.Parameter.empty
"""Stands for an absent annotation or default."""

_CONTEXT_WORD = re.compile(r"\s*[\"']?(?:\w+\.)*(?:ToolContext|RunContext)\b")
_CONTEXT_NAMES: dict[str, Any] = {"ToolContext": ToolContext, "RunContext": RunContext}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: ``annotation`` is resolved (Any when there is none), ``default`` may be MISSING."""

    name: str
    annotation: Any
    default: Any
    positional_only: bool
    is_context: bool


@dataclass(frozen=True, slots=True)
class Signature:
    """All parameters in order, and the names with which annotations were resolved."""

    parameters: tuple[Parameter, ...]
    names: Mapping[str, Any]

    @property
    def context(self) -> Parameter | None:
        """The parameter that gets the context, if there is one."""
        return next((parameter for parameter in self.parameters if parameter.is_context), None)


def read_signature(func: Callable[..., Any], label: str, local_names: Mapping[str, Any]) -> Signature:
    """The signature of a function that is to be a tool; ``label`` names it in errors.

    Raises ConfigError for ``*args``/``**kwargs``, an unbound method, an annotation that cannot be resolved
    and more than one context parameter.
    """
    try:
        raw = inspect.signature(func)
    except Exception as error:  # a `__signature__` or annotations of the application's may raise anything
        raise ConfigError(
            f"{label}: its signature cannot be read ({describe_error(error)}); wrap it in a function"
        ) from error
    names = _names_for(defining_function(func), local_names)
    parameters = tuple(
        _read_parameter(parameter, label, names, first=index == 0)
        for index, parameter in enumerate(raw.parameters.values())
    )
    contexts = [parameter.name for parameter in parameters if parameter.is_context]
    if len(contexts) > 1:
        raise ConfigError(f"{label}: takes the context more than once ({', '.join(contexts)}); keep one")
    return Signature(parameters, names)


def defining_function(func: Any) -> Any:
    """The plain function behind partials, bound methods, wrappers and callable objects."""
    for _ in range(100):  # a chain that long is a loop
        if isinstance(func, functools.partial):
            func = func.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - any callable
        elif isinstance(func, types.MethodType):
            func = func.__func__
        elif hasattr(func, "__wrapped__"):
            func = func.__wrapped__
        elif not hasattr(func, "__code__") and isinstance(call := _call_of(func), types.FunctionType):
            func = call
        else:
            break
    return func


def _call_of(candidate: object) -> object:
    return inspect.getattr_static(type(candidate), "__call__", None)


def _names_for(func: Any, local_names: Mapping[str, Any]) -> dict[str, Any]:
    names: dict[str, Any] = {**_CONTEXT_NAMES, **getattr(func, "__globals__", {})}
    for name, cell in zip(
        getattr(getattr(func, "__code__", None), "co_freevars", ()),
        getattr(func, "__closure__", None) or (),
        strict=False,
    ):
        try:
            names[name] = cell.cell_contents
        except ValueError:  # the enclosing function has not assigned it yet
            continue
    names.update(local_names)
    names.update({param.__name__: param for param in getattr(func, "__type_params__", ())})
    return names


def _read_parameter(
    parameter: inspect.Parameter, label: str, names: dict[str, Any], *, first: bool
) -> Parameter:
    name, kind, annotation = parameter.name, parameter.kind, parameter.annotation
    if kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
        stars = "*" if kind is inspect.Parameter.VAR_POSITIONAL else "**"
        raise ConfigError(f"{label}: {stars}{name} cannot be described to a model; name each parameter")
    if first and annotation is MISSING and name in ("self", "cls"):
        raise ConfigError(f"{label}: is a method without its object; pass the method of an instance")
    hint = _resolve(name, annotation, label, names)
    return Parameter(
        name=name,
        annotation=hint,
        default=parameter.default,
        positional_only=kind is inspect.Parameter.POSITIONAL_ONLY,
        is_context=_is_context(hint),
    )


def _resolve(name: str, annotation: Any, label: str, names: dict[str, Any]) -> Any:
    if annotation is MISSING:
        return Any
    holder = types.SimpleNamespace(__annotations__={name: annotation})
    try:
        return typing.get_type_hints(holder, globalns=names, localns=names, include_extras=True)[name]
    except Exception as error:  # evaluating user code, which may raise anything
        if isinstance(annotation, str) and _CONTEXT_WORD.match(annotation):
            return ToolContext  # its type argument is known to type checkers only, and is not needed here
        raise ConfigError(
            f"{label}: the annotation of {name!r} ({safe_repr(annotation)}) cannot be resolved: "
            f"{describe_error(error)}. "
            "Import the name at module level, outside `if TYPE_CHECKING`, or define it before the function"
        ) from error


def _is_context(hint: Any) -> bool:
    origin = get_origin(hint)
    if origin is Annotated or origin in (typing.Union, types.UnionType):
        return any(_is_context(arg) for arg in get_args(hint)[: 1 if origin is Annotated else None])
    kind = origin or hint
    return isinstance(kind, type) and issubclass(kind, RunContext)
