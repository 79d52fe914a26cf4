"""What a model wrote as the arguments of a call, as the tool is to get it."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from ..errors import ToolArgumentsError
from ..folds.state import Call
from ..safety.lenient import loose_json, mended
from ..safety.schema import validate_arguments
from ..tools.base import RunContext, ToolHandler
from ..types import ToolSpec

MAX_ARGUMENTS = 4 * 1024 * 1024
"""Characters of one call's arguments: several times what a model can write in one reply."""


def call_arguments(call: Call, *, strict: bool) -> tuple[dict[str, Any], bool]:
    """The arguments as one JSON object, and whether the text was only nearly that. Raises ToolArgumentsError."""
    if len(call.arguments) > MAX_ARGUMENTS:
        raise ToolArgumentsError(
            f"the arguments of {call.name} have {len(call.arguments)} characters; {MAX_ARGUMENTS} are the most, "
            "send less at a time"
        )
    try:
        arguments = msgspec.json.decode(call.arguments)
    except (ValueError, RecursionError) as error:
        if not strict and (meant := _nearly(call.arguments)) is not None:
            return meant, True
        raise ToolArgumentsError(
            f"the arguments of {call.name} are not valid JSON ({error}); send one JSON object"
        ) from None
    if isinstance(arguments, str) and not strict and (meant := _nearly(arguments)) is not None:
        return meant, True
    if not isinstance(arguments, dict):
        raise ToolArgumentsError(
            f"the arguments of {call.name} must be one JSON object, not {type(arguments).__name__}"
        )
    return cast("dict[str, Any]", arguments), False


def _nearly(text: str) -> dict[str, Any] | None:
    """The object that a text means which is not quite JSON, or JSON within JSON."""
    try:
        meant = loose_json(text)
    except ValueError:
        return None
    return cast("dict[str, Any]", meant) if isinstance(meant, dict) else None


def read_arguments(
    handler: ToolHandler,
    spec: ToolSpec,
    args: dict[str, Any],
    context: RunContext[Any],
    *,
    strict: bool,
    as_sent: bool = False,
) -> dict[str, Any]:
    """The arguments as the tool means them; ``args`` itself when that is how they were sent.

    A handler may read for itself (``read_arguments``), check (``check_arguments``), or leave it to its schema.
    Raises ToolArgumentsError, or what the handler raises.
    """
    own = getattr(handler, "read_arguments", None)
    if own is not None:
        read: Any = own(args, context, strict=strict)
        return cast("dict[str, Any]", read) if isinstance(read, dict) else args
    check = getattr(handler, "check_arguments", None)
    if check is not None:
        check(args)
        return args
    meant = args if strict or as_sent else mended(spec.parameters, args)
    if meant is not args:
        try:
            validate_arguments(spec, meant)
        except ToolArgumentsError:
            meant = args  # what is told is wrong with what was sent
    validate_arguments(spec, meant)
    return meant
