"""Asking the model: the gates before it, the deltas as they come, the one reply at the end.

The only place in the package where a model is called.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from ..errors import LoomError, MalformedReplyError, ProviderError
from ..events import (
    ErrorRaised,
    Event,
    LimitReached,
    ModelReplied,
    ModelRequested,
    ModelRetried,
    PartialOutput,
    ReplyCut,
    RequestOpened,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolRequested,
)
from ..folds.state import State
from ..llm.base import (
    GOAL,
    RETRIED,
    ContentDeltaEvent,
    ProviderEvent,
    ReplyBuilder,
    Retried,
    ThinkingDeltaEvent,
    ToolCallDeltaEvent,
    close_stream,
)
from ..requests import Request
from ..safety.display import encodable
from ..safety.hooks import HookDecision
from ..types import ChatMessage, ChatResponse, ErrorInfo
from .engine import Scope
from .foreign import described, passes
from .metering import spent_in_vain, spent_on_cut, spent_on_reply
from .reply import sound_reply
from .steps import PRICE_UNKNOWN
from .window import render

if TYPE_CHECKING:
    from ..safety.partial_json import PartialJSON


async def ask_model(scope: Scope, state: State, step: object) -> AsyncGenerator[Event | list[Event], None]:
    """Pass the gates, ask, and yield deltas and then the reply with the calls it makes."""
    messages: Sequence[ChatMessage] = render(scope.engine, state)
    if any(scope.gatekeepers):
        refusal, edited = await _gates(scope, state, messages)
        if refusal is not None:
            yield [refusal]
            return
        messages = edited
    if (stopped := _held_back(scope)) is not None:
        yield [stopped]
        return
    iteration, asked_at = state.iterations + 1, scope.engine.pace()
    yield ModelRequested(iteration=iteration, messages=len(messages))
    response: ChatResponse | None = None
    said: list[ProviderEvent] = []
    retried: list[Retried] = []
    RETRIED.set(retried)
    GOAL.set(state.goal)
    try:
        if scope.engine.edit_messages is not None:
            edit = scope.engine.edit_messages(list(messages))
            wanted: Sequence[ChatMessage] | None = await scope.patience.with_(
                edit, "the before_llm_call hook"
            )
            messages = wanted or messages
        if scope.streaming:
            growing = _growing(scope)
            async with _closing(scope.provider.chat_stream(messages, **_options(scope))) as stream:
                async for event in _patiently(scope, stream):
                    if retried:
                        yield _told_retries(retried, iteration)
                    if isinstance(event, ChatResponse):
                        response = event
                        continue
                    said.append(event)
                    if isinstance(event, ContentDeltaEvent):
                        yield TextDelta(text=event.delta)
                        if growing is not None and growing.feed(event.delta):
                            yield PartialOutput(value=growing.value)
                    elif (told := _told(event)) is not None:
                        yield told
            response = response or _put_together(said, scope.engine.model or "")
        else:
            asked = scope.provider.chat(messages, **_options(scope))
            response = await scope.patience.with_(asked, "the model service")
    except LoomError as error:
        yield [*_told_retries(retried, iteration), *_failed(scope, messages, said, error, iteration)]
        return
    except BaseException as error:
        if isinstance(error, GeneratorExit) or passes(error):
            scope.cut = spent_on_cut(scope, messages, said, iteration)
            raise
        failure = ProviderError(f"the provider failed: {described(error)}")
        failure.__cause__ = error
        yield [*_told_retries(retried, iteration), *_failed(scope, messages, said, failure, iteration)]
        return
    yield [
        *_told_retries(retried, iteration),
        *_replied(scope, messages, response, iteration, asked_at),
    ]


def _told_retries(retried: list[Retried], iteration: int) -> list[Event]:
    """What the provider told of its retries since the last time, as events."""
    events: list[Event] = [
        ModelRetried(iteration=iteration, attempt=one.attempt, delay=round(one.delay, 3), error=one.error)
        for one in retried
    ]
    retried.clear()
    return events


def _patiently(scope: Scope, stream: AsyncIterator[ProviderEvent]) -> AsyncIterator[ProviderEvent]:
    """The stream; one of a service's client that may not stop when it is told to is had patience with."""
    if getattr(scope.provider, "heeds_cancel", False):
        return stream
    return scope.patience.each(stream, "the model service")


def _failed(
    scope: Scope,
    messages: Sequence[ChatMessage],
    said: Sequence[ProviderEvent],
    error: LoomError,
    iteration: int,
) -> list[Event]:
    """The failure of a model call, and before it what the model had written by then, if it made sense."""
    written = () if isinstance(error, MalformedReplyError) else said
    text = "".join(event.delta for event in written if isinstance(event, ContentDeltaEvent))
    cut: list[Event] = [ReplyCut(iteration=iteration, text=encodable(text))] if text else []
    return [*cut, spent_in_vain(scope, messages, said, error)]


def _held_back(scope: Scope) -> Event | None:
    """Set the model call aside in the budget, or say why it may not be made."""
    if scope.budget.blind_to(scope.engine.unpriced):
        return ErrorRaised(error=PRICE_UNKNOWN)
    if (stop := scope.budget.reserve(iterations=1)) is not None:
        return LimitReached(
            limit=stop.limit, allowed=stop.allowed, spent=stop.spent, estimated=stop.estimated
        )
    return None


