"""``as_tool(parameters=)``: the type of what an agent is asked, where that is more than a text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import msgspec

from ..errors import ConfigError, ToolArgumentsError
from ..safety.faults import Fault, quote, report
from ..safety.lenient import mended
from ..safety.schema import find_faults, find_stray_booleans
from ..types import describe_error, to_json
from .output import OutputSpec

if TYPE_CHECKING:
    from ..tools.functions.validation_faults import Validate

__all__ = ["TaskType"]


class TaskType:
    """A pydantic model, dataclass, TypedDict or Struct as the arguments of an agent that is a tool.

    Raises ConfigError for a type that has no JSON Schema or is no object.
    """

    def __init__(self, parameters: Any, name: str) -> None:
        spec = OutputSpec[Any](parameters)
        self._name = name
        try:
            self.schema = spec.schema
        except ConfigError as error:
            raise ConfigError(f"{name}: {str(error).replace('output_type', 'parameters', 1)}") from error
        if spec.opening != "{":
            raise ConfigError(f"{name}: parameters must be a type with fields, such as a pydantic model")
        self._validate: Validate = spec.adapter.validator.validate_json

    def read(self, args: dict[str, Any], context: object, *, strict: bool = False) -> dict[str, Any]:
        """The arguments as they were meant. Raises ToolArgumentsError naming what is wrong with what was sent."""
        try:
            if strict and (faults := find_faults(self.schema, args)):
                raise self._wrong(faults)
            self._value(args, context)
        except ToolArgumentsError:
            meant = args if strict else mended(self.schema, args)
            if meant is args:
                raise
            try:
                self._value(meant, context)
            except ToolArgumentsError:
                pass
            else:
                return meant
            raise
        return args

    def plain(self, args: dict[str, Any], context: object) -> dict[str, Any]:
        """The validated arguments as plain data, defaults and what validators made of them included."""
        value = self._value(args, context)
        try:
            return cast("dict[str, Any]", msgspec.json.decode(to_json(value)))
        except Exception as error:  # the serialisers are the application's
            raise ToolArgumentsError(
                f"the arguments of {self._name} cannot be handed on: {describe_error(error)}"
            ) from error

    def _value(self, args: dict[str, Any], context: object) -> Any:
        from ..tools.functions.validation_faults import Misfit, validated

        if strays := find_stray_booleans(self.schema, args):
            raise self._wrong(strays)
        names = list(self.schema.get("properties", {}))
        try:
            return validated(self._validate, to_json(args), args, names, context)
        except Misfit as misfit:
            raise self._wrong(misfit.faults) from None

    def _wrong(self, faults: list[Fault]) -> ToolArgumentsError:
        names, required = list(self.schema.get("properties", {})), list(self.schema.get("required", []))
        opening = f"The arguments of {quote(self._name)} are wrong:"
        return ToolArgumentsError(report(opening, faults, names=names, required=required))
