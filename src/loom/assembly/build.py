"""Declaration -> engine. The one place where the parts meet."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from ..config.model import Generation, Instructions
from ..config.models import AnyModel
from ..errors import ConfigError, OutputInvalid, how_to_install
from ..kernel.engine import Engine
from ..kernel.hooks import Hooks
from ..llm.base import LLMProvider, ModelSettings, takes_settings
from ..llm.estimates import estimated_tokens
from ..llm.redact import redact_own_logs
from ..policies.governance import GovernancePolicy
from ..policies.profile import Runtime
from ..policies.rule_check import RuleCheck, check_rules, refuse_idle_rules, rules_about
from ..store.base import SessionStore
from ..store.memory import InMemorySessionStore
from ..tools.base import RunContext, ToolHandler
from ..tools.output import MIN_LIMIT, OutputCap
from ..tools.registry import ToolRegistry, reachable
from ..types import ToolSpec, canonical_json
from .models import make_model
from .output import OutputSpec, shared_spec
from .toolbox import compile_tools

logger = logging.getLogger("loom.governance")


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What the user wrote, as it was written. ``model`` may also be a provider object."""

    model: AnyModel
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

    @property
    def opening(self) -> str:
        """See OutputGate."""
        return self._spec.opening

    def judge(self, text: str, context: RunContext[Any]) -> str | None:
        """See OutputGate."""
        try:
            self._spec.parse(text, context)
        except OutputInvalid as error:
            return str(error)
        return None


def build_engine(declaration: Declaration) -> Engine:
    """Put the parts together. Raises ConfigError for a contradiction, AuthenticationError for a missing key."""
    redact_own_logs()
    runtime = declaration.runtime
    limited = runtime.limits.max_cost is not None
    model = make_model(declaration.model, priced=limited)
    if limited and model.unpriced:
        raise ConfigError(
            f"max_cost needs the model's price, or it could not be held, and {', '.join(model.unpriced)} has "
            "none: pass Model(..., price=Price(...)), or have the list prices of many models: "
            f"{how_to_install('pricing')}"
        )
    output, outbound = output_spec(declaration.output_type), _outbound(runtime)
    limit = max(runtime.limits.max_result_chars, MIN_LIMIT)
    tools = compile_tools(declaration.tools, declaration.capabilities, limit)
    hold_rules(runtime.governance, tools)
    return Engine(
        provider=outbound(model.provider) if outbound else model.provider,
        outbound=outbound,
        model=model.name,
        instructions=_instructions(declaration.instructions, output),
        tools=tools,
        settings=_settings(declaration.generation, output, model.provider),
        hooks=declaration.hooks,
        governance=runtime.governance,
        output_gate=TypedOutput(output, runtime.output_attempts) if output else None,
        price=model.price,
        unpriced=model.unpriced,
        estimate=estimated_tokens,
        cap=OutputCap(limit),
        tool_timeout=runtime.limits.tool_timeout,
        cancel_grace=float(runtime.limits.cancel_grace),
    )


def hold_rules(governance: GovernancePolicy, tools: ToolRegistry) -> None:
    """Raise ConfigError for rules that would guard nothing among ``tools``, now and when one is registered later.

    Those of the agents among the tools are held too.
    """
    findings = [*check_rules(governance, reachable(tools)), *checks_below(tools, set())]
    refuse_idle_rules(findings)
    for found in findings:
        if found.level == "warning":
            logger.warning("%s (%s) does not guard all it names: %s", found.kind, found.rule, found.problem)
    if not (governance.rules or governance.vetoes):
        return

    def newcomer(handler: ToolHandler) -> None:
        about = rules_about(governance, handler.tool.name)
        refuse_idle_rules(check_rules(about, reachable([*tools, handler])))

    tools.newcomer = newcomer


def checks_below(tools: Iterable[ToolHandler], seen: set[int]) -> list[RuleCheck]:
    """What the rules of the agents among ``tools`` touch; ``seen`` are the ids of those followed already."""
    found: list[RuleCheck] = []
    for handler in tools:
        checks = getattr(handler, "checks", None)
        if checks is not None and id(handler) not in seen:
            seen.add(id(handler))
            found += checks(seen)
    return found


def all_checks(
    governance: GovernancePolicy, tools: Sequence[Any], capabilities: Sequence[Any], seen: set[int]
) -> list[RuleCheck]:
    """What the rules of an agent and of those below it touch."""
    compiled = compile_tools(tools, capabilities, MIN_LIMIT)
    return [*check_rules(governance, reachable(compiled)), *checks_below(compiled, seen)]


def tool_specs(
    tools: Sequence[Any], capabilities: Sequence[Any], seen: set[int] | None = None
) -> list[ToolSpec]:
    """The tools that an agent with these may come to call, those of agents among them too."""
    return reachable(compile_tools(tools, capabilities, MIN_LIMIT), seen)


def _outbound(runtime: Runtime) -> Callable[[LLMProvider], LLMProvider] | None:
    if not runtime.governance.redact_outbound:
        return None
    # Imported here: few want it, and all would pay for the tables of formats.
    from ..llm.scrubbed import scrubbed

    return scrubbed


def memory_store() -> SessionStore:
    """A store for sessions that need not last."""
    return InMemorySessionStore()


def output_spec(output_type: Any) -> OutputSpec[Any] | None:
    """What answers must be; None for plain text."""
    return None if output_type is None or output_type is str else shared_spec(output_type)


def _instructions(instructions: str | Instructions, output: OutputSpec[Any] | None) -> str:
    text = instructions.render() if isinstance(instructions, Instructions) else instructions
    if output is None:
        return text
    schema = canonical_json(output.schema).decode()
    wanted = f"Your final answer is one JSON value of this JSON Schema and nothing else:\n{schema}"
    return f"{text}\n\n{wanted}" if text else wanted


def _settings(
    generation: Generation | None, output: OutputSpec[Any] | None, provider: LLMProvider
) -> ModelSettings | None:
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
    if settings == ModelSettings():
        return None
    if not takes_settings(provider):
        if replace(settings, output_schema=None, output_name="output") != ModelSettings():
            raise ConfigError(f"{provider!r} cannot be told of a generation: let its chat take settings=None")
        return None  # what shape to answer in stands in the instructions as well, and the answer is judged
    return settings
