"""Annotations made fit for pydantic: what it does not know is replaced by an equal it knows.

Two kinds need it: ``msgspec.Struct`` (converted by msgspec itself) and, before Python 3.12,
``typing.TypedDict`` (pydantic takes only that of typing_extensions there). Imports pydantic: import this
module only when a schema is really needed.
"""

from __future__ import annotations

import functools
import sys
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, NotRequired, Required, Union, cast, get_args, get_origin

import msgspec
import typing_extensions
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from .tidy_schema import tidy_schema

__all__ = ["adapt"]


def adapt(annotation: Any, names: Mapping[str, Any] | None = None) -> Any:
    """``annotation`` with Structs and old TypedDicts replaced, at any depth of its type arguments.

    ``names`` are those its postponed parts may use. Raises NameError when one cannot be found, TypeError
    for a ``typing.TypedDict`` that refers to itself.
    """
    return _adapt(annotation, dict(names or {}), ())


def _adapt(annotation: Any, names: dict[str, Any], inside: tuple[Any, ...]) -> Any:
    if _is_struct(annotation):
        return Annotated[annotation, _ByMsgspec(annotation)]
    if _is_old_typed_dict(annotation):
        return _modern_typed_dict(annotation, names, inside)
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is None or not args or origin is typing.Literal:
        return annotation
    if origin is Annotated:
        inner = _adapt(args[0], names, inside)
        return annotation if inner is args[0] else Annotated[(inner, *args[1:])]
    adapted = tuple(_adapt(arg, names, inside) for arg in args)
    if all(new is old for new, old in zip(adapted, args, strict=True)):
        return annotation
    if origin in (Union, types.UnionType):
        return functools.reduce(lambda left, right: left | right, adapted)
    copy_with = getattr(annotation, "copy_with", None)
    return origin[adapted] if copy_with is None else copy_with(adapted)


def _is_struct(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, msgspec.Struct)


class _ByMsgspec:
    """Tells pydantic that msgspec validates and describes a Struct."""

    def __init__(self, struct: type[msgspec.Struct]) -> None:
        self._struct = struct

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        convert = functools.partial(msgspec.convert, type=self._struct, strict=False)
        return core_schema.no_info_plain_validator_function(convert)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        described = tidy_schema(msgspec.json.schema(self._struct))
        if "$defs" in described:  # pydantic has its own definitions and would not find these
            name = self._struct.__name__
            raise TypeError(f"the Struct {name} refers to itself or is too large; take a dataclass")
        return described


def _is_old_typed_dict(annotation: Any) -> bool:
    return (
        sys.version_info < (3, 12)
        and typing.is_typeddict(annotation)
        and type(annotation).__module__ == "typing"
    )


def _modern_typed_dict(old: Any, names: dict[str, Any], inside: tuple[Any, ...]) -> Any:
    if old in inside:
        raise TypeError(
            f"{old.__name__} is a typing.TypedDict that refers to itself; import it from typing_extensions"
        )
    hints = typing.get_type_hints(old, localns=names, include_extras=True)
    fields: dict[str, Any] = {}
    for key, hint in hints.items():
        marker = get_origin(hint)
        if marker in (Required, NotRequired):
            needed, hint = marker is Required, get_args(hint)[0]
        else:
            needed = key in old.__required_keys__
        hint = _adapt(hint, names, (*inside, old))
        fields[key] = Required[hint] if needed else NotRequired[hint]
    new = cast("Any", typing_extensions.TypedDict)(old.__name__, fields)
    new.__doc__, new.__module__ = old.__doc__, old.__module__
    if hasattr(old, "__pydantic_config__"):
        new.__pydantic_config__ = old.__pydantic_config__
    return new
