"""The harness face: an agent put together by hand, which answers one turn of a conversation you keep.

No session, no store: the messages go in, a turn comes out, and nothing of it stays on the agent.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, cast

import msgspec

from .errors import ConfigError, HookFailed, LoomError, to_exception
from .events import (
    Event,
    RunStarted,
    ToolRequested,
)
from .folds.state import State
from .folds.stops import TOLD
from .hitl.base import Human
from .kernel.budget import Budget
from .kernel.engine import Engine, Scope
from .kernel.interrupt import Interrupt
from .kernel.journal import Journal
from .kernel.loop import drive
from .llm.base import LLMProvider, SupportsChat, as_provider
from .llm.estimates import estimated_tokens
from .llm.redact import redact_own_logs
from .llm.registry import ProviderRegistry
from .loop_events import DoneEvent, TurnEvent, in_harness_words
from .loop_hooks import Present, editor, messages_of, model_of, tell, tool_watcher, worded, wrapped
from .media import attached
from .policies.governance import GovernancePolicy
from .policies.rule_check import check_rules, refuse_idle_rules
from .safety.declared import count, function, instance, several, text, texts
from .safety.media import name_files
from .short_replies import spelled_out
from .signals import RuntimeTask
from .tools.base import ToolHandler
from .tools.registry import ToolRegistry, reachable
from .types import ChatMessage, ErrorInfo, Limits, Role, RunState, ToolCall, ToolSpec, safe_repr

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    StreamedT = TypeVar("StreamedT", default=TurnEvent)
else:
    from typing import TypeVar

    StreamedT = TypeVar("StreamedT")

_REPORTED = TOLD | {"stuck"}
"""Ways to fail that are an answer of sorts: reported in the turn, where a broken service raises."""


_HOOKS = (
    "on_before_turn", "on_after_turn", "on_tool_result", "on_event", "choose_model", "before_llm_call",
    "limit_message_builder", "serialize_event",
)  # fmt: skip


@dataclass(kw_only=True)
class AgentConfig(Generic[StreamedT]):
    """How a loop agent works. All hooks are optional, and may be async but for the last two.

    ``on_before_turn(messages)`` may return other messages, ``choose_model(messages)`` a model id,
    ``before_llm_call(messages)`` the messages of this one call; when one of them raises, the turn ends with
    HookFailed. ``on_tool_result(ToolCall, text)``, ``on_event(kind, payload)`` and ``on_after_turn(turn)``
    watch; what they raise is logged. The kinds of ``on_event`` are ``turn_start`` (``num_messages``), ``stream_start``
    (``model``, ``num_messages``) and ``stream_error`` (``phase``, ``error``).
    ``serialize_event(event)`` wraps what a stream yields; ``limit_message_builder(max_iterations)`` words the reply
    of a turn that ran out.

    ``affirmatives`` and ``negatives`` are the words, in small letters, that count as a bare yes or no (None: some
    English ones, an empty set: none). Where the user says nothing but such a word after a question of the
    assistant, the model is shown that question beside it, as small models lose the thread.
    """

    max_iterations: int = 32
    model: str | None = None
    system_preamble: str = ""
    extra_tools: Sequence[ToolHandler] | None = None
    governance: GovernancePolicy | None = None
    on_before_turn: Callable[[list[ChatMessage]], Any] | None = None
    on_after_turn: Callable[[AgentTurn], Any] | None = None
    on_tool_result: Callable[[ToolCall, str], Any] | None = None
    on_event: Callable[[str, dict[str, Any]], Any] | None = None
    choose_model: Callable[[list[ChatMessage]], str | Awaitable[str | None] | None] | None = None
    before_llm_call: Callable[[list[ChatMessage]], Any] | None = None
    limit_message_builder: Callable[[int], str] | None = None
    serialize_event: Callable[[TurnEvent], StreamedT] | None = None
    affirmatives: frozenset[str] | set[str] | None = None
    negatives: frozenset[str] | set[str] | None = None

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Raise ConfigError for a field that cannot mean anything. Asked when it is made and when an agent is."""
        count("max_iterations", self.max_iterations)
        if self.model is not None:
            text("model", self.model)
        instance("system_preamble", self.system_preamble, str)
        if self.extra_tools is not None:
            instance("extra_tools", self.extra_tools, Sequence, "write [...]")  # type: ignore[type-abstract]
            several("extra_tools", self.extra_tools, object, "write [...]")
        if self.governance is not None:
            instance("governance", self.governance, GovernancePolicy)
        for hook in _HOOKS:
            if getattr(self, hook) is not None:
                function(hook, getattr(self, hook))
        for words in ("affirmatives", "negatives"):
            if getattr(self, words) is not None:
                texts(words, getattr(self, words))


