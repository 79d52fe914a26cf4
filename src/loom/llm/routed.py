"""A model for each request: somebody chooses a name, and the model of that name is asked.

Who chooses is a function; here is only the way from its word to a provider.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing

from ..errors import ConfigError
from ..types import ChatMessage, ChatResponse, ToolSpec, describe_error
from .base import LLMProvider, ModelSettings, ProviderEvent
from .fallback import Candidate, FallbackProvider

Choose = Callable[[list[ChatMessage]], str | Awaitable[str | None] | None]


class RoutedProvider(LLMProvider):
    """Asks the model that ``choose(messages)`` names; None is ``default``. ``choose`` may be async.

    It is asked once for each model call and gets the messages of that call, so a run stays with one model as
    long as ``choose`` looks at what does not change in it, such as the last user message. Every model is
    asked by its own name: ``model`` of a call is not passed on. A name that is not there, and ``choose`` raising, are
    ConfigErrors; so are no models, and a default that is none of them.
    """

    def __init__(
        self,
        models: Mapping[str, LLMProvider | Candidate],
        choose: Choose,
        *,
        default: str | None = None,
    ) -> None:
        # A fallback of one is a model that reports its attempts.
        self.models = {name: FallbackProvider([given]) for name, given in models.items()}
        self.default = default
        self._choose = choose
        if not self.models:
            raise ConfigError("a RoutedProvider needs at least one model")
        if default is not None:
            self._named(default)

    async def chat(
        self,
        messages: Sequence[ChatMessage],
        *,
        tools: Sequence[ToolSpec] | None = None,
        model: str | None = None,
        settings: ModelSettings | None = None,
    ) -> ChatResponse:
        """The reply of the model chosen. Raises as it does, and ConfigError when there is none."""
        route = await self._route(messages)
        return await route.chat(messages, tools=tools, settings=settings)

    async def chat_stream(
        self,
        messages: Sequence[ChatMessage],
        *,
        tools: Sequence[ToolSpec] | None = None,
        model: str | None = None,
        settings: ModelSettings | None = None,
    ) -> AsyncIterator[ProviderEvent]:
        """The stream of the model chosen, the whole ``ChatResponse`` last."""
        route = await self._route(messages)
        async with aclosing(route.chat_stream(messages, tools=tools, settings=settings)) as stream:
            async for event in stream:
                yield event

    def secrets(self) -> list[str]:
        """Those of all models."""
        return [secret for route in self.models.values() for secret in route.secrets()]

    async def aclose(self) -> None:
        """Close every model's provider, also when one of them fails to."""
        async with AsyncExitStack() as stack:
            for route in self.models.values():
                stack.push_async_callback(route.aclose)

    def __repr__(self) -> str:
        return f"<RoutedProvider {', '.join(self.models)}>"

    async def _route(self, messages: Sequence[ChatMessage]) -> FallbackProvider:
        try:
            chosen = self._choose(list(messages))
            name = await chosen if inspect.isawaitable(chosen) else chosen
        except Exception as error:  # the application's function: its failure is a fault of the declaration
            raise ConfigError(f"choosing a model failed: {describe_error(error)}") from error
        return self._named(self.default if name is None else name)

    def _named(self, name: object) -> FallbackProvider:
        if isinstance(name, str) and name in self.models:
            return self.models[name]
        said = "no model and there is no default" if name is None else f"{name!r}, which is no model"
        raise ConfigError(f"the choice is {said}; the models are {', '.join(self.models)}")
