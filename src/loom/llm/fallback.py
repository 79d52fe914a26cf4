"""One model after another: when the first cannot answer, the next is asked the same.

Knows the port and nothing else, so any provider will do, a live one as well as one of another application.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from ..errors import ConfigError, InvalidRequestError, LoomError, MalformedReplyError, ProviderError
from ..types import Attempt, ChatMessage, ChatResponse, ToolSpec, Usage, describe_error
from .base import (
    LLMProvider,
    ModelSettings,
    ProviderEvent,
    ReplyBuilder,
    StopEvent,
    UsageEvent,
    as_provider,
    close_stream,
    kind_of,
    secrets_of,
)

MAX_TOLD_CHARS = 300
"""How much of an earlier failure is told in the text of the last one."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that can be asked: its provider, and the service's own name for it (None: the provider's default).

    ``label`` is what attempts call it; empty is that name, or what else is known.
    """

    provider: LLMProvider
    model: str | None = None
    label: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "provider", as_provider(self.provider))

    @property
    def name(self) -> str:
        """What attempts call it."""
        default = getattr(self.provider, "default_model", None)
        given = self.label or self.model or (default if isinstance(default, str) else "")
        return given or kind_of(self.provider)


class FallbackProvider(LLMProvider):
    """Asks its candidates in order until one answers.

    An error of a class in ``on`` sends the request on to the next candidate; any other goes up. An
    InvalidRequestError does so only when ``on`` names it itself, since what one service refuses as it stands the
    next one mostly refuses too. What is no LoomError counts as ProviderError. A stream is handed over only while
    the caller has been shown nothing of it.

    Every candidate is asked for its own model: ``model`` of a call is not passed on. Replies carry their
    ``attempts``. When nobody has answered, the last error is raised, its text and ``attempts`` telling of the
    others. ``clock`` measures the attempts, in seconds. Raises ConfigError without candidates.
    """

    def __init__(
        self,
        candidates: Sequence[LLMProvider | Candidate],
        *,
        on: Sequence[type[Exception]] = (ProviderError,),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.candidates = tuple(
            given if isinstance(given, Candidate) else Candidate(given) for given in candidates
        )
        if not self.candidates:
            raise ConfigError("a FallbackProvider needs at least one provider")
        self.on = tuple(on)
        self.clock = clock

    async def chat(
        self,
        messages: Sequence[ChatMessage],
        *,
        tools: Sequence[ToolSpec] | None = None,
        model: str | None = None,
        settings: ModelSettings | None = None,
    ) -> ChatResponse:
        """The reply of the first candidate that answers. Raises as that of the last one does."""
        trail = _Trail(self)
        while True:
            candidate = trail.next()
            try:
                response = await candidate.provider.chat(messages, **_options(candidate, tools, settings))
                return trail.answered(response)
            except BaseException as error:  # providers are foreign code: whatever they raise is their failure
                if _is_of_the_caller(error):
                    raise
                final = trail.failed(error)
                if final is not None:
                    raise final from final.__cause__

    async def chat_stream(
        self,
        messages: Sequence[ChatMessage],
        *,
        tools: Sequence[ToolSpec] | None = None,
        model: str | None = None,
        settings: ModelSettings | None = None,
    ) -> AsyncGenerator[ProviderEvent, None]:
        """The stream of the first candidate that answers, the whole ``ChatResponse`` last."""
        trail = _Trail(self)
        while True:
            candidate = trail.next()
            said: list[ProviderEvent] = []
            whole: ChatResponse | None = None
            shown = False
            stream = candidate.provider.chat_stream(messages, **_options(candidate, tools, settings))
            try:
                async for event in stream:
                    if isinstance(event, ChatResponse):
                        whole = event
                        continue
                    said.append(event)
                    if shown:
                        yield event
                    elif not isinstance(event, UsageEvent | StopEvent):
                        # What only counts shows nothing yet: until here another model could have taken over.
                        shown = True
                        for held in said:
                            yield held
                response = trail.answered(whole or _put_together(said, candidate))
            except BaseException as error:  # as above; GeneratorExit is how a caller leaves a stream
                if isinstance(error, GeneratorExit) or _is_of_the_caller(error):
                    raise
                final = trail.failed(error, said, over=shown)
                if final is not None:
                    raise final from final.__cause__
                continue
            finally:
                await close_stream(stream)
            for held in () if shown else said:
                yield held
            yield response
            return

    def secrets(self) -> list[str]:
        """Those of all candidates."""
        return [secret for candidate in self.candidates for secret in secrets_of(candidate.provider)]

    async def aclose(self) -> None:
        """Close every candidate's provider, also when one of them fails to."""
        async with AsyncExitStack() as stack:
            for candidate in self.candidates:
                if hasattr(candidate.provider, "aclose"):  # the port lets a provider go without
                    stack.push_async_callback(candidate.provider.aclose)

    def __repr__(self) -> str:
        return f"<FallbackProvider {', '.join(candidate.name for candidate in self.candidates)}>"


