"""``loom.Agent``: a declaration plus its verbs. It holds no conversation and contains no loop.

Declaring an agent costs nothing: what runs it is imported when its first session is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from threading import RLock
from types import ModuleType
from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar, overload
from weakref import WeakValueDictionary

from ._generics import DepsT, OutputT
from .errors import ConfigError

if TYPE_CHECKING:
    from typing_extensions import TypeForm, Unpack

    from .assembly.task_type import TaskType
    from .config.model import Generation, Instructions
    from .config.models import AnyModel
    from .hitl.base import Human
    from .kernel.engine import Engine
    from .kernel.hooks import Handler, Hooks
    from .policies.governance import GovernancePolicy
    from .policies.profile import Runtime
    from .policies.rule_check import RuleCheck
    from .runtime.child import AgentTool
    from .runtime.grounds import Grounds, SessionConfig
    from .runtime.result import RunResult
    from .runtime.session import Session
    from .runtime.stream import Stream
    from .safety.veto import SafetyRule
    from .signals import TaskInput
    from .store.base import SessionStore
    from .tools.base import RunContext
    from .types import ToolSpec

ValueT = TypeVar("ValueT")
_making = RLock()
"""Held while parts are made on first use, since an agent may serve several threads."""


class _AgentOptions(TypedDict, total=False):
    """What an agent may be declared with, beside what its type depends on; for type checkers."""

    model: AnyModel
    instructions: str | Instructions
    tools: Sequence[Any]
    capabilities: Sequence[Any]
    runtime: Runtime | None
    generation: Generation | None
    session_store: SessionStore | None
    human: Human | Callable[..., Any] | None
    governance: GovernancePolicy | None
    safety_rules: Sequence[SafetyRule]


class Agent(Generic[OutputT, DepsT]):
    """An agent, declared: a model, instructions, tools, and how they may be used.

    ``model`` is a ``Model``, ``"provider:name"``, ``"auto"`` (the default: an environment key, a local Ollama,
    else the embedded offline model), a provider object, or several in one (``FallbackModel``, ``RoutedModel``).
    ``tools`` are functions with ``@tool`` and handlers; ``capabilities`` are grants such as ``Files(...)``.
    ``output_type`` (pydantic model, dataclass, TypedDict, ``list[int]``, ``Cat | Dog``, a ``Literal``) makes
    ``result.output`` a validated value of it. ``deps`` is any object that tools get in their context. ``human``
    answers requests while the process lives: an object with ``ask`` or a function; without one a run that needs
    an answer waits. ``session_store`` keeps sessions; without one they live in memory. ``governance`` and
    ``safety_rules`` replace and add to those of ``runtime``.

    Raises ConfigError for a declaration that contradicts itself; keys and services are looked at when
    the first run starts. An agent may serve any number of sessions at once.
    """

    __slots__ = (
        "__weakref__", "_capabilities", "_engine", "_generation", "_given", "_hooks", "_lasting", "_runtime",
        "_scratch", "_sessions", "_waiting", "deps", "human", "instructions", "model", "output_type",
        "session_store", "tools",
    )  # fmt: skip

    # Two, because a checker knows what an agent without an output_type answers with only from its default.
    @overload
    def __init__(
        self, *, output_type: None = None, deps: DepsT | None = None, **options: Unpack[_AgentOptions]
    ) -> None: ...
    @overload
    def __init__(
        self, *, output_type: TypeForm[OutputT], deps: DepsT | None = None, **options: Unpack[_AgentOptions]
    ) -> None: ...
    def __init__(
        self,
        *,
        model: AnyModel = "auto",
        instructions: str | Instructions = "",
        tools: Sequence[Any] = (),
        capabilities: Sequence[Any] = (),
        runtime: Runtime | None = None,
        generation: Generation | None = None,
        session_store: SessionStore | None = None,
        output_type: Any = None,
        deps: DepsT | None = None,
        human: Human | Callable[..., Any] | None = None,
        governance: GovernancePolicy | None = None,
        safety_rules: Sequence[SafetyRule] = (),
    ) -> None:
        self.model = model if isinstance(model, str) else _parts().checked_model(model)
        self.instructions = (
            instructions if isinstance(instructions, str) else _parts().checked_instructions(instructions)
        )
        self.tools = _tuple("tools", tools)
        self._given = (runtime, governance, _tuple("safety_rules", safety_rules))
        self._runtime: Runtime | None = None
        self.session_store = None if session_store is None else _parts().checked_store(session_store)
        self.output_type = output_type
        self.deps = deps
        self.human = None if human is None else _as_human(human)
        self._capabilities = _tuple("capabilities", capabilities)
        self._generation = None if generation is None else _parts().checked_generation(generation)
        self._hooks: Hooks | None = None
        self._engine: Engine | None = None
        self._scratch: SessionStore | None = None
        self._lasting: Grounds | None = None
        self._sessions: WeakValueDictionary[str, Session[OutputT, DepsT]] | None = None
        self._waiting: dict[str, Session[OutputT, DepsT]] | None = None
        if len(self.tools) > 1:
            _check_names(self.tools)
        if runtime is not None or governance is not None or self._given[2]:
            _ = self.runtime  # what governs is checked where it is written

    # --- verbs ----------------------------------------------------------------------------------------

    async def run(
        self, task: TaskInput, *, context: RunContext[DepsT] | None = None, deps: DepsT | None = None
    ) -> RunResult[OutputT]:
        """Run one task in a session of its own and return its result.

        ``task`` is text, a ``RuntimeTask``, or a sequence of text and parts in the order the model is to see
        them: ``agent.run(["What is this?", ImagePart("cat.png")])``. Files are read before the run begins;
        raises ConfigError for one that cannot be read or is not what its part says.
        Never raises for what the model or a tool did: look at ``result.state``. Such a session lives in
        memory and is forgotten when the run ends; one that waits is found again by
        ``agent.session(SessionConfig(id=result.session_id))``. Use a session for what must last.
        """
        return await self._one_off().run(task, context=context, deps=deps)

    def stream(
        self, task: TaskInput, *, context: RunContext[DepsT] | None = None, deps: DepsT | None = None
    ) -> Stream[OutputT]:
        """Like ``run``, yielding every event as it happens. Leaving the loop early cancels the run.

        ``async with agent.stream(task) as stream:`` closes it in time, and has ``stream.result``.

        With an ``output_type``, ``output.partial`` events show the object while it grows, not yet validated.
        """
        return self._one_off().stream(task, context=context, deps=deps)

    def run_sync(
        self, task: TaskInput, *, context: RunContext[DepsT] | None = None, deps: DepsT | None = None
    ) -> RunResult[OutputT]:
        """``run`` for code that is not async. Inside a running event loop it works on a thread of its own."""
        return _complete(self.run(task, context=context, deps=deps))

    def session(self, config: SessionConfig | str | None = None) -> Session[OutputT, DepsT]:
        """The session of that id, or a new one. The same id gives the same object while somebody holds it."""
        from .runtime.grounds import SessionConfig
        from .runtime.session import Session

        if not isinstance(config, SessionConfig):
            config = SessionConfig(id=config)
        if config.id is not None and self._waiting and config.id in self._waiting:
            waiting = self._waiting[config.id]
            if waiting.closed:
                waiting = self._waiting[config.id] = waiting.again()
            return waiting
        with _making:  # two threads that ask for the same id must get the same session
            if self._sessions is None:
                self._sessions = WeakValueDictionary()
            known = self._sessions.get(config.id) if config.id is not None else None
            if known is not None and not known.closed:
                known.metadata.update(config.to_metadata())
                return known
            opened: Session[OutputT, DepsT] = Session(self.grounds(), config)
            self._sessions[opened.id] = opened
            return opened

    def on(self, name: str, handler: Handler) -> None:
        """Call ``handler(**payload)`` when ``name`` happens: a hook (``before_tool``), an event word or ``*``.

        ``before_*`` handlers are gates: they may return a ``HookOutcome`` or its word to deny, ask or edit.
        All may be async. Raises ConfigError for a name that never happens.
        """
        self.hooks.on(name, handler)

    def off(self, name: str, handler: Handler) -> None:
        """Stop calling ``handler`` for ``name``."""
        self.hooks.off(name, handler)

    def as_tool(self, *, name: str, description: str, parameters: Any = None) -> AgentTool:
        """This agent as a tool of another one.

        ``parameters`` is what it is asked: a pydantic model, dataclass, TypedDict or Struct, whose validated values
        are its task's input. Without it that is one text, ``task``. Raises ConfigError for a type without fields.
        Its runs share the other's budget, store and human. What the other may not do, they may not do either: its
        modes, rules, vetoes, rates and gates hold for them beside those of this agent, the strictest wins.
        """
        from .runtime.child import AgentTool
        from .safety.declared import text

        return AgentTool(
            self.grounds,
            name=name,
            description=text("the description of an agent as a tool", description),
            scratch=self._scratch_store,
            within=self._reach,
            checks=self._checks,
            reader=None if parameters is None else self._task_type(parameters, name),
        )

    @staticmethod
    def _task_type(parameters: Any, name: str) -> TaskType:
        from .assembly.task_type import TaskType

        return TaskType(parameters, name)

    def check(self) -> list[RuleCheck]:
        """What each rule and veto touches, of this agent and of those it calls as tools. Asks no model, needs no key.

        Rows of the level ``error`` keep a run from beginning; those of the level ``warning`` guard nothing yet.
        Raises ConfigError for tools that cannot be put together.
        """
        return self._checks(set())

    def _checks(self, seen: set[int]) -> list[RuleCheck]:
        from .assembly.build import all_checks

        return all_checks(self.runtime.governance, self.tools, self._capabilities, seen)

    def _reach(self, seen: set[int] | None) -> Sequence[ToolSpec]:
        from .assembly.build import tool_specs

        return tool_specs(self.tools, self._capabilities, seen)

    async def aclose(self) -> None:
        """Let go of the provider's connections and the session store."""
        try:
            if self._engine is not None:
                await self._engine.provider.aclose()
        finally:
            if self.session_store is not None:
                await self.session_store.aclose()

    # --- parts ----------------------------------------------------------------------------------------

    @property
    def hooks(self) -> Hooks:
        """The handlers of this agent."""
        if self._hooks is None:
            from .kernel.hooks import Hooks

            self._hooks = Hooks()
        return self._hooks

    @property
    def runtime(self) -> Runtime:
        """How the agent runs: the given runtime with the given governance and safety rules in it."""
        if self._runtime is None:
            from .policies.profile import Runtime

            given, governance, vetoes = self._given
            if given is not None and not isinstance(given, Runtime):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ConfigError(f"runtime must be a Runtime(...), not {given!r:.80}")
            self._runtime = (given or Runtime()).governed(governance, vetoes)
        return self._runtime

    @property
    def engine(self) -> Engine:
        """The live parts, put together on first use. Raises ConfigError or AuthenticationError then."""
        if self._engine is None:
            with _making:
                self._engine = self._engine or self._build()
        return self._engine

    def _build(self) -> Engine:
        from .assembly.build import Declaration, build_engine

        return build_engine(
            Declaration(
                model=self.model,
                instructions=self.instructions,
                tools=self.tools,
                capabilities=self._capabilities,
                generation=self._generation,
                runtime=self.runtime,
                output_type=self.output_type,
                hooks=self.hooks,
            )
        )

    def grounds(self) -> Grounds:
        """What this agent's sessions stand on."""
        if self._lasting is None:
            from .runtime.grounds import Grounds

            store = self.session_store or self._scratch_store()
            records = self.session_store is not None and not store.durable
            self._lasting = Grounds(
                engine=lambda: self.engine,
                store=store,
                limits=self.runtime.limits.of_a_run(),
                restore=self.runtime.session_restore,
                human=self.human,
                parse=self._parser(),
                context=self._context,
                records=records,
            )
        return self._lasting

    def _one_off(self) -> Session[OutputT, DepsT]:
        from .runtime.grounds import SessionConfig
        from .runtime.session import Session

        grounds = self.grounds().beside(self._scratch_store(), self._keep_or_forget)
        return Session(grounds, SessionConfig())

    def _keep_or_forget(self, session: Session[OutputT, DepsT], result: RunResult[Any]) -> None:
        """A one-off run that waits must be found again by whoever answers it; any other is over."""
        if self._waiting is None:
            self._waiting = {}
        if result.pending:
            self._waiting[session.id] = session
        else:
            self._waiting.pop(session.id, None)
            session.forget()

    def _scratch_store(self) -> SessionStore:
        if self._scratch is None:
            from .assembly.build import memory_store

            self._scratch = memory_store()
        return self._scratch

    def _parser(self) -> Callable[[str, RunContext[Any]], Any] | None:
        if self.output_type is None or self.output_type is str:
            return None
        from .assembly.build import output_spec

        spec = output_spec(self.output_type)
        return spec.parse if spec else None

    def _context(self, context: RunContext[Any] | None, deps: Any) -> RunContext[Any]:
        from .tools.base import RunContext

        given = RunContext() if context is None else context
        if not isinstance(given, RunContext):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError(f"context must be RunContext(inputs={{...}}), not {given!r:.80}")
        if deps is None and given.deps is None:
            deps = self.deps
        return given if deps is None else given.with_deps(deps)

    def __repr__(self) -> str:
        return f"<Agent {self.model!r} with {len(self.tools)} tools>"


