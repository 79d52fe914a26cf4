"""What the offline model says of itself, and how it reports a call it was told to make."""

from __future__ import annotations

from collections.abc import Sequence

from ...types import to_json
from .conversation import Exchange
from .quoting import block, code, plain

WHO = "I am Loom's embedded offline model: a set of rules, not a language model."
CONNECT = (
    "To connect a real model: set a key such as `ANTHROPIC_API_KEY` or `OPENAI_API_KEY`, or run a local "
    'Ollama, or pass `model="provider:name"` to the agent.'
)
_CAN = (
    "I can summarise a repository when I am offered file tools (`List`, `Glob`, `Read`), quoting what they "
    "return, and I can call one offered tool when the task is written like "
    '`call <tool> {"argument": "value"}`. '
    "I cannot reason, write code, answer questions or hold a conversation."
)
_MOST_NAMES = 20
_MOST_RESULT = 4_000


def introduction(names: Sequence[str], *, survey: bool = False) -> str:
    """What is said of a task it cannot do; ``survey`` when it could, given file tools."""
    why = (
        "I have not done this task: summarising a repository needs file tools (`List`, `Glob` or `Read`), "
        "and none that I can use is offered. Grant them, for example with `Files(read_only=True)`."
        if survey
        else "I have not done this task; it is not one I can do."
    )
    return " ".join([WHO, why, _CAN, _tools(names), CONNECT])


def no_schema(names: Sequence[str]) -> str:
    """What is said when structured output is asked for."""
    why = "I have not done this task: it asks for structured output, and I cannot fill a schema with meaning."
    return " ".join([WHO, why, _CAN, _tools(names), CONNECT])


def remote_repository(url: str) -> str:
    """What is said when the repository is not a folder."""
    why = (
        f"I have not done this task: it names {code(url)}, and I only read local folders through file tools."
    )
    return " ".join([WHO, why, "Clone it and ask again with its folder as the root.", CONNECT])


def not_callable(name: str, problem: str, names: Sequence[str]) -> str:
    """What is said when a call it was told to make cannot be made."""
    return " ".join([WHO, f"I did not call {code(name)}: {problem}.", _tools(names), CONNECT])


def blind(failures: Sequence[Exchange]) -> str:
    """What is said when every look at the folder failed."""
    said = f" The first of {len(failures)} calls said: {plain(failures[0].text, 300)}" if failures else ""
    return f"{WHO} I have not done this task: I could not look at the folder.{said} {CONNECT}"


def call_failed(exchange: Exchange) -> str:
    """What is said when the call it was told to make failed: that was the whole task."""
    return f"{WHO} I asked for {_call(exchange)} and it failed: {plain(exchange.text, 1_000)}"


def call_report(exchange: Exchange) -> str:
    """What came back from the call it was told to make."""
    return "\n\n".join(
        [
            f"{WHO} I called {_call(exchange)}, as the task says, and it returned:",
            block(exchange.text, _MOST_RESULT),
            "I did nothing else. " + CONNECT,
        ]
    )


def _call(exchange: Exchange) -> str:
    return f"{code(exchange.name)} with {code(to_json(exchange.arguments), 300)}"


def _tools(names: Sequence[str]) -> str:
    if not names:
        return "No tools are offered to me here."
    shown = ", ".join(code(name, 60) for name in names[:_MOST_NAMES])
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"Tools offered to me here: {shown}{more}."
