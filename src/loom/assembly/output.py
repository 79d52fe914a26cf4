"""``output_type``: the JSON Schema of the answer that is wanted, and the reading of the answer.

How often a model is asked again after a wrong answer is not decided here.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import msgspec

from ..errors import ConfigError, OutputInvalid, ToolError
from ..safety.faults import Fault, report
from ..safety.lenient import split_fences
from ..safety.schema import find_stray_booleans
from ..types import error_text, safe_repr

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["OutputSpec", "shared_spec"]

T = TypeVar("T")
V = TypeVar("V")

_DEEPEST_CHOICE = 8
"""References and choices within each other that are followed to learn how an answer begins."""


class OutputSpec(Generic[T]):
    """What an answer must be. Making one is cheap; the schema is built, and pydantic imported, on first use.

    ``name`` is the type's name as services accept it. For ``str`` the answer is taken as it is.
    """

    def __init__(self, output_type: Any) -> None:
        self.output_type = output_type
        given = getattr(output_type, "__name__", None)
        self.name = re.sub(r"[^a-zA-Z0-9_-]+", "_", given)[:64] if isinstance(given, str) else "output"

    @classmethod
    def of(cls, output_type: type[V]) -> OutputSpec[V]:
        """The spec of a pydantic model, dataclass, TypedDict, Struct or any annotation pydantic validates."""
        return cast("OutputSpec[V]", cls(output_type))

    @functools.cached_property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema, self-contained. Raises ConfigError for a type that has none."""
        return self._built[1]

    @property
    def adapter(self) -> TypeAdapter[Any]:
        """What validates a value. Raises ConfigError for a type that has no schema."""
        return self._built[0]

    @functools.cached_property
    def opening(self) -> str:
        """The brackets that an answer may begin with; empty when it is neither object nor array."""
        kinds = _kinds(self.schema, self.schema, 0)
        return "".join(bracket for kind, bracket in (("object", "{"), ("array", "[")) if kind in kinds)

    @functools.cached_property
    def _built(self) -> tuple[TypeAdapter[Any], dict[str, Any]]:
        from pydantic import TypeAdapter

        from ..tools.functions.annotations import adapt
        from ..tools.functions.arguments import QuietSchema
        from ..tools.functions.tidy_schema import tidy_schema

        try:
            adapter: TypeAdapter[Any] = TypeAdapter(adapt(self.output_type))
            return adapter, tidy_schema(adapter.json_schema(schema_generator=QuietSchema))
        except Exception as error:  # a type may bring a schema of its own, which is the application's code
            reason = error_text(error).partition("\n")[0] or type(error).__name__
            raise ConfigError(
                f"output_type {safe_repr(self.output_type)} has no JSON Schema: {reason}"
            ) from error

    def parse(self, text: str, context: object = None) -> T:
        """The value in ``text``: bare JSON, or JSON in its one fence. Raises OutputInvalid.

        ``context`` is what validators get as ``info.context``: the run's ``RunContext``.
        """
        if self.output_type is str:
            return cast("T", text)
        adapter, schema = self._built
        body = _json_part(text)
        try:
            sent: Any = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
            raise OutputInvalid(
                f"The answer is not valid JSON: {error}. Answer with the JSON value only, without other text."
            ) from error
        if strays := find_stray_booleans(schema, sent):
            raise self._wrong(strays)
        return cast("T", self._validated(adapter, body, sent, context))

    def _validated(self, adapter: TypeAdapter[Any], body: str, sent: Any, context: object) -> Any:
        from ..tools.functions.validation_faults import Misfit, validated

        try:
            return validated(adapter.validator.validate_json, body, sent, self._names, context)
        except Misfit as misfit:
            raise self._wrong(misfit.faults) from None
        except ToolError as error:  # raised to choose the text the model reads
            raise OutputInvalid(error_text(error)) from error

    @property
    def _names(self) -> list[str]:
        return list(self.schema.get("properties", {}))

    def _wrong(self, faults: list[Fault]) -> OutputInvalid:
        required = list(self.schema.get("required", []))
        opening = f"The answer does not fit {self.name}:"
        return OutputInvalid(report(opening, faults, names=self._names, required=required))


def shared_spec(output_type: Any) -> OutputSpec[Any]:
    """The spec of a type, the same one for as many agents as are made of it, while it is among the newest."""
    try:
        # Unions are equal in any order, and their order may matter: the words of the type tell them apart.
        return _spec_of(output_type, safe_repr(output_type))
    except TypeError:  # an annotation that holds something without a hash
        return OutputSpec(output_type)


@functools.lru_cache(maxsize=128)
def _spec_of(output_type: Any, words: str) -> OutputSpec[Any]:
    return OutputSpec(output_type)


def _kinds(schema: Any, root: dict[str, Any], depth: int) -> set[str]:
    """The JSON types that a schema says it allows, as far as it says so at its top."""
    if not isinstance(schema, dict) or depth > _DEEPEST_CHOICE:
        return set()
    node = cast("dict[str, Any]", schema)
    reference = node.get("$ref")
    if isinstance(reference, str):
        return _kinds(root.get("$defs", {}).get(reference.rpartition("/")[2]), root, depth + 1)
    given: Any = node.get("type", [])
    choices = [choice for word in ("anyOf", "oneOf") for choice in node.get(word, [])]
    return (
        {given}
        if isinstance(given, str)
        else set(given).union(*(_kinds(c, root, depth + 1) for c in choices))
    )


def _json_part(text: str) -> str:
    stripped = text.strip().removeprefix("\ufeff")
    if not stripped:
        raise OutputInvalid("The answer is empty. Answer with the JSON value only.")
    if stripped[0] in "{[":
        return stripped
    fences = [body for language, body in split_fences(stripped)[0] if language.lower() in ("", "json")]
    if len(fences) > 1:
        raise OutputInvalid(f"The answer holds {len(fences)} code fences. Answer with one JSON value only.")
    return fences[0].strip() if fences else stripped