class KeylessProvider(LLMProvider):
    """A model that cannot be asked, because its key was not there: says so each time, and leaves it to the next."""

    def __init__(self, error: LoomError) -> None:
        self.error = error

    async def chat(
        self,
        messages: Sequence[ChatMessage],
        *,
        tools: Sequence[ToolSpec] | None = None,
        model: str | None = None,
        settings: ModelSettings | None = None,
    ) -> ChatResponse:
        """Raises that error."""
        raise self.error.with_traceback(None)  # one error raised often must not collect where


def goes_on(error: BaseException, on: Sequence[type[Exception]]) -> bool:
    """Whether ``error`` of one model sends the request on to the next."""
    kinds = [kind for kind in on if isinstance(error, kind)]
    if isinstance(error, InvalidRequestError):
        return any(issubclass(kind, InvalidRequestError) for kind in kinds)
    return bool(kinds) or (not isinstance(error, LoomError) and ProviderError in on)


class _Trail:
    """One request on its way from candidate to candidate: who was asked, and what came of it."""

    def __init__(self, provider: FallbackProvider) -> None:
        self._left = list(provider.candidates)
        self._on = provider.on
        self._clock = provider.clock
        self._asked = self._left[0]
        self._since = 0.0
        self._attempts: tuple[Attempt, ...] = ()

    def next(self) -> Candidate:
        self._asked = self._left.pop(0)
        self._since = self._clock()
        return self._asked

    def answered(self, response: Any) -> ChatResponse:
        """``response`` with the attempts it took. Raises MalformedReplyError for what is no reply."""
        if not isinstance(response, ChatResponse):
            raise MalformedReplyError(
                f"{self._asked.name} returned {type(response).__name__}, which is no reply"
            )
        own = tuple(response.attempts or ()) or (self._attempt(usage=response.usage),)
        model = response.model or self._asked.model or self._asked.name
        return replace(response, model=model, attempts=(*self._attempts, *own))

    def failed(
        self, error: BaseException, said: Sequence[ProviderEvent] = (), *, over: bool = False
    ) -> Exception | None:
        """Note the failure. None when the next candidate is to be asked, else the error to raise."""
        before = self._attempts
        known = _as_ours(error)
        begun = over or isinstance(known, MalformedReplyError)
        counted = (event.usage for event in reversed(said) if isinstance(event, UsageEvent))
        usage = next(counted, None if begun else Usage())
        own = known.attempts or (replace(self._attempt(usage=usage), error=known.info()),)
        self._attempts = (*before, *own)
        if self._left and not over and goes_on(error, self._on):
            return None
        if isinstance(error, Exception) and error is not known and not before:
            return error
        return _telling(known, before, self._attempts)

    def _attempt(self, *, usage: Usage | None) -> Attempt:
        return Attempt(self._asked.name, usage=usage, duration=self._clock() - self._since)


def _options(
    candidate: Candidate, tools: Sequence[ToolSpec] | None, settings: ModelSettings | None
) -> dict[str, Any]:
    options: dict[str, Any] = {"tools": tools, "model": candidate.model}
    if settings is not None:
        options["settings"] = settings
    return options


def _put_together(said: Sequence[ProviderEvent], candidate: Candidate) -> ChatResponse | None:
    """The reply that a stream amounts to, for a provider that does not say it itself."""
    builder = ReplyBuilder(candidate.model or "")
    for event in said:
        builder.add(event)
    return builder.build() if said else None


def _is_of_the_caller(error: BaseException) -> bool:
    """Whether it is the terminal's interrupt, or a cancellation that was really asked of this task."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is None or task.cancelling() > 0
    return isinstance(error, KeyboardInterrupt)


def _as_ours(error: BaseException) -> LoomError:
    if isinstance(error, LoomError):
        return error
    failure = ProviderError(f"the provider failed: {describe_error(error)}")
    failure.__cause__ = error  # so that it is told in the log
    return failure


def _telling(error: LoomError, before: Sequence[Attempt], attempts: tuple[Attempt, ...]) -> LoomError:
    """A copy of ``error`` that knows the attempts: an error may be raised again, and what it tells would pile up."""
    told = "; ".join(f"{attempt.model}: {attempt.error}"[:MAX_TOLD_CHARS] for attempt in before)
    text = f"{error} (asked before, in vain: {told})" if before else str(error)
    # Not by calling the class: an error of the application may want other arguments than a text.
    copied = type(error).__new__(type(error), text)
    copied.__dict__.update(error.__dict__)
    copied.__cause__ = error.__cause__ or error
    copied.attempts = attempts
    return copied.with_traceback(error.__traceback__)
