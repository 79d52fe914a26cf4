"""The arguments of a function tool: their JSON Schema, their validation and their way into the call.

Built once per function from its signature. Imports pydantic: import this module only when a schema is really
needed. A parameter without annotation takes any JSON value.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, cast, get_args, get_origin

import msgspec
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, create_model
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema

from ...errors import ConfigError, ToolArgumentsError, ToolError
from ...safety.faults import Fault, quote, report
from ...safety.json_kinds import is_object
from ...safety.lenient import mended
from ...safety.schema import find_faults, find_stray_booleans
from ...types import describe_error, error_text, jsonable
from .annotations import adapt
from .docstring import read_docstring
from .signature import MISSING, Parameter, Signature, read_signature
from .tidy_schema import tidy_schema
from .validation_faults import Misfit, Validate, validated

__all__ = ["Arguments", "QuietSchema", "compile_arguments"]

_MANY = 1000
"""Wrong names that are counted instead of told one by one."""
_encode = msgspec.json.Encoder(enc_hook=jsonable).encode


class QuietSchema(GenerateJsonSchema):
    """pydantic's generator without its warning about defaults that are no JSON; they are left out."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}

    def encode_default(self, dft: Any) -> Any:
        """A default as JSON; that of a set in a fixed order, since strings hash anew in each process."""
        encoded = super().encode_default(dft)
        return sorted(encoded, key=repr) if isinstance(dft, set | frozenset) else encoded


class Arguments:
    """What one function takes. ``schema`` is for the model, ``bind`` turns arguments into a call."""

    def __init__(
        self, label: str, model: type[BaseModel], schema: dict[str, Any], signature: Signature
    ) -> None:
        self.schema = schema
        self._closed = schema.get("additionalProperties") is False
        self._label = label
        self._model = model
        self._validate: Validate = model.__pydantic_validator__.validate_json
        self._fields = model.model_fields
        self._parameters = signature.parameters
        self._context = signature.context
        self._field_of = {parameter.name: f"p{index}" for index, parameter in enumerate(signature.parameters)}

    def read(
        self, args: object, context: object = None, *, strict: bool = False
    ) -> tuple[dict[str, Any], BaseModel]:
        """The arguments as JSON in the form they were meant in, and with their declared types.

        ``context`` is what validators get as ``info.context``. ``strict`` takes nothing for what it is not.
        Raises ToolArgumentsError naming what is wrong with the arguments as they were sent.
        """
        if strict:
            return self._strictly(args, context)
        try:
            valid = self._validated(args, context)
        except ToolArgumentsError:
            meant = args if not is_object(args) or self._insists else mended(self.schema, args)
            if meant is args:
                raise
            try:
                return cast("dict[str, Any]", meant), self._validated(meant, context)
            except ToolArgumentsError:
                pass
            raise
        sent = cast("dict[str, Any]", args)
        meant = mended(self.schema, sent)
        return (meant if meant is not sent and self._means(meant, valid, context) else sent), valid

    def _means(self, meant: dict[str, Any], valid: BaseModel, context: object) -> bool:
        """Whether a mended form comes to the same values; a validator may have its own idea of a string."""
        try:
            again = self._validated(meant, context)
            return again.__dict__ == valid.__dict__ and again.model_fields_set == valid.model_fields_set
        except Exception:  # also what comparing values of the application raises
            return False

    @functools.cached_property
    def _insists(self) -> bool:
        """Whether a type of the application asks for strict validation, which mending would undo."""
        return _says(self._model.__pydantic_core_schema__, "strict", True)

    def _strictly(self, args: object, context: object) -> tuple[dict[str, Any], BaseModel]:
        if is_object(args) and (faults := find_faults(self.schema, args)):
            raise self._wrong(faults)
        strictly: Validate = functools.partial(self._validate, strict=True)
        return cast("dict[str, Any]", args), self._validated(args, context, strictly)

    def _validated(self, args: object, context: object, validate: Validate | None = None) -> BaseModel:
        if not is_object(args):
            raise self._wrong([Fault("", "should be a JSON object with named arguments", args)])
        given = args
        if self._closed and len(given) > len(self._parameters) + _MANY:
            raise self._wrong([Fault("", f"has {len(given)} names, most of which no argument has")])
        try:
            text = _encode(given)
        except (TypeError, ValueError, RecursionError) as error:
            raise self._wrong([Fault("", f"is no JSON object: {error}")]) from error
        may_stray = b"true" in text or b"false" in text
        strays = find_stray_booleans(self.schema, given) if may_stray else []
        try:
            valid = cast(
                "BaseModel", validated(validate or self._validate, text, given, self._names, context)
            )
        except Misfit as misfit:
            known = {fault.path for fault in strays}
            raise self._wrong(strays + [f for f in misfit.faults if f.path not in known]) from None
        if strays:
            raise self._wrong(strays)
        return valid

    @functools.cached_property
    def wants_context(self) -> bool:
        """Whether a parameter gets the context, or a validator that may look at it (``info.context``)."""
        if self._context is not None:
            return True
        return _says(self._model.__pydantic_core_schema__, "type", "with-info")

    def bind(self, args: object, context: Any, *, strict: bool = False) -> tuple[list[Any], dict[str, Any]]:
        """Positional and keyword arguments of the call.

        Parameters that were not given are left to the function's own defaults. Raises ToolArgumentsError, and
        ToolError when the function needs a context and there is none.
        """
        _, valid = self.read(args, context, strict=strict)
        values = valid.__dict__
        given = valid.model_fields_set
        positional: list[Any] = []
        keywords: dict[str, Any] = {}
        for parameter in self._parameters:
            name = parameter.name
            field = self._field_of[name]
            if parameter.is_context:
                value = self._context_value(parameter, context)
            elif field in given or isinstance(parameter.default, FieldInfo):
                value = values[field]
            elif parameter.positional_only:
                value = parameter.default
            else:
                continue
            if parameter.positional_only:
                positional.append(value)
            else:
                keywords[name] = value
        return positional, keywords

    def _context_value(self, parameter: Parameter, context: Any) -> Any:
        if context is not None:
            return context
        if parameter.default is not MISSING:
            return parameter.default
        raise ToolError(
            f"{self._label} needs to know the run it serves (its parameter {parameter.name!r}); "
            "let an agent call it, or use invoke_in_context(args, context)"
        )

    @property
    def _names(self) -> list[str]:
        return list(cast("dict[str, Any]", self.schema["properties"]))

    def _wrong(self, faults: list[Fault]) -> ToolArgumentsError:
        required = cast("list[str]", self.schema.get("required", []))
        opening = f"The arguments of {quote(self._label)} are wrong:"
        return ToolArgumentsError(report(opening, faults, names=self._names, required=required))


