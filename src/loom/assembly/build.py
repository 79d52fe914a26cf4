"""Declaration -> engine. The one place where the parts meet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..config.model import Generation, Instructions, Model
from ..errors import ConfigError, OutputInvalid
from ..kernel.engine import Engine
from ..kernel.hooks import Hooks
from ..llm.base import LLMProvider, ModelSettings
from ..policies.profile import Runtime
from ..store.base import SessionStore
from ..store.memory import InMemorySessionStore
from ..types import Usage, canonical_json
from .output import OutputSpec
from .providers import choose_model, make_provider
from .toolbox import OutputShelf, compile_tools


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What the user wrote, as it was written. ``model`` may also be a provider object."""

    model: Model | LLMProvider | str
    instructions: str | Instructions
    tools: Sequence[Any]
    capabilities: Sequence[Any]
    generation: Generation | None
    runtime: Runtime
    output_type: Any
    hooks: Hooks


class TypedOutput:
    """The kernel's output gate over an ``output_type``."""

    def __init__(self, spec: OutputSpec[Any], attempts: int) -> None:
        self._spec = spec
        self.attempts = attempts
        self.name = spec.name

    def judge(self, text: str) -> str | None:
        """See OutputGate."""
        try:
            self._spec.parse(text)
        except OutputInvalid as error:
            return str(error)
        return None


def build_engine(declaration: Declaration) -> Engine:
    """Put the parts together. Raises ConfigError for a contradiction, AuthenticationError for a missing key."""
    model = read_model(declaration.model)
    provider, name, price = _provider(model)
    runtime = declaration.runtime
    if runtime.governance.redact_outbound:
        # Imported here: few want it, and all would pay for the tables of formats.
        from ..llm.scrubbed import scrubbed

        provider = scrubbed(provider)
    if runtime.limits.max_cost is not None and price is None:
        raise ConfigError(
            "max_cost needs the model's price, or it could not be held: pass Model(..., price=Price(...))"
        )
    output = output_spec(declaration.output_type)
    shelf = OutputShelf(runtime.limits.max_result_chars)
    return Engine(
        provider=provider,
        model=name,
        instructions=_instructions(declaration.instructions, output),
        tools=compile_tools(declaration.tools, declaration.capabilities, shelf),
        settings=_settings(declaration.generation, output),
        hooks=declaration.hooks,
        governance=runtime.governance,
        output_gate=TypedOutput(output, runtime.output_attempts) if output else None,
        price=price or _unknown,
        cap=shelf.cap,
        tool_timeout=runtime.limits.tool_timeout,
    )


def memory_store() -> SessionStore:
    """A store for sessions that need not last."""
    return InMemorySessionStore()


def output_spec(output_type: Any) -> OutputSpec[Any] | None:
    """What answers must be; None for plain text."""
    return None if output_type is None or output_type is str else OutputSpec.of(output_type)


def read_model(model: Model | LLMProvider | str) -> Model | LLMProvider:
    """Understand what was given as a model: a ``Model``, a provider object, ``"provider:name"`` or ``"auto"``."""
    if isinstance(model, str):
        model = Model.parse(model)
    if isinstance(model, Model) and model.provider == "auto":
        return choose_model()
    return model


def _provider(
    model: Model | LLMProvider,
) -> tuple[LLMProvider, str | None, Callable[[Usage], float | None] | None]:
    if isinstance(model, Model):
        return make_provider(model), model.name, model.price.cost if model.price else None
    if callable(getattr(model, "chat", None)):
        return model, None, None
    raise ConfigError(
        f"{model!r} is not a model: pass Model.anthropic(...), 'provider:name' or a provider object"
    )


def _unknown(usage: Usage) -> float | None:
    return None


def _instructions(instructions: str | Instructions, output: OutputSpec[Any] | None) -> str:
    text = instructions.render() if isinstance(instructions, Instructions) else instructions
    if output is None:
        return text
    schema = canonical_json(output.schema).decode()
    wanted = f"Your final answer is one JSON value of this JSON Schema and nothing else:\n{schema}"
    return f"{text}\n\n{wanted}" if text else wanted


def _settings(generation: Generation | None, output: OutputSpec[Any] | None) -> ModelSettings | None:
    if generation is None and output is None:
        return None
    generation = generation or Generation()
    settings = ModelSettings(
        temperature=generation.temperature,
        max_output_tokens=generation.max_output_tokens,
        output_schema=output.schema if output else None,
        output_name=output.name if output else "output",
        extensions=dict(generation.extensions),
    )
    return None if settings == ModelSettings() else settings
