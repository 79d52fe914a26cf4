"""``docs/reference.md``: hooks, events, settings and verbs, written from the code so that it cannot drift.

``python tests/reference_page.py`` writes the page; ``make format`` does. ``test_reference.py`` compares.
"""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec

from loom import Agent, Generation, GovernancePolicy, Model, Runtime, RuntimeLimits, SessionConfig, tool
from loom.agent import _AgentOptions  # pyright: ignore[reportPrivateUsage]
from loom.events import AnyEvent, ErrorRaised, ModelReplied, ToolFinished
from loom.kernel.hooks import _ALIASES, _PRINTED, GATES, NAMES  # pyright: ignore[reportPrivateUsage]
from loom.loop import AgentConfig
from loom.loop_events import TurnEvent
from loom.policies.restore import SessionRestorePolicy
from loom.testing import ScriptedProvider, call
from reference_verbs import first_sentence, render_verbs

PAGE = Path(__file__).parent.parent / "docs" / "reference.md"

_WHEN = {
    "before_run": "before the first model call of a run",
    "before_llm": "before each model call; `arguments` of an outcome replace `messages`",
    "before_tool": "before each tool call; `arguments` of an outcome replace the call's",
    "after_llm": "when a whole reply is there",
    "after_tool": "when a call has its result",
    "run_error": "when something has failed that ends the run",
    "after_run": "when a run has ended; `result` is its `RunResult`",
    "on_context_compact": "not yet: once agents have a context policy",
    "context_renewed": "not yet: once agents have a context policy",
    "signal_received": "not yet: once agents have an attention policy",
    "signal_decided": "not yet: once agents have an attention policy",
    "*": "at everything above and below; `event_name` says which",
}

SETTINGS = (Agent, Runtime, RuntimeLimits, GovernancePolicy, Model, Generation, SessionConfig,
            SessionRestorePolicy, AgentConfig)  # fmt: skip


def render() -> str:
    """The page."""
    return "\n".join([*_head(), *_hooks(), *_events(), *_turn_events(), *_settings(), *render_verbs()])


def _head() -> Iterator[str]:
    yield "# Reference"
    yield ""
    yield "Hooks, events, settings, methods and errors, written from the code by `make format`. What they are for is"
    yield "said in the docstrings, and in the other pages: rules and vetoes in [governance](governance.md), models in"
    yield "[models](models.md), everyday use in the [guide](guide.md)."
    yield ""


# --- hooks ------------------------------------------------------------------------------------------------


def _hooks() -> Iterator[str]:
    seen = asyncio.run(_keywords())
    words = {kind.type for kind in get_args(AnyEvent)}
    yield "## Hooks"
    yield ""
    yield "`agent.on(name, handler)` calls `handler(**keywords)`; every handler also gets `event_name`. A gate may"
    yield "return a `HookOutcome` or its word to deny, ask or edit, and denies when it raises: it takes `**kw`, since"
    yield "one that cannot be called with all its keywords denies every call. All others watch: what they return or"
    yield "raise changes nothing."
    yield ""
    yield "| name | what | when | keywords |"
    yield "|---|---|---|---|"
    for name in [*_WHEN, *sorted(NAMES - words - set(_WHEN))]:
        what = "gate" if name in GATES else f"alias of `{_ALIASES[name]}`" if name in _ALIASES else "watcher"
        kinds = seen.get(_ALIASES.get(name, name), {})
        keywords = ", ".join(f"`{key}: {_type(kind)}`" for key, kind in sorted(kinds.items()))
        assert keywords or name == "*" or name in _PRINTED or _ALIASES.get(name) in _PRINTED, name
        yield f"| `{name}` | {what} | {_WHEN.get(name, '')} | {keywords} |"
    yield ""
    yield "Each `type` of the events below is a name too: a watcher whose keywords are the event's own fields, with"
    yield "`run_id` and `session_id`."
    yield ""


async def _keywords() -> dict[str, dict[str, str]]:
    """What handlers get and of which type, as seen in runs that make each of them be called."""

    @tool(read_only=True)
    def look() -> str:
        """Look."""
        return "seen"

    seen: dict[str, dict[str, str]] = {}

    def note(**payload: Any) -> None:
        name = payload.pop("event_name")
        said = _FIELDS.get(name, {})
        seen[name] = {key: said.get(key) or _kind(value) for key, value in payload.items()}

    for script in ([call("look"), "done"], [RuntimeError("down")]):
        agent = Agent(model=ScriptedProvider(script), tools=[look])
        agent.on("*", note)
        await agent.run("go")
    return seen


