"""A conversation as services take it: every call followed by its one result, and no result without its call.

Whoever edits, cuts or joins histories may break that, and then a service refuses the conversation for ever. What
was said stays: a result nobody asked for becomes a text, and a call nobody answered gets a result that says so.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..types import ChatMessage, Part, Role, TextPart

NO_RESULT = "No result was recorded for this call."


def repaired(messages: Sequence[ChatMessage]) -> Sequence[ChatMessage]:
    """``messages`` such that all services take them; the very same when nothing is wrong with them."""
    return messages if _is_sound(messages) else _repair(messages)


def _is_sound(messages: Sequence[ChatMessage]) -> bool:
    waiting: list[str] = []
    for message in messages:
        if message.role is Role.TOOL:
            named = message.tool_call_id or ""
            if named not in waiting:
                return False
            waiting.remove(named)
            continue
        if waiting:
            return False
        if message.tool_calls and message.role is Role.ASSISTANT:
            waiting = [call.id for call in message.tool_calls]
    return not waiting


def _repair(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    told: list[ChatMessage] = []
    answers = _answers(messages)
    used = {id(result) for results in answers for result in results if result is not None}
    for message, results in zip(messages, answers, strict=True):
        if message.role is Role.TOOL:
            if id(message) not in used:
                told.append(_as_text(message))
            continue
        told.append(message)
        for call, result in zip(message.tool_calls or (), results, strict=False):
            told.append(
                result
                or ChatMessage(Role.TOOL, NO_RESULT, tool_call_id=call.id, name=call.name, is_error=True)
            )
    return told


def _answers(messages: Sequence[ChatMessage]) -> list[list[ChatMessage | None]]:
    """For every message the results of its calls: the first of each id that comes before the id is used again."""
    answers: list[list[ChatMessage | None]] = []
    open_calls: dict[str, tuple[int, int]] = {}
    for at, message in enumerate(messages):
        calls = message.tool_calls or () if message.role is Role.ASSISTANT else ()
        answers.append([None] * len(calls))
        open_calls.update({call.id: (at, place) for place, call in enumerate(calls)})
        asked = open_calls.pop(message.tool_call_id or "", None) if message.role is Role.TOOL else None
        if asked is not None:
            answers[asked[0]][asked[1]] = message
    return answers


def _as_text(result: ChatMessage) -> ChatMessage:
    """A result without its call, as something the user says."""
    heading = f"[Result of an earlier call{f' of {result.name}' if result.name else ''}]"
    content = result.content
    parts: tuple[Part, ...] = (TextPart(content),) if isinstance(content, str) else tuple(content or ())
    return ChatMessage(Role.USER, (TextPart(heading), *parts))
