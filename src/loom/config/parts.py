"""What an agent is declared with, checked where it is written: a part of the wrong kind is a ConfigError."""

from __future__ import annotations

from typing import Any, cast

from ..errors import ConfigError
from ..llm.base import as_provider
from ..safety.declared import several
from ..store.base import SessionStore
from .model import Generation, Instructions, Model
from .models import AnyModel, FallbackModel, RoutedModel


def checked_model(model: Any) -> AnyModel:
    """A declared model or a provider object that was made."""
    if isinstance(model, Model | FallbackModel | RoutedModel):
        return model
    if callable(getattr(model, "chat", None)) and not isinstance(model, type):
        as_provider(model)
        return cast("AnyModel", model)
    raise ConfigError(
        f"{model!r:.80} is not a model: pass Model.anthropic(...), 'provider:name' or a provider object"
    )


def checked_instructions(instructions: Any) -> Instructions:
    """Instructions that are not plain text."""
    if isinstance(instructions, Instructions):
        return instructions
    if callable(instructions):
        raise ConfigError(
            "instructions must be text, not a function: what differs between runs goes into the run's context, "
            "RunContext(inputs={...})"
        )
    raise ConfigError(f"instructions must be text or Instructions(...), not {instructions!r:.80}")


def checked_generation(generation: Any) -> Generation:
    """How the model samples."""
    if isinstance(generation, Generation):
        return generation
    raise ConfigError(f"generation must be Generation(...), not {generation!r:.80}")


def checked_store(store: Any) -> SessionStore:
    """A session store: anything with the methods of one."""
    if callable(getattr(store, "load_session", None)) and not isinstance(store, type):
        return cast("SessionStore", store)
    hint = f"; a file is opened by SqliteSessionStore({store!r:.80})" if isinstance(store, str) else ""
    raise ConfigError(f"session_store must be a session store, not {store!r:.80}{hint}")


def checked_list(what: str, given: Any) -> tuple[Any, ...]:
    """Several of something; text and mappings would be taken for their letters and keys."""
    return several(what, given, object, f"write {what}=[...], also for a single one")
