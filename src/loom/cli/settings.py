"""How an agent of the command line is set up: from options to an ``Agent``, and kept so that a run can go on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from ..agent import Agent
from ..assembly.providers import settled
from ..config.abilities import Files, Web
from ..config.model import Model
from ..errors import ConfigError
from ..hitl.base import Human
from ..policies.governance import GovernancePolicy
from ..policies.profile import Runtime, RuntimeLimits
from ..policies.rule_check import RuleCheck
from ..safety.permissions import PermissionRule
from ..store.base import SessionStore


class AgentSettings(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the options say about the agent. ``ask`` and ``deny`` are patterns of tool names.

    ``model`` is ``"provider:name"``, ``"auto"`` or ``"offline"``; ``root`` an absolute path. Plain data without
    keys: it is kept beside a run, so that whoever answers later need not repeat the options.
    """

    model: str = "auto"
    root: str
    web: bool = False
    instructions: str = ""
    max_iterations: int | None = None
    ask: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()

    @classmethod
    def of_options(cls, options: AgentOptions) -> AgentSettings:
        """The settings of a new run: what was given, then the environment, then the defaults."""
        fresh = cls(model=os.environ.get("LOOM_MODEL", "").strip() or "auto", root=os.getcwd())
        return fresh.changed(options)

    def changed(self, options: AgentOptions) -> AgentSettings:
        """These settings with what was given in their place."""
        given = {name: value for name, value in options.given().items() if value not in (None, ())}
        return replace(self, **given)

    def chosen(self) -> tuple[AgentSettings, Model]:
        """The settings with ``auto`` replaced by what it means here and now, and that model, at its list price.

        Raises ConfigError for what names no model. May look for a local Ollama, for 0.3 seconds.
        """
        model = Model.parse(self.model)
        if model.provider == "auto":
            model = settled(model)
        # Whoever reads the cost at the end of a run cannot pass a Price, and waited longer for the model.
        return replace(self, model=model.identifier), replace(model, price="auto")

    def declare(self, model: Model, *, human: Human | None, store: SessionStore | None) -> Agent[str, Any]:
        """The agent: reading files under the root always, the web when granted, the rules given."""
        capabilities: list[Files | Web] = [Files(read_only=True, root=Path(self.root))]
        if self.web:
            capabilities.append(Web.enabled())
        rules = (
            *(PermissionRule.deny(pattern, reason="--deny-tool was given") for pattern in self.deny),
            *(PermissionRule.ask(pattern, reason="--ask was given") for pattern in self.ask),
        )
        limits = RuntimeLimits()
        if self.max_iterations is not None:
            limits = RuntimeLimits(max_iterations=self.max_iterations)
        return Agent(
            model=model,
            instructions=self.instructions,
            capabilities=capabilities,
            runtime=Runtime(limits=limits, governance=GovernancePolicy(rules=rules)),
            session_store=store,
            human=human,
        )

    def rules_of(self, agent: Agent[str, Any]) -> list[tuple[str, RuleCheck]]:
        """Each rule as it was given, with what it touches of ``agent``, which these settings declared.

        Raises ConfigError for one that guards nothing: whoever denied ``raed`` believes that nothing can be read.
        """
        given = [*(f"--deny-tool {name!r}" for name in self.deny), *(f"--ask {name!r}" for name in self.ask)]
        found = list(zip(given, agent.check(), strict=True))
        for option, row in found:
            if row.level == "error":
                more = "" if self.web else "; --web adds those of the web"
                raise ConfigError(f"{option}: {row.problem}{more}")
        return found


class AgentOptions(Struct, frozen=True, kw_only=True):
    """The options of the agent as they were given; None and empty when they were not."""

    model: str | None = None
    root: Path | None = None
    web: bool | None = None
    instructions: str | None = None
    max_iterations: int | None = None
    ask: tuple[str, ...] = ()
    deny_tool: tuple[str, ...] = ()

    def given(self) -> dict[str, Any]:
        """The options by the names of the settings."""
        return {
            "model": self.model,
            "root": None if self.root is None else str(self.root.absolute()),
            "web": self.web,
            "instructions": self.instructions,
            "max_iterations": self.max_iterations,
            "ask": self.ask,
            "deny": self.deny_tool,
        }
