"""Validation as the boundary to the application's code, and its errors as faults: real paths, one line per place.

Validators, ``__init__``, ``__post_init__`` and default factories are called in it and may raise anything;
whatever they raise is a fault of what was sent. Imports pydantic.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
from pydantic import ValidationError

from ...errors import ToolError
from ...safety.faults import ABSENT, Fault, join_path, unknown_name
from ...safety.json_kinds import is_array, is_object
from .foreign_errors import told

__all__ = ["Misfit", "Validate", "read_faults", "validated"]

logger = logging.getLogger("loom.tools")

_MAX_READ = 100
_MANY = 1000
"""Wrong values that are counted instead of told one by one: reading them would take longer than the call."""
_MOST_LOOKED_AT = 40
"""Names that are tried one by one to find the one whose validator fails."""


class Validate(Protocol):
    """``validate_json`` of a pydantic validator."""

    def __call__(self, data: str | bytes, /, *, strict: bool | None = None, context: Any = None) -> Any:
        """Raise ValidationError, or whatever the application's validators raise."""
        ...


class Misfit(Exception):
    """What was sent does not fit; ``faults`` say where and why."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(f"{len(faults)} fault(s)")
        self.faults = faults


def validated(
    validate: Validate, text: str | bytes, sent: object, names: Sequence[str], context: object = None
) -> Any:
    """The value of JSON ``text``, which says ``sent``. ``names`` are the valid ones at its top.

    Raises Misfit for what does not fit and for whatever a validator raises; a ToolError passes, since it is
    raised to choose the text the model reads, and so does the interrupt of the terminal.
    """
    try:
        return validate(text, context=context)
    except (KeyboardInterrupt, ToolError):
        raise
    except ValidationError as error:
        faults = _faults_of(error, sent, names)
    except BaseException as error:  # nothing here is awaited, so even a cancellation is the validator's own
        logger.warning("a validator failed", exc_info=True)
        faults = _located(validate, sent, context) or [_raised((), error, sent)]
    # Raised here, not above: what a validator said may hold a secret, and the cause of an error is kept with it.
    raise Misfit(faults)


def _faults_of(error: ValidationError, sent: object, names: Sequence[str]) -> list[Fault]:
    if (count := error.error_count()) > _MANY:
        return [Fault("", f"has {count} wrong values")]
    return read_faults(error, sent, names)


def _located(validate: Validate, sent: object, context: object) -> list[Fault]:
    """The faults of the values that make a validator raise, found by validating one at a time."""
    if not is_object(sent) or len(sent) > _MOST_LOOKED_AT:
        return []
    found: list[Fault] = []
    for name, value in sent.items():
        try:
            validate(msgspec.json.encode({name: value}), context=context)
        except (KeyboardInterrupt, ToolError):
            raise
        except ValidationError:  # the others are missing, of course
            continue
        except BaseException as own:
            found.append(_raised((str(name),), own, value))
    return found


def _raised(path: tuple[str, ...], error: BaseException, value: object) -> Fault:
    return Fault(join_path(path), f"cannot be used: {told(error)}", value if path else ABSENT)


def read_faults(error: ValidationError, sent: object, names: Sequence[str]) -> list[Fault]:
    """The faults of an error about ``sent``. ``names`` are the valid names at the top, to suggest from.

    The branches of a union fail at one place each; they are joined into one fault.
    """
    problems: dict[str, list[str]] = {}
    values: dict[str, object] = {}
    for detail in error.errors(include_url=False, include_context=False, include_input=False)[:_MAX_READ]:
        kind = detail["type"]
        path, value, found = _locate(detail["loc"], sent, ends_in_key=kind in ("missing", "extra_forbidden"))
        where = join_path(path)
        if kind == "missing":
            problem, value = "is required but missing", ABSENT
        elif kind in ("extra_forbidden", "unexpected_keyword_argument"):
            problem, value = unknown_name(str(path[-1]), names if len(path) == 1 else ()), ABSENT
        else:
            problem = _reworded(detail["msg"])
            value = value if found else ABSENT
        if problem not in problems.setdefault(where, []):
            problems[where].append(problem)
        values.setdefault(where, value)
    return [Fault(where, ", or ".join(texts), values[where]) for where, texts in problems.items()]


def _locate(
    loc: tuple[int | str, ...], sent: object, *, ends_in_key: bool
) -> tuple[list[str | int], object, bool]:
    """Follow a location through what was sent; parts that lead nowhere are pydantic's labels of branches."""
    path: list[str | int] = []
    here: Any = sent
    for index, part in enumerate(loc):
        if ends_in_key and index == len(loc) - 1:
            path.append(part)
        elif _leads_on(here, part):
            here = here[part]
            path.append(part)
    return path, here, bool(path) or not loc


def _leads_on(here: object, part: int | str) -> bool:
    if is_object(here):
        return part in here
    return is_array(here) and isinstance(part, int) and part < len(here)


def _reworded(message: str) -> str:
    for opening in ("Input ", "Value error, ", "Assertion failed, "):
        if message.startswith(opening):
            return message[len(opening) :]
    return message[:1].lower() + message[1:]