_FIELDS = {
    name: dict[str, str](kind.__annotations__)
    for name, kind in (("after_llm", ModelReplied), ("after_tool", ToolFinished), ("run_error", ErrorRaised))
} | {"before_tool": {"arguments": "dict[str, Any]"}}
"""What events say of the keywords that are their fields, and what cannot be seen in a sample."""
_FIELDS["after_tool"]["result"] = "str"


def _kind(value: object) -> str:
    """The type of a keyword, from a sample."""
    if value is None or isinstance(value, str):
        return "None" if value is None else "str"
    if isinstance(value, list | tuple) and value:
        return f"{type(value).__name__}[{type(value[0]).__name__}]"  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return type(value).__name__


# --- events -----------------------------------------------------------------------------------------------


def _events() -> Iterator[str]:
    yield "## Events"
    yield ""
    yield "What `agent.stream`, `run.events()` and `result.events` hold: `AnyEvent`. Each has `type`, `run_id`,"
    yield "`session_id`, `seq`, `at` (Unix seconds), `ts` (UTC), `id`, and `payload`, its own fields as plain JSON"
    yield "data. Kept events are in the log before you see them; the others are seen by those who are there, and"
    yield "carry the `seq` of the last kept one: `run.events(after=seq)` reads on from any of them."
    yield ""
    yield from _table(get_args(AnyEvent), kept=True)


def _turn_events() -> Iterator[str]:
    yield "## Events of a loop agent"
    yield ""
    yield "What `loom.loop.Agent.run_turn_stream` yields: `TurnEvent`."
    yield ""
    yield from _table(get_args(TurnEvent), kept=False)


def _table(kinds: tuple[Any, ...], *, kept: bool) -> Iterator[str]:
    yield "| `type` | class | kept | what | fields |" if kept else "| `type` | class | what | fields |"
    yield "|---|---|---|---|---|" if kept else "|---|---|---|---|"
    for kind in kinds:
        own = kind.__annotations__
        fields = [field for field in msgspec.structs.fields(kind) if field.name in own]
        cells = [f"`{kind.type}`", f"`{kind.__name__}`"]
        cells += [("yes" if kind.durable else "no")] if kept else []
        cells += [first_sentence(kind), ", ".join(f"`{f.name}: {_type(own[f.name])}`" for f in fields)]
        yield f"| {' | '.join(cells)} |"
    yield ""


# --- settings ---------------------------------------------------------------------------------------------


def _settings() -> Iterator[str]:
    yield "## Settings"
    yield ""
    yield "What each takes, and what it is when nothing is said."
    yield ""
    for kind in SETTINGS:
        name = "loom.loop.AgentConfig" if kind is AgentConfig else kind.__name__
        yield f"### {name}"
        yield ""
        yield _whole_docstring(kind)
        yield ""
        yield "| setting | type | default |"
        yield "|---|---|---|"
        for setting, annotation, default in _parameters(kind):
            yield f"| `{setting}` | `{_type(annotation)}` | {default} |"
        yield ""


def _parameters(kind: Any) -> Iterator[tuple[str, str, str]]:
    if kind is Agent:
        types = {**_AgentOptions.__annotations__, "output_type": "TypeForm[OutputT] | None"}
        for name, parameter in inspect.signature(Agent.__init__).parameters.items():
            if name != "self":
                yield name, _source(types.get(name, parameter.annotation)), f"`{parameter.default!r}`"
        return
    for field in dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else msgspec.structs.fields(kind):
        yield field.name, _annotation(kind, field.name), _default(field.default, field.default_factory)


def _annotation(kind: type, name: str) -> str:
    """What a class says of a field, in the words it was written in."""
    own = next(
        vars(base)["__annotations__"]
        for base in kind.__mro__
        if name in vars(base).get("__annotations__", {})
    )
    return _source(own[name])


def _default(value: Any, factory: Any) -> str:
    missing = (dataclasses.MISSING, msgspec.NODEFAULT)
    if value not in missing:
        return f"`{type(value).__name__}(...)`" if dataclasses.is_dataclass(value) else f"`{_shown(value)}`"
    if factory in missing:
        return "required"
    made = factory()
    if made == SessionRestorePolicy.everything():
        return "`SessionRestorePolicy.everything()`"
    return f"`{made!r}`" if isinstance(made, dict | list | tuple) else f"`{type(made).__name__}(...)`"


def _shown(value: Any) -> str:
    return repr(str(value)) if isinstance(value, str) else repr(value)


def _source(annotation: Any) -> str:
    return (
        annotation if isinstance(annotation, str) else getattr(annotation, "__forward_arg__", str(annotation))
    )


def _type(annotation: str) -> str:
    return annotation.replace("|", "\\|")


def _whole_docstring(kind: Any) -> str:
    """All that is said of a class, but for its examples."""
    said = (inspect.getdoc(kind) or "").partition("\n>>>")[0].strip()
    return said.replace("``", "`")


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