def _options(scope: Scope) -> dict[str, Any]:
    engine = scope.engine
    options: dict[str, Any] = {"tools": engine.tools.specs() or None, "model": engine.model}
    if engine.settings is not None:
        options["settings"] = engine.settings
    return options


def _growing(scope: Scope) -> PartialJSON | None:
    """What shows the typed output while it grows, when there is one that can be shown."""
    gate = scope.engine.output_gate
    if gate is None or not gate.opening:
        return None
    from ..safety.partial_json import PartialJSON  # most runs never need it

    return PartialJSON(gate.opening)


@asynccontextmanager
async def _closing(
    stream: AsyncIterator[ProviderEvent],
) -> AsyncGenerator[AsyncIterator[ProviderEvent], None]:
    """A provider's stream, closed at the end if it can be: any iterator will do."""
    try:
        yield stream
    finally:
        await close_stream(stream)


def _put_together(said: list[ProviderEvent], model: str) -> ChatResponse:
    """The reply that a stream amounts to, for a provider that does not say it itself."""
    builder = ReplyBuilder(model)
    for event in said:
        builder.add(event)
    return builder.build()


def _told(event: ProviderEvent) -> Event | None:
    """A delta of a provider as one of ours."""
    if isinstance(event, ToolCallDeltaEvent):
        return ToolCallDelta(
            index=event.index, call_id=event.id, name=event.name, arguments=event.arguments_delta or ""
        )
    if isinstance(event, ThinkingDeltaEvent) and event.delta:
        return ThinkingDelta(text=event.delta)
    return None


def _replied(
    scope: Scope,
    messages: Sequence[ChatMessage],
    response: ChatResponse | None,
    iteration: int,
    asked_at: float,
) -> list[Event]:
    try:
        reply = sound_reply(response, iteration)
    except MalformedReplyError as error:
        return [spent_in_vain(scope, messages, (), error)]
    spent = spent_on_reply(scope, messages, reply)
    replied = ModelReplied(
        iteration=iteration,
        message=reply.message,
        usage=spent.usage,
        stop_reason=reply.stop_reason,
        model=reply.model or scope.engine.model or "",
        cost=spent.cost,
        duration_ms=int((scope.engine.pace() - asked_at) * 1000),
        attempts=spent.attempts if any(attempt.error for attempt in spent.attempts) else (),
        estimated_cost=spent.estimated_cost,
    )
    scope.budget.charge(usage=spent.total, cost=spent.estimated_cost if spent.cost is None else spent.cost)
    return [
        replied,
        *(
            ToolRequested(call_id=call.id, name=call.name, arguments=call.arguments, iteration=iteration)
            for call in reply.message.tool_calls or ()
        ),
    ]


async def _gates(
    scope: Scope, state: State, messages: Sequence[ChatMessage]
) -> tuple[Event | None, Sequence[ChatMessage]]:
    """Ask ``before_run`` (once, before the first call) and ``before_llm``: what stops the run, the messages.

    Those of the runs above are asked too.
    """
    names = ("before_run", "before_llm") if state.iterations == 0 else ("before_llm",)
    for name in names:
        for above, hooks in enumerate(scope.gatekeepers):
            payload = _gate_payload(name, scope, state, messages)
            gate = hooks.gate(name, payload, argument_key="messages")
            outcome = await scope.patience.with_(gate, f"a {name} hook")
            origin = f"{name}:{state.iterations}:{above}" if above else f"{name}:{state.iterations}"
            if outcome.decision is HookDecision.DENY:
                said = encodable(str(outcome.message or "no reason given"))
                error = ErrorInfo("denied", f"a {name} hook refused: {said}")
                return ErrorRaised(error=error), messages
            if outcome.decision is HookDecision.ASK and origin not in state.cleared:
                return RequestOpened(request=_gate_request(scope, state, origin, outcome.message)), messages
            edited: Any = outcome.arguments
            if edited is not None:
                if (fault := _no_messages(edited)) is not None:
                    return ErrorRaised(error=ErrorInfo("hook_error", f"a {name} hook {fault}")), messages
                messages = edited
    return None, messages


def _no_messages(edited: Any) -> str | None:
    """Why what a hook gives as messages are none."""
    if isinstance(edited, list | tuple) and all(isinstance(one, ChatMessage) for one in edited):  # pyright: ignore[reportUnknownVariableType]  # foreign
        return None
    return f"gave {edited!r:.200} as messages, which is no list of ChatMessage"


def _gate_payload(name: str, scope: Scope, state: State, messages: Sequence[ChatMessage]) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "run_id": state.run_id,
        "session_id": state.session_id,
        "prompt": state.goal,
        "context": scope.context,
    }
    if name == "before_llm":
        request = {"messages": messages, "model": scope.engine.model, "tools": scope.engine.tools.specs()}
        scope.asked = {"request": request, "iteration": state.iterations + 1, "stream": scope.streaming}
        payload |= {**scope.asked, "messages": messages}
    return payload


def _gate_request(scope: Scope, state: State, origin: str, message: str) -> Request:
    seed = f"{state.run_id}:{origin}".encode()
    return Request(
        id=f"req_{hashlib.sha256(seed).hexdigest()[:20]}",
        kind="approval",
        prompt=encodable(str(message or f"Go on? ({origin})")),
        run_id=state.run_id,
        session_id=state.session_id,
        opened_at=scope.engine.clock(),
        origin=origin,
    )