def compile_arguments(
    func: Callable[..., Any], label: str, local_names: Mapping[str, Any]
) -> tuple[str, Arguments]:
    """The function's description, from its docstring, and its arguments.

    Raises ConfigError naming the function, and the parameter at fault, when no schema can be made.
    """
    signature = read_signature(func, label, local_names)
    summary, texts = read_docstring(_docstring(func))
    shown = [(f"p{index}", p) for index, p in enumerate(signature.parameters) if not p.is_context]
    try:
        fields = {field: _field(parameter, texts, signature.names) for field, parameter in shown}
        config = ConfigDict(extra="forbid", allow_inf_nan=False, defer_build=True)
        model = create_model("Arguments", __config__=config, **cast("Any", fields))
        model.model_rebuild(force=True, _types_namespace=dict(signature.names))
        schema = tidy_schema(model.model_json_schema(schema_generator=QuietSchema))
    except Exception as error:  # types may bring schemas of their own, which are the application's code
        raise _unsuitable(label, [parameter for _, parameter in shown], signature.names, error) from error
    schema.pop("description", None)
    schema.setdefault("properties", {})
    return summary, Arguments(label, model, _in_order(schema), signature)


def _docstring(func: Callable[..., Any]) -> str | None:
    try:
        text: Any = inspect.getdoc(func)
    except Exception:  # a property of a callable object of the application's; a tool needs no docstring
        return None
    return text if isinstance(text, str) else None


def _says(schema: object, key: str, value: object) -> bool:
    """Whether ``key`` is ``value`` anywhere in a pydantic core schema, which may refer to itself."""
    waiting, seen = [schema], set[int]()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if is_object(node):
            if node.get(key) == value:
                return True
            waiting += node.values()
        elif isinstance(node, list | tuple):
            waiting += cast("Sequence[object]", node)
    return False


def _in_order(schema: dict[str, Any]) -> dict[str, Any]:
    first = [key for key in ("type", "properties", "required", "additionalProperties") if key in schema]
    return {key: schema[key] for key in (*first, *(key for key in schema if key not in first))}


def _field(parameter: Parameter, texts: Mapping[str, str], names: Mapping[str, Any]) -> Any:
    """A field for ``create_model``, whose own names are free since a parameter may be called ``json``."""
    annotation = adapt(parameter.annotation, names)
    metadata = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    default = parameter.default
    infos = [item for item in (*metadata, default) if isinstance(item, FieldInfo)]
    extra: dict[str, Any] = {}
    if not any(info.alias or info.validation_alias for info in infos):
        extra["alias"] = parameter.name
    if not any(info.description for info in infos):
        extra["description"] = _documentation(metadata) or texts.get(parameter.name)
    if extra:
        annotation = Annotated[annotation, Field(**extra)]
    return (annotation, ... if default is MISSING else default)


def _documentation(metadata: tuple[Any, ...]) -> str | None:
    """The text in ``Annotated[int, "how many"]`` or ``Annotated[int, Doc("how many")]``."""
    for item in metadata:
        text = item if isinstance(item, str) else getattr(item, "documentation", None)
        if isinstance(text, str):
            return text
    return None


def _unsuitable(
    label: str, parameters: list[Parameter], names: Mapping[str, Any], error: Exception
) -> ConfigError:
    for parameter in parameters:
        try:
            TypeAdapter(adapt(parameter.annotation, names)).json_schema(schema_generator=QuietSchema)
        except Exception as own:  # as above
            reason = _reason(own)
            return ConfigError(
                f"{label}: the parameter {parameter.name!r} has a type that cannot be described to a model: "
                f"{reason}"
            )
    return ConfigError(f"{label}: its parameters cannot be described to a model: {_reason(error)}")


def _reason(error: Exception) -> str:
    """The first line of an error; its kind too, where the words alone would say little."""
    told = error_text if isinstance(error, PydanticUserError | TypeError | ValueError) else describe_error
    return told(error).partition("\n")[0]
