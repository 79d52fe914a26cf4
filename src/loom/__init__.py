"""The front door of Loom: the names an application needs, each handed on from its home on first use.

Importing this package does nothing else: no file, thread, socket or heavy library is touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._door import hand_on

if TYPE_CHECKING:
    from .agent import Agent
    from .config.abilities import Files, Web
    from .config.model import Generation, Instructions, Model, Price
    from .config.models import FallbackModel, RoutedModel
    from .errors import LoomError
    from .events import (
        AnyEvent,
        CancelRequested,
        ChildFinished,
        ChildStarted,
        ErrorRaised,
        Event,
        LimitReached,
        ModelReplied,
        ModelRequested,
        ModelRetried,
        PartialOutput,
        QualityJudged,
        ReplyCut,
        RequestAnswered,
        RequestExpired,
        RequestOpened,
        RequestWithdrawn,
        RunFinished,
        RunResumed,
        RunStarted,
        SessionForked,
        TextDelta,
        ThinkingDelta,
        ToolCallDelta,
        ToolDecided,
        ToolFinished,
        ToolParked,
        ToolProgress,
        ToolRequested,
        ToolRetried,
        ToolStarted,
    )
    from .hitl.base import Human
    from .hitl.callback import CallbackHuman
    from .hitl.terminal import TerminalHuman
    from .policies.governance import GovernancePolicy
    from .policies.profile import Runtime, RuntimeLimits
    from .policies.restore import SessionRestorePolicy
    from .requests import Answer, Request
    from .runtime.grounds import SessionConfig
    from .runtime.result import RunResult
    from .runtime.run import Run
    from .runtime.session import Session
    from .safety.hooks import HookDecision, HookOutcome
    from .safety.permissions import PermissionMode, PermissionRule
    from .safety.veto import SafetyEvaluator, SafetyRule
    from .signals import RuntimeSignal, RuntimeTask, SignalAdapter
    from .store.base import RunRecord, SessionRecord, SessionStore, TranscriptRecord
    from .store.file import FileSessionStore
    from .store.memory import InMemorySessionStore
    from .store.sqlite import SqliteSessionStore
    from .tools.base import RunContext, ToolContext, ToolHandler
    from .tools.function import tool
    from .tools.registry import ToolRegistry
    from .types import ChatMessage, ErrorInfo, Role, RunState, Source, ToolCall, ToolResult, ToolSpec, Usage

_HOMES = {
    "Agent": ".agent",
    "Answer": ".requests",
    "AnyEvent": ".events",
    "CallbackHuman": ".hitl.callback",
    "CancelRequested": ".events",
    "ChatMessage": ".types",
    "ChildFinished": ".events",
    "ChildStarted": ".events",
    "ErrorInfo": ".types",
    "ErrorRaised": ".events",
    "Event": ".events",
    "FallbackModel": ".config.models",
    "FileSessionStore": ".store.file",
    "Files": ".config.abilities",
    "Generation": ".config.model",
    "GovernancePolicy": ".policies.governance",
    "HookDecision": ".safety.hooks",
    "HookOutcome": ".safety.hooks",
    "Human": ".hitl.base",
    "InMemorySessionStore": ".store.memory",
    "Instructions": ".config.model",
    "LimitReached": ".events",
    "LoomError": ".errors",
    "Model": ".config.model",
    "ModelReplied": ".events",
    "ModelRequested": ".events",
    "ModelRetried": ".events",
    "PartialOutput": ".events",
    "PermissionMode": ".safety.permissions",
    "PermissionRule": ".safety.permissions",
    "Price": ".config.model",
    "QualityJudged": ".events",
    "ReplyCut": ".events",
    "Request": ".requests",
    "RequestAnswered": ".events",
    "RequestOpened": ".events",
    "RequestWithdrawn": ".events",
    "RequestExpired": ".events",
    "Role": ".types",
    "RoutedModel": ".config.models",
    "Run": ".runtime.run",
    "RunContext": ".tools.base",
    "RunFinished": ".events",
    "RunRecord": ".store.base",
    "RunResult": ".runtime.result",
    "RunResumed": ".events",
    "RunStarted": ".events",
    "RunState": ".types",
    "Runtime": ".policies.profile",
    "RuntimeLimits": ".policies.profile",
    "RuntimeSignal": ".signals",
    "RuntimeTask": ".signals",
    "SafetyEvaluator": ".safety.veto",
    "SafetyRule": ".safety.veto",
    "Session": ".runtime.session",
    "SessionConfig": ".runtime.grounds",
    "SessionForked": ".events",
    "SessionRecord": ".store.base",
    "SessionRestorePolicy": ".policies.restore",
    "SessionStore": ".store.base",
    "SignalAdapter": ".signals",
    "Source": ".types",
    "SqliteSessionStore": ".store.sqlite",
    "TerminalHuman": ".hitl.terminal",
    "TextDelta": ".events",
    "ThinkingDelta": ".events",
    "ToolCall": ".types",
    "ToolCallDelta": ".events",
    "ToolContext": ".tools.base",
    "ToolDecided": ".events",
    "ToolFinished": ".events",
    "ToolHandler": ".tools.base",
    "ToolParked": ".events",
    "ToolProgress": ".events",
    "ToolRegistry": ".tools.registry",
    "ToolRequested": ".events",
    "ToolResult": ".types",
    "ToolSpec": ".types",
    "ToolRetried": ".events",
    "ToolStarted": ".events",
    "TranscriptRecord": ".store.base",
    "Usage": ".types",
    "Web": ".config.abilities",
    "tool": ".tools.function",
}

__all__ = [
    "Agent",
    "Answer",
    "AnyEvent",
    "CallbackHuman",
    "CancelRequested",
    "ChatMessage",
    "ChildFinished",
    "ChildStarted",
    "ErrorInfo",
    "ErrorRaised",
    "Event",
    "FallbackModel",
    "FileSessionStore",
    "Files",
    "Generation",
    "GovernancePolicy",
    "HookDecision",
    "HookOutcome",
    "Human",
    "InMemorySessionStore",
    "Instructions",
    "LimitReached",
    "LoomError",
    "Model",
    "ModelReplied",
    "ModelRequested",
    "ModelRetried",
    "PartialOutput",
    "PermissionMode",
    "PermissionRule",
    "Price",
    "QualityJudged",
    "ReplyCut",
    "Request",
    "RequestAnswered",
    "RequestExpired",
    "RequestOpened",
    "RequestWithdrawn",
    "Role",
    "RoutedModel",
    "Run",
    "RunContext",
    "RunFinished",
    "RunRecord",
    "RunResult",
    "RunResumed",
    "RunStarted",
    "RunState",
    "Runtime",
    "RuntimeLimits",
    "RuntimeSignal",
    "RuntimeTask",
    "SafetyEvaluator",
    "SafetyRule",
    "Session",
    "SessionConfig",
    "SessionForked",
    "SessionRecord",
    "SessionRestorePolicy",
    "SessionStore",
    "SignalAdapter",
    "Source",
    "SqliteSessionStore",
    "TerminalHuman",
    "TextDelta",
    "ThinkingDelta",
    "ToolCall",
    "ToolCallDelta",
    "ToolContext",
    "ToolDecided",
    "ToolFinished",
    "ToolHandler",
    "ToolParked",
    "ToolProgress",
    "ToolRegistry",
    "ToolRequested",
    "ToolResult",
    "ToolRetried",
    "ToolSpec",
    "ToolStarted",
    "TranscriptRecord",
    "Usage",
    "Web",
    "tool",
]


_hand_on = hand_on(__name__, _HOMES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("loom-agent")
    return _hand_on(name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