def _as_human(human: Human | Callable[..., Any]) -> Human:
    from .hitl.base import Human
    from .hitl.callback import CallbackHuman

    if isinstance(human, type):
        raise ConfigError(
            f"human is the class {human.__name__}: pass one that was made, {human.__name__}(...)"
        )
    if isinstance(human, Human):
        return human
    if not callable(human):
        raise ConfigError(
            f"human must be an object with ask(request) or a function of a request, not {human!r:.80}"
        )
    return CallbackHuman(human)


def _parts() -> ModuleType:
    from .config import parts  # what an agent of defaults does without

    return parts


def _tuple(what: str, given: Sequence[Any]) -> tuple[Any, ...]:
    kept: tuple[Any, ...] = (
        tuple(given) if isinstance(given, list | tuple) else _parts().checked_list(what, given)
    )
    return kept


def _check_names(tools: Sequence[Any]) -> None:
    names = [getattr(tool, "name", None) or getattr(tool, "__name__", None) for tool in tools]
    for name in names:
        if name is not None and names.count(name) > 1:
            raise ConfigError(f"two tools are named {name!r}; give one of them another name")


def _complete(work: Coroutine[Any, Any, ValueT]) -> ValueT:
    """Run a coroutine to its end from code that is not async, wherever it is called."""
    import asyncio
    import contextvars
    import threading

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    outcome: list[Any] = []
    context = contextvars.copy_context()  # the caller's variables: who is asking, which trace this is
    thread = threading.Thread(target=lambda: outcome.append(context.run(_caught, work)), name="loom-run-sync")
    thread.start()
    thread.join()
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    result: ValueT = outcome[0]
    return result


def _caught(work: Coroutine[Any, Any, Any]) -> Any:
    import asyncio

    try:
        return asyncio.run(work)
    except BaseException as error:
        return error
