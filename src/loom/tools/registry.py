"""The names a model may call, and who answers to them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..errors import ConfigError
from ..types import ToolResult, ToolSpec, describe_error, error_text, safe_repr
from .base import ToolHandler, checked_spec


class ToolRegistry:
    """Handlers by name, in the order they were registered.

    The model is offered specs sorted by name, so that the order of registration never changes a request.
    ``newcomer`` is asked about every further handler, and may refuse it by raising ConfigError.
    """

    def __init__(self, handlers: Iterable[ToolHandler] = ()) -> None:
        self._handlers: dict[str, ToolHandler] = {}
        self._specs: tuple[ToolSpec, ...] | None = None
        self.newcomer: Callable[[ToolHandler], None] | None = None
        for handler in handlers:
            self.register(handler)

    def register(self, handler: ToolHandler) -> None:
        """Add a handler.

        Raises ConfigError for something that is no handler, a name that is taken or that services do not accept.
        """
        try:
            spec = getattr(handler, "tool", None)
        except ConfigError:
            raise
        except Exception as error:  # a property of the application's
            raise ConfigError(
                f"{safe_repr(handler)} cannot say what it is: {describe_error(error)}"
            ) from error
        if not isinstance(spec, ToolSpec) or not (
            hasattr(handler, "invoke") or hasattr(handler, "invoke_in_context")
        ):
            raise ConfigError(
                f"{safe_repr(handler)} is not a tool: it needs a `tool` property and an `invoke(args)` method; "
                "decorate a function with @tool"
            )
        checked_spec(spec)
        if spec.name in self._handlers:
            raise ConfigError(f"two tools are named {spec.name!r}; give one of them another name")
        if self.newcomer is not None:
            self.newcomer(handler)
        self._handlers[spec.name] = handler
        self._specs = None

    def unregister(self, name: str) -> None:
        """Remove a handler. Raises KeyError when there is none of that name."""
        del self._handlers[name]
        self._specs = None

    def get(self, name: str) -> ToolHandler | None:
        """The handler of that name, or None."""
        return self._handlers.get(name)

    def has(self, name: str) -> bool:
        """Whether there is a handler of that name."""
        return name in self._handlers

    def list_handlers(self) -> list[str]:
        """The names, in order of registration."""
        return list(self._handlers)

    def specs(self) -> tuple[ToolSpec, ...]:
        """What the model is offered, sorted by name.

        The same tuple until the registry changes, and in every registry of the same specs, so that a provider whom
        many agents share encodes it once.
        """
        if self._specs is None:
            self._specs = _shared(
                tuple(sorted((h.tool for h in self._handlers.values()), key=lambda s: s.name))
            )
        return self._specs

    async def dispatch(self, name: str, args: dict[str, Any]) -> ToolResult:
        """Run a handler directly, ungoverned: for application code and tests, never for a model.

        An unknown name and an exception become an error result.
        """
        handler = self._handlers.get(name)
        if handler is None:
            return ToolResult(f"Unknown tool: {name}", is_error=True)
        try:
            return await handler.invoke(args)
        except Exception as error:  # a handler is foreign code; whatever it raises is its result
            return ToolResult(f"Tool error ({name}): {error_text(error)}", is_error=True)

    def __len__(self) -> int:
        return len(self._handlers)

    def __iter__(self) -> Iterator[ToolHandler]:
        return iter(self._handlers.values())


_MOST_SHARED = 64
_tuples: dict[tuple[int, ...], tuple[ToolSpec, ...]] = {}
_tuples_lock = threading.Lock()


def _shared(specs: tuple[ToolSpec, ...]) -> tuple[ToolSpec, ...]:
    """The one tuple of these very specs, as long as it is among the newest; specs hold on to no function."""
    key = tuple(map(id, specs))
    with _tuples_lock:
        known = _tuples.pop(key, specs)
        _tuples[key] = known  # now the newest
        if len(_tuples) > _MOST_SHARED:
            del _tuples[next(iter(_tuples))]
    return known


def reachable(handlers: Iterable[ToolHandler], seen: set[int] | None = None) -> list[ToolSpec]:
    """The tools that calls of these handlers may lead to: their own, and those of the agents among them.

    ``seen`` holds the ids of handlers that were followed already, for agents that call each other.
    """
    seen = set() if seen is None else seen
    found: list[ToolSpec] = []
    for handler in handlers:
        if id(handler) not in seen:
            seen.add(id(handler))
            found += [handler.tool, *getattr(handler, "within", _nothing)(seen)]
    return found


def _nothing(seen: set[int]) -> list[ToolSpec]:
    return []