@dataclass(slots=True)
class AgentTurn:
    """What one turn came to. ``tool_calls`` is a count; ``messages`` is the conversation with the reply.

    ``state`` is ``COMPLETED`` only when the model finished its answer; otherwise ``error`` says what happened,
    ``reply`` is a notice to show or what there is of the answer, and ``text`` what the model itself last wrote.
    ``estimated`` says that the tokens are estimates, in whole or in part: the service did not report them.
    """

    reply: str
    iterations: int = 0
    skills_touched: list[str] | None = None
    messages: list[ChatMessage] | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    tool_calls: int = 0
    model: str | None = None
    state: RunState = RunState.COMPLETED
    error: ErrorInfo | None = None
    estimated: bool = False
    text: str = ""

    @property
    def ok(self) -> bool:
        """True when the model finished its answer."""
        return self.state is RunState.COMPLETED

    def unwrap(self) -> str:
        """The reply of a turn that completed; for any other the error is raised that ``error`` tells of."""
        if self.ok:
            return self.reply
        raise to_exception(self.error or ErrorInfo("run_failed", f"the turn ended as {self.state.value}"))


class Agent(Generic[StreamedT]):
    """A provider, tools and a config. One agent may serve any number of conversations at once.

    ``human`` answers requests for approval; without one they are refused, since a turn cannot wait.
    """

    def __init__(
        self,
        provider: SupportsChat | None = None,
        provider_registry: ProviderRegistry | None = None,
        tool_registry: ToolRegistry | None = None,
        config: AgentConfig[StreamedT] | None = None,
        *,
        human: Human | None = None,
    ) -> None:
        if provider is None and provider_registry is None:
            raise ConfigError("a loop agent needs a provider or a provider_registry")
        if config is not None:
            instance("config", config, AgentConfig)
        self.config: AgentConfig[StreamedT] = AgentConfig() if config is None else config
        self.config.check()
        self.human = None if human is None else _checked_human(human)
        self._provider = None if provider is None else as_provider(provider)
        if provider_registry is not None:
            instance("provider_registry", provider_registry, ProviderRegistry)
        self._registry = provider_registry
        if tool_registry is not None:
            instance("tool_registry", tool_registry, ToolRegistry, "write ToolRegistry([...])")
        self._tools = tool_registry if tool_registry is not None else ToolRegistry()
        self._scrubbers: dict[int, LLMProvider] = {}
        self._held: tuple[GovernancePolicy, tuple[ToolSpec, ...]] | None = None

    async def run_turn(
        self,
        messages: Sequence[ChatMessage],
        context: dict[str, Any] | None = None,
        model_id: str | None = None,
    ) -> AgentTurn:
        """Answer the conversation, calling tools as needed. The list is not changed.

        Files that parts of the user's messages name are read, so pass ``loom.media.refuse_files`` the parts
        that others wrote; ``turn.messages`` holds what was sent. Raises ConfigError for one that cannot be.
        Raises ProviderError, ContextOverflowError or HookFailed when no answer could be had, with what was said
        and done by then in ``error.turn``; running out of model calls, a reply cut short and repeated failure
        are told in the turn's ``state`` and ``error``.
        """
        turn = await self._prepare(messages, context, model_id, streaming=False)
        async with aclosing(turn.drive()) as events:
            async for event in events:
                turn.see(event)
        result = turn.result()
        if (
            result.error is not None
            and result.state is RunState.FAILED
            and result.error.code not in _REPORTED
        ):
            raise _with_turn(to_exception(result.error), result)
        await tell("on_after_turn", self.config.on_after_turn, result)
        return result

    async def run_turn_stream(
        self,
        messages: Sequence[ChatMessage],
        context: dict[str, Any] | None = None,
        model_id: str | None = None,
    ) -> AsyncIterator[StreamedT]:
        """Like ``run_turn``, as it happens. A failing service is an ``ErrorEvent`` and then the ``DoneEvent``.

        Raises HookFailed when ``serialize_event`` raises, the turn so far in ``error.turn``.
        """
        config = self.config
        wrap = config.serialize_event or cast("Callable[[TurnEvent], StreamedT]", _as_it_is)
        turn = await self._prepare(messages, context, model_id, streaming=True)
        opening = {"model": turn.scope.engine.model, "num_messages": len(messages)}
        await tell("on_event", config.on_event, "stream_start", opening)
        try:
            async with aclosing(turn.drive()) as events:
                async for event in events:
                    turn.see(event)
                    told = in_harness_words(event, turn.arguments)
                    if told is not None:
                        yield wrapped(wrap, told)
            result = turn.result()
            if result.error is not None:
                failed = {"phase": "iterate", "error": result.error}
                await tell("on_event", config.on_event, "stream_error", failed)
            await tell("on_after_turn", config.on_after_turn, result)
            yield wrapped(wrap, turn.done(result))
        except HookFailed as error:
            raise _with_turn(error, turn.result()) from error.__cause__

    async def _prepare(
        self,
        messages: Sequence[ChatMessage],
        context: dict[str, Any] | None,
        model_id: str | None,
        *,
        streaming: bool,
    ) -> _Turn:
        config = self.config
        config.check()
        said = _conversation(messages)
        await tell("on_event", config.on_event, "turn_start", {"num_messages": len(said)})
        said = await messages_of("on_before_turn", config.on_before_turn, said)
        said = await _with_files_read(said)
        said = spelled_out(said, yes=config.affirmatives, no=config.negatives)
        if model_id is None and config.choose_model is not None:
            model_id = await model_of(config.choose_model, said)
        provider, model = self._resolve(model_id or config.model)
        redact_own_logs()
        governance = GovernancePolicy() if config.governance is None else config.governance
        tools = self._all_tools()
        self._hold_rules(governance, tools)
        engine = Engine(
            provider=self._scrubbed(provider) if governance.redact_outbound else provider,
            outbound=self._scrubbed if governance.redact_outbound else None,
            estimate=estimated_tokens,
            model=model,
            instructions=_instructions(config.system_preamble, context),
            tools=tools,
            governance=governance,
            edit_messages=editor(config.before_llm_call),
        )
        if config.on_tool_result is not None:
            engine.hooks.on("tool.finished", tool_watcher(config.on_tool_result))
        limits = Limits(max_iterations=config.max_iterations)
        scope = Scope(engine=engine, budget=Budget(limits), human=Present(self.human), streaming=streaming)
        journal = Journal(
            _TurnLog(), State(), session_id="", run_id=f"turn_{secrets.token_hex(8)}", clock=time.time
        )
        opening = RunStarted(task=RuntimeTask(goal=_goal(said)), messages=said, limits=limits)
        return _Turn(scope, journal, config, opening)

    def _resolve(self, model_id: str | None) -> tuple[LLMProvider, str | None]:
        if self._registry is not None:
            model_id = model_id or (self._registry.default_model if self._provider is None else None)
            if model_id is not None:
                try:
                    return self._registry.resolve(model_id)
                except KeyError:
                    if self._provider is None:
                        known = ", ".join(self._registry.list_models())
                        raise ConfigError(
                            f"there is no model {model_id!r} in the registry, only {known}"
                        ) from None
        if self._provider is None:
            raise ConfigError("the provider registry is empty; register a model first")
        return self._provider, model_id

    def _scrubbed(self, provider: LLMProvider) -> LLMProvider:
        # Imported here: few want it, and all would pay for the tables of formats.
        from .llm.scrubbed import scrubbed

        # One for all turns, since messages remember who scrubbed them. It holds the provider, so the id stays its.
        return self._scrubbers.setdefault(id(provider), scrubbed(provider))

    def _hold_rules(self, governance: GovernancePolicy, tools: ToolRegistry) -> None:
        """Raise ConfigError for rules that would guard nothing, whenever the rules or the tools are other ones."""
        if not (governance.rules or governance.vetoes) or self._held == (governance, tools.specs()):
            return
        refuse_idle_rules(check_rules(governance, reachable(tools)))
        self._held = (governance, tools.specs())

    def _all_tools(self) -> ToolRegistry:
        if not self.config.extra_tools:
            return self._tools
        return ToolRegistry([*self._tools, *self.config.extra_tools])


