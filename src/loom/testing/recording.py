"""Recording: a provider that writes down what is asked of another one, and what it answers, without secrets."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from msgspec.structs import replace

from ..errors import LoomError, ProviderError
from ..llm.base import LLMProvider, ModelSettings, ProviderEvent, as_provider, secrets_of
from ..llm.redact import Scrubber
from ..llm.scrubbed import close, given
from ..types import ChatMessage, ChatResponse, ToolSpec, describe_error
from .recorded import Exchange, RecordedError, append, begin, make_scrubber, plain_request, timeless


def record(
    provider: LLMProvider,
    path: str | os.PathLike[str],
    *,
    secrets: Iterable[str] = (),
    environ: Mapping[str, str] = os.environ,
) -> RecordingProvider:
    """``provider``, with all its traffic written to ``path`` for ``replay``: any provider, whatever its wire.

    A line is written when an exchange is over, so a crash leaves what was complete. The file is made anew, for
    this user alone (mode 0600). Out of it stay ``secrets``, those the provider has, the values (8 characters or
    more) of variables in ``environ`` named ``..._API_KEY``, and whatever looks like a secret: see
    ``loom.llm.redact``. Requests that run at the same time are written in the order in which they end.

    Raises OSError when the file cannot be written.
    """
    return RecordingProvider(provider, Path(path).absolute(), make_scrubber(secrets, environ, provider))


class RecordingProvider(LLMProvider):
    """What ``record`` returns; use it as the provider, and as ``async with`` to close that one after."""

    def __init__(self, provider: LLMProvider, path: Path, scrubber: Scrubber) -> None:
        self.provider = as_provider(provider)
        self.path = path
        self._scrubber = scrubber
        begin(path)

    def secrets(self) -> list[str]:
        """What the recorded provider would not have in any text."""
        return secrets_of(self.provider)

    @property
    def unmetered(self) -> bool:
        """See LLMProvider."""
        return self.provider.unmetered

    async def chat(
        self,
        messages: Sequence[ChatMessage],
        *,
        tools: Sequence[ToolSpec] | None = None,
        model: str | None = None,
        settings: ModelSettings | None = None,
    ) -> ChatResponse:
        """Ask, and write down the reply or the error. Raises what the provider raises, and OSError."""
        exchange = Exchange(plain_request(messages, tools, model, settings, self._scrubber), abandoned=True)
        try:
            reply = await self.provider.chat(messages, **given(tools, model, settings))
            exchange.reply, exchange.abandoned = reply, False
        except Exception as error:  # whatever the provider raises is part of the recording, and goes on up
            exchange.error, exchange.abandoned = _recorded(error), False
            raise
        finally:
            append(self.path, exchange, self._scrubber)
        return reply

    async def chat_stream(
        self,
        messages: Sequence[ChatMessage],
        *,
        tools: Sequence[ToolSpec] | None = None,
        model: str | None = None,
        settings: ModelSettings | None = None,
    ) -> AsyncIterator[ProviderEvent]:
        """Ask, hand on the stream, and write down its events. Raises what the provider raises, and OSError."""
        exchange = Exchange(
            plain_request(messages, tools, model, settings, self._scrubber), streamed=True, abandoned=True
        )
        stream = self.provider.chat_stream(messages, **given(tools, model, settings))
        try:
            async with _closing(stream):
                async for event in stream:
                    if isinstance(event, ChatResponse):
                        # Nothing follows it, and many readers stop here without closing what they read.
                        exchange.reply, exchange.abandoned = event, False
                        append(self.path, exchange, self._scrubber)
                    else:
                        exchange.events.append(event)
                    yield event
            exchange.abandoned = False
        except Exception as error:  # whatever the provider raises is part of the recording, and goes on up
            exchange.error, exchange.abandoned = _recorded(error), False
            raise
        finally:
            if exchange.reply is None:
                append(self.path, exchange, self._scrubber)

    async def aclose(self) -> None:
        """Close the recorded provider. The recording needs no closing."""
        await close(self.provider)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def _recorded(error: Exception) -> RecordedError:
    if not isinstance(error, LoomError):
        # Providers raise our errors; what else they raise is what the kernel makes of it.
        error = ProviderError(f"the provider failed: {describe_error(error)}")
    return RecordedError(
        replace(error.info(), cause=None),
        getattr(error, "provider_code", None),
        getattr(error, "request_id", None),
        timeless(error.attempts),
    )


@asynccontextmanager
async def _closing(stream: AsyncIterator[ProviderEvent]) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await close(stream)
