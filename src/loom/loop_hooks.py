"""The application's functions on a loop agent, called so that none of them can lose what a turn has done.

A hook that watches may fail: that is logged and changes nothing. One that decides ends the turn, named.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from .errors import HookFailed
from .hitl.base import Human
from .kernel.foreign import described, passes
from .requests import Answer, Request
from .types import ChatMessage, ToolCall

logger = logging.getLogger("loom.hooks")

T = TypeVar("T")


async def tell(name: str, hook: Callable[..., Any] | None, *arguments: Any) -> None:
    """Call a hook that watches. What it raises is logged."""
    if hook is None:
        return
    try:
        await _awaited(hook(*arguments))
    except BaseException as error:
        if passes(error):
            raise
        logger.exception("the %s hook %r failed; the turn goes on", name, hook)


async def decide(name: str, hook: Callable[..., Any], *arguments: Any) -> Any:
    """What a hook that decides returned. Raises HookFailed naming it when it raises."""
    try:
        return await _awaited(hook(*arguments))
    except BaseException as error:
        if passes(error):
            raise
        raise _failed(name, error) from error


def wrapped(hook: Callable[[Any], T], event: object) -> T:
    """An event as ``serialize_event`` wants it. Raises HookFailed when that raises."""
    try:
        return hook(event)
    except BaseException as error:
        if passes(error):
            raise
        raise _failed("serialize_event", error) from error


def worded(hook: Callable[[int], Any] | None, count: int, otherwise: str) -> str:
    """The text ``limit_message_builder`` makes; ``otherwise`` when there is none or it cannot."""
    if hook is None:
        return otherwise
    try:
        text = hook(count)
    except Exception:  # the application's; the turn is over and must not be lost for its last words
        logger.exception("the limit_message_builder hook %r failed", hook)
        return otherwise
    if isinstance(text, str):
        return text
    logger.error("the limit_message_builder hook %r returned %s, not text", hook, type(text).__name__)
    return otherwise


async def messages_of(
    name: str, hook: Callable[[list[ChatMessage]], Any] | None, messages: Sequence[ChatMessage]
) -> list[ChatMessage]:
    """The messages a hook wants instead of ``messages``; those when it returns nothing.

    Raises HookFailed when it raises, and when it returns what is no conversation.
    """
    if hook is None:
        return list(messages)
    said = await decide(name, hook, list(messages))
    if said is None:
        return list(messages)
    if not isinstance(said, list | tuple) or not all(isinstance(one, ChatMessage) for one in said):  # pyright: ignore[reportUnknownVariableType]
        raise HookFailed(f"the {name} hook returned {said!r:.200}, which is no list of ChatMessage")
    kept: list[ChatMessage] = list(said)  # pyright: ignore[reportUnknownArgumentType]  # checked above
    return kept or list(messages)


async def model_of(hook: Callable[..., Any], messages: list[ChatMessage]) -> str | None:
    """The model id ``choose_model`` returned. Raises HookFailed when it raises or names none."""
    chosen = await decide("choose_model", hook, messages)
    if chosen is None or isinstance(chosen, str):
        return chosen
    raise HookFailed(f"the choose_model hook returned {chosen!r:.200}, which is no model id")


def editor(
    hook: Callable[[list[ChatMessage]], Any] | None,
) -> Callable[[list[ChatMessage]], Awaitable[Any]] | None:
    """``before_llm_call`` as the kernel wants it."""
    if hook is None:
        return None

    async def edit(messages: list[ChatMessage]) -> list[ChatMessage]:
        return await messages_of("before_llm_call", hook, messages)

    return edit


def tool_watcher(hook: Callable[[ToolCall, str], Any]) -> Callable[..., Any]:
    """``on_tool_result`` as a handler of the kernel's hooks. What it raises is logged in its own name."""

    async def watch(**event: Any) -> None:
        await tell("on_tool_result", hook, ToolCall(event["call_id"], event["name"]), event["result"].text)

    return watch


_NOBODY = "the loop agent"
"""Who refuses when no human did."""


class Present:
    """A human for a turn, which cannot wait: whoever does not answer has said no."""

    def __init__(self, human: Human | None) -> None:
        self._human = human

    async def ask(self, request: Request) -> Answer | None:
        """See Human."""
        if self._human is None:
            return request.deny("nobody is attached who could approve it", by=_NOBODY)
        try:
            answer: Any = await _awaited(self._human.ask(request))
        except BaseException as error:
            if passes(error):
                raise
            logger.exception("request %s could not be put to %r", request.id, self._human)
            return request.deny("the human could not be asked", by=_NOBODY)
        return request.deny("the human gave no answer", by=_NOBODY) if answer is None else answer


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _failed(name: str, error: BaseException) -> HookFailed:
    return HookFailed(f"the {name} hook failed: {described(error)}")