def _checked_human(human: object) -> Human:
    if isinstance(human, type) or not isinstance(human, Human):
        raise ConfigError(
            f"human must be an object with ask(request), such as CallbackHuman(...), not {safe_repr(human):.80}"
        )
    return human


class _TurnLog:
    """The log of a turn that nobody keeps."""

    safe = True

    def __init__(self) -> None:
        self.seq = 0

    async def append(self, events: Sequence[Event]) -> None:
        self.seq += len(events)

    async def has_kept(self, events: Sequence[Event]) -> bool:
        return False  # nothing interrupts what never waits


class _Turn:
    """One turn under way: folds the events into the result."""

    def __init__(self, scope: Scope, journal: Journal, config: AgentConfig[Any], opening: Event) -> None:
        self.scope = scope
        self.opening = opening
        self.journal = journal
        self.arguments: dict[str, str] = {}
        self._config = config
        self._model = scope.engine.model

    def drive(self) -> AsyncGenerator[Event, None]:
        return drive(self.scope, self.journal, Interrupt(), [self.opening])

    def see(self, event: Event) -> None:
        if isinstance(event, ToolRequested):
            self.arguments[event.call_id] = event.arguments
        elif event.type == "model.replied":
            self._model = getattr(event, "model", None) or self._model

    def result(self) -> AgentTurn:
        state = self.journal.state
        return AgentTurn(
            reply=self._reply(state),
            iterations=state.iterations,
            skills_touched=[],
            messages=list(state.transcript),
            input_tokens=state.usage.input_tokens,
            output_tokens=state.usage.output_tokens,
            tool_calls=state.tool_calls,
            model=self._model,
            state=state.status,
            error=state.error,
            estimated=state.usage.estimated,
            text=state.output,
        )

    def _reply(self, state: State) -> str:
        if state.status is RunState.LIMIT_REACHED:
            limit = self._config.max_iterations
            return worded(self._config.limit_message_builder, limit, "[iteration limit reached]")
        if state.error is not None and state.error.code == "stuck":
            return f"[stopped: {state.error.message}]"
        return state.output

    def done(self, turn: AgentTurn) -> DoneEvent:
        context: dict[str, Any] = {
            "messages": [msgspec.to_builtins(message) for message in turn.messages or ()]
        }
        if turn.state is RunState.LIMIT_REACHED:
            context["limit_reached"] = True
        elif turn.error is not None:
            context["stuck_loop" if turn.error.code == "stuck" else "partial"] = True
        stop = self.journal.state.stop_reason
        return DoneEvent(
            model=turn.model or "",
            iterations=turn.iterations,
            input_tokens=turn.input_tokens,
            output_tokens=turn.output_tokens,
            tool_calls=turn.tool_calls,
            stop_reason=stop.value if stop else None,
            context=context,
        )


