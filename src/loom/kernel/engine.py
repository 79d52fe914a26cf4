"""The live parts an agent is made of, and what one run brings with it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..events import Event
from ..hitl.base import Human
from ..llm.base import LLMProvider, ModelSettings
from ..policies.governance import GovernancePolicy
from ..store.base import SessionStore
from ..tools.base import RunContext
from ..tools.registry import ToolRegistry
from ..types import ChatMessage, ToolResult, ToolSpec, Usage
from .budget import Budget
from .hooks import Hooks
from .patience import Patience

TOOL_TIMEOUT = 300.0
"""Seconds a tool may take unless it says otherwise: five minutes, longer than most builds, shorter than a night."""

CANCEL_GRACE = 5.0
"""Seconds a tool that was told to stop may take to tidy up. Half of what service managers give a whole process."""


class OutputGate(Protocol):
    """What a final reply is held against."""

    @property
    def name(self) -> str:
        """What it is called in events."""
        ...

    @property
    def attempts(self) -> int:
        """How many replies may be judged before the run fails."""
        ...

    @property
    def opening(self) -> str:
        """The brackets a reply that passes may begin with, to show it while it grows; empty for no showing."""
        ...

    def judge(self, text: str, context: RunContext[Any]) -> str | None:
        """None when the reply passes, else the critique the model is given."""
        ...


def no_price(usage: Usage, model: str) -> float | None:
    """The price of a model nobody knows the price of: unknown, which is not zero."""
    return None


class Estimate(Protocol):
    """How many tokens a conversation is, roughly, for services that do not say."""

    def __call__(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec], /) -> int:
        """The tokens of ``messages`` asked with ``tools``."""
        ...


class Cap(Protocol):
    """What keeps a result from filling the window: it shows the beginning, and has the whole kept aside."""

    def fits(self, result: ToolResult) -> bool:
        """Whether a look is enough to see that nothing is to be done."""
        ...

    async def cut(
        self, result: ToolResult, call_id: str, keep: Callable[[str, str], Awaitable[bool]]
    ) -> ToolResult:
        """The result as the model gets it. ``keep(reference, text)`` says False for what could not be kept."""
        ...


@dataclass(slots=True, kw_only=True)
class Engine:
    """A compiled agent: ports with their adapters in place. Holds nothing of any conversation.

    ``edit_messages`` may replace the window right before each model call (the harness face's hook).
    ``outbound`` makes a provider that is sent no secrets out of another one, None when nothing is taken out;
    ``provider`` is such a one already, and the runs below this one get the same. ``cap`` shortens oversized
    results, None leaves them. ``price`` turns usage into money or None, given the model that used it: its name in
    ``Attempt``, else in the reply; ``unpriced`` names the models for which it cannot. ``estimate`` stands in for
    usage that a service does not report. ``cancel_grace`` is how many seconds a tool that was told to stop may go
    on before it is left behind. ``clock`` is the time of day, in Unix seconds; ``pace`` is what durations are measured
    by, in seconds, since the time of day is corrected now and then.
    """

    provider: LLMProvider
    estimate: Estimate
    model: str | None = None
    instructions: str = ""
    tools: ToolRegistry = field(default_factory=ToolRegistry)
    settings: ModelSettings | None = None
    hooks: Hooks = field(default_factory=Hooks)
    governance: GovernancePolicy = field(default_factory=GovernancePolicy)
    output_gate: OutputGate | None = None
    price: Callable[[Usage, str], float | None] = no_price
    unpriced: tuple[str, ...] = ()
    cap: Cap | None = None
    outbound: Callable[[LLMProvider], LLMProvider] | None = None
    edit_messages: Callable[[list[ChatMessage]], Awaitable[Sequence[ChatMessage] | None]] | None = None
    tool_timeout: float = TOOL_TIMEOUT
    cancel_grace: float = CANCEL_GRACE
    clock: Callable[[], float] = time.time
    pace: Callable[[], float] = time.monotonic


class CallRates:
    """How often each tool ran in the last minute of one session, and of each agent that it calls as a tool."""

    __slots__ = ("_below", "_calls")

    def __init__(self) -> None:
        self._calls: dict[str, deque[float]] = {}
        self._below: dict[int, CallRates] = {}

    def below(self, engine: Engine) -> CallRates:
        """The rates of an agent below, which has a session of its own for each call and one count for all."""
        return self._below.setdefault(id(engine), CallRates())

    def has_room(self, tool: str, limit: int, now: float) -> bool:
        """Whether one more call at ``now`` would be within ``limit`` in 60 seconds."""
        recent = self._calls.get(tool)
        while recent and recent[0] <= now - 60.0:
            recent.popleft()
        return len(recent or ()) < limit

    def count(self, tool: str, now: float) -> None:
        """Remember one call at ``now``."""
        self._calls.setdefault(tool, deque()).append(now)


@dataclass(slots=True, kw_only=True)
class Scope:
    """What belongs to one run while it is driven: who answers, what tools get, what may be spent.

    ``streaming`` asks the provider for deltas. ``store`` keeps oversized outputs and the logs of child runs.
    ``asked`` is what hooks are told of the model call under way, ``late`` what came of calls broken off.
    ``cut`` is what there was of a reply that was broken off, until that is written down. ``patience`` is had with code
    that does not stop when it is told to. ``above`` is the scope of the run that started this one: what that may not
    do, this may not do either.
    """

    engine: Engine
    budget: Budget
    above: Scope | None = None
    store: SessionStore | None = None
    context: RunContext[Any] = field(default_factory=RunContext[Any])
    human: Human | None = None
    streaming: bool = False
    rates: CallRates = field(default_factory=CallRates)
    asked: dict[str, Any] = field(default_factory=dict[str, Any])
    late: list[Event] = field(default_factory=list[Event])
    cut: Event | None = None
    patience: Patience = field(default_factory=Patience)
    chain: tuple[Scope, ...] = field(init=False, repr=False)
    provider: LLMProvider = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.chain = (self, *self.above.chain) if self.above else (self,)
        self.provider = self.engine.provider
        if self.engine.outbound is None:
            outbound = next((scope.engine.outbound for scope in self.chain if scope.engine.outbound), None)
            self.provider = outbound(self.provider) if outbound else self.provider

    @property
    def powers(self) -> Iterator[GovernancePolicy]:
        """The policies that bind this run: its own, then those of the runs above it."""
        return (scope.engine.governance for scope in self.chain)

    @property
    def gatekeepers(self) -> Iterator[Hooks]:
        """Whose gates this run passes: its own, then those of the runs above it, each once."""
        seen: set[int] = set()
        for scope in self.chain:
            if scope.engine.hooks and id(scope.engine.hooks) not in seen:
                seen.add(id(scope.engine.hooks))
                yield scope.engine.hooks

    @property
    def stops_on_denial(self) -> bool:
        """Whether a refused call ends the run."""
        return any(policy.on_denial == "stop" for policy in self.powers)
