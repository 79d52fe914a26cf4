"""The part of ``docs/reference.md`` about what one calls: methods, ``@tool``, errors, ``loom.testing``."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
import types
from collections.abc import Iterator
from typing import Any

import msgspec

import loom.errors
import loom.loop
import loom.testing
from loom import Agent, RunResult, ToolContext, tool
from loom.runtime.run import Run
from loom.runtime.session import _SHOWN, Session  # pyright: ignore[reportPrivateUsage]
from loom.runtime.stream import Stream

_OF_AN_AGENT = (
    "run", "run_sync", "stream", "session", "on", "off", "as_tool", "check", "aclose", "hooks", "runtime",
)  # fmt: skip
_OF_A_RUN = (
    "id", "session", "state", "events", "wait", "cancel", "result", "output", "prompt", "created_at", "artifacts",
    "transcript",
)  # fmt: skip
"""What a handle is for; the rest is what its session needs of it."""
_OF_A_STREAM = ("aclose", "run_id", "result")
_PLAIN = {
    ("Session", "closed"): "Whether it was closed.",
    ("Session", "config"): "What it was opened with: a `SessionConfig`.",
    ("Session", "id"): "Its id.",
    ("Session", "metadata"): "What is known about it: plain data.",
    ("Session", "aclose"): "The same as `close`.",
    ("Run", "id"): "The id of the run.",
    ("Run", "session"): "The session it belongs to.",
    ("Run", "state"): "How it stands: a `RunState`.",
}
"""What attributes without a docstring of their own are."""

VERBS: tuple[tuple[type, str, tuple[str, ...] | None], ...] = (
    (Agent, "loom.Agent", _OF_AN_AGENT),
    (Session, "Session", _SHOWN),
    (Run, "Run", _OF_A_RUN),
    (Stream, "Stream", _OF_A_STREAM),
    (RunResult, "loom.RunResult", None),
    (ToolContext, "loom.ToolContext", None),
    (loom.loop.Agent, "loom.loop.Agent", None),
    (loom.loop.AgentTurn, "loom.loop.AgentTurn", None),
)


def render_verbs() -> Iterator[str]:
    """The lines of these sections."""
    yield from _verbs()
    yield from _tool()
    yield from _errors()
    yield from _testing()


def _verbs() -> Iterator[str]:
    yield "## Verbs"
    yield ""
    yield "What the objects can do, each with the first sentence of what its docstring says; `help(...)` says the"
    yield "rest."
    yield ""
    for kind, name, shown in VERBS:
        yield f"### Verbs of {name}"
        yield ""
        fields = _fields(kind)
        yield (inspect.getdoc(kind) or "").replace("``", "`") if fields else first_sentence(kind)
        yield ""
        if fields:
            yield f"Fields: {', '.join(f'`{field}: {_annotation(kind, field)}`' for field in fields)}."
            yield ""
        yield "| name | what |"
        yield "|---|---|"
        for member in shown or public(kind):
            yield f"| `{escaped(_call(kind, member))}` | {_what(kind, member)} |"
        yield ""


def public(kind: type) -> list[str]:
    """The methods and properties without an underscore, the inherited ones of ours included."""
    ours = [base for base in kind.__mro__ if base.__module__.startswith("loom.")]
    names = {name for base in ours for name, value in vars(base).items() if _is_verb(name, value)}
    return sorted(names, key=lambda name: (callable(_found(kind, name)), name))


def _is_verb(name: str, value: object) -> bool:
    return not name.startswith("_") and isinstance(
        value, types.FunctionType | property | classmethod | staticmethod
    )


def _fields(kind: Any) -> list[str]:
    """The fields of what is data, in order."""
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind)]
    else:
        names = [f.name for f in msgspec.structs.fields(kind)] if issubclass(kind, msgspec.Struct) else []
    return [name for name in names if not name.startswith("_")]


def _found(kind: type, name: str) -> Any:
    found: Any = inspect.getattr_static(kind, name, None)
    return found.__func__ if isinstance(found, classmethod | staticmethod) else found  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def _annotation(kind: type, name: str) -> Any:
    return next(
        (
            vars(b)["__annotations__"][name]
            for b in kind.__mro__
            if name in vars(b).get("__annotations__", {})
        ),
        "",
    )


def _call(kind: type, name: str) -> str:
    """How it is written: ``await run(task, *, deps=None)``, or the name and type of what is read."""
    found = _found(kind, name)
    if isinstance(found, property):
        return f"{name}: {ast.unparse(_parsed(found.fget).returns or ast.Constant(None))}"
    if not inspect.isfunction(found):
        return name
    waits = "await " if inspect.iscoroutinefunction(found) else ""
    returns = _parsed(found).returns
    back = "" if returns is None or ast.unparse(returns) == "None" else f" -> {ast.unparse(returns)}"
    return f"{waits}{name}({arguments(found)}){back}"


def arguments(function: Any) -> str:
    """The parameters in the words of the source: defaults as they were written, not what they are here and now."""
    node = _parsed(function)
    if node.args.args[:1] and node.args.args[0].arg in ("self", "cls"):
        del node.args.args[0]
    return ast.unparse(node.args)


def _parsed(function: Any) -> ast.FunctionDef | ast.AsyncFunctionDef:
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    return node


def _what(kind: type, name: str) -> str:
    found = _found(kind, name)
    said = _PLAIN.get((kind.__name__, name))
    if said is None and (isinstance(found, property) or inspect.isfunction(found)):
        said = first_sentence(found)
    assert said is not None, f"nothing is said of {kind.__name__}.{name}"
    return said


def _tool() -> Iterator[str]:
    yield "## Options of `@tool`"
    yield ""
    yield re.sub(r"``", "`", inspect.getdoc(tool) or "")
    yield ""
    yield "| option | default |"
    yield "|---|---|"
    node = _parsed(inspect.unwrap(tool))
    for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        assert argument.annotation is not None and default is not None  # noqa: PT018
        yield f"| `{escaped(argument.arg)}: {escaped(ast.unparse(argument.annotation))}` | `{ast.unparse(default)}` |"
    yield ""


def _errors() -> Iterator[str]:
    yield "## Errors"
    yield ""
    yield "All are in `loom.errors`; the line says what to do."
    yield ""
    yield "```text"
    yield (loom.errors.__doc__ or "").partition("\n\n")[2].strip()
    yield "```"
    yield ""


def _testing() -> Iterator[str]:
    yield "## loom.testing"
    yield ""
    yield "| name | what |"
    yield "|---|---|"
    for name in sorted(loom.testing.__all__):
        thing: Any = getattr(loom.testing, name)
        function: Any = thing if inspect.isfunction(thing) else vars(thing).get("__init__")
        given = arguments(function) if function is not None else ""
        yield f"| `{name}({escaped(given)})` | {first_sentence(thing)} |"
    yield ""
    yield "An item of a script (`ScriptedProvider`, `ModelServer`) is a text, `call(...)`, a list of both, `say(...)`,"
    yield "an exception to be raised, `interrupted(...)`, `stalled(...)`, or a function of `(messages, tools)` that"
    yield "returns one."
    yield ""


def first_sentence(kind: Any) -> str:
    """What its docstring says first."""
    text = re.sub(r"\s+", " ", inspect.getdoc(kind) or "")
    sentence = re.match(r".*?[.](?= |$)", text)
    assert sentence is not None, kind
    return escaped(sentence[0].replace("``", "`"))


def escaped(text: str) -> str:
    """As a cell of a table."""
    return text.replace("|", "\\|")