def _with_turn(error: LoomError, turn: AgentTurn) -> LoomError:
    """The error with what the turn had come to, which must not be lost with it."""
    error.turn = turn
    return error


def _conversation(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """The conversation as a list of its own. Raises ConfigError for what is none."""
    given: object = messages
    if isinstance(given, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        said: list[ChatMessage] = list(messages)
        if given != "" and all(isinstance(one, ChatMessage) for one in said):  # pyright: ignore[reportUnnecessaryIsInstance]
            return said
    raise ConfigError(
        f"a turn takes a list of ChatMessage, not {safe_repr(messages)[:80]}: "
        '[ChatMessage(role=Role.USER, content="...")]'
    )


async def _with_files_read(messages: list[ChatMessage]) -> list[ChatMessage]:
    """``messages`` with the files in them that the user's name. What models and tools said can name none."""
    said = [m.content for m in messages if m.role is Role.USER]
    if not any(isinstance(content, tuple) and name_files(content) for content in said):
        return messages
    return await asyncio.to_thread(lambda: [attached(m) if m.role is Role.USER else m for m in messages])


def _goal(messages: Sequence[ChatMessage]) -> str:
    for message in reversed(messages):
        if message.role is Role.USER:
            return message.text_content or ""
    return ""


def _instructions(preamble: str, context: dict[str, Any] | None) -> str:
    if not context:
        return preamble
    lines = "\n".join(f"{key}: {value}" for key, value in context.items())
    return f"{preamble}\n\n## Context\n{lines}".lstrip()


def _as_it_is(event: TurnEvent) -> Any:
    return event
