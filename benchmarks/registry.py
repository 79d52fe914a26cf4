"""Which rows there are, and what each needs to be imported and installed. Imports no client."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One client. ``entry`` imports its front door, ``ready`` all an OpenAI-compatible agent comes to need.

    ``requirements`` are what a peer's environment is made of; ours are in the environment already.
    ``versions`` are the distributions whose versions are shown. ``client`` is the class in the module, where
    that has several. ``only`` are the groups of figures it is measured for; empty: all.
    """

    name: str
    module: str
    entry: str
    ready: str
    requirements: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    client: str = "CLIENT"
    only: tuple[str, ...] = ()

    def wants(self, group: str) -> bool:
        """Whether it is measured for this group of figures."""
        return not self.only or group in self.only


# Building the live parts brings in what an agent like that needs: nothing here has to know the modules.
_LOOM_READY = """from loom import Agent, Model, tool
def add(a: int, b: int) -> int: "Add."
model = Model.openai("m", base_url="http://127.0.0.1:1/v1", api_key="sk-0")
agent = Agent(model=model, tools=[tool(add)])
agent.engine, agent.session()
import loom.llm.http
"""
_LOOM_LOOP_READY = """from loom.loop import Agent, AgentConfig
from loom import ToolRegistry, tool
from loom.llm.openai_compat import OpenAICompatibleProvider
def add(a: int, b: int) -> int: "Add."
provider = OpenAICompatibleProvider("http://127.0.0.1:1/v1", "sk-0", "m")
Agent(provider=provider, tool_registry=ToolRegistry([tool(add)]))
import loom.llm.http
"""

OURS = (
    Row("floor_raw", "benchmarks.clients.floor_raw", "import asyncio, json", "import asyncio, json"),
    Row(
        "floor_aiohttp",
        "benchmarks.clients.floor_aiohttp",
        "import asyncio, aiohttp, msgspec",
        "import asyncio, aiohttp, msgspec",
        versions=("aiohttp", "msgspec"),
    ),
    Row(
        "loom",
        "benchmarks.clients.loom_agent",
        "from loom import Agent, Model, tool",
        _LOOM_READY,
        versions=("loom-agent", "pydantic"),
    ),
    Row(
        "loom_loop",
        "benchmarks.clients.loom_loop",
        "from loom.loop import Agent, AgentConfig\nfrom loom import tool, ToolRegistry",
        _LOOM_LOOP_READY,
    ),
)

_BY_WIRE = ("step", "token", "streams")
WIRES = tuple(
    Row(
        f"loom_{wire}",
        "benchmarks.clients.loom_wires",
        "import loom",
        "import loom",
        client=client,
        only=_BY_WIRE,
    )
    for wire, client in (("anthropic", "Anthropic"), ("gemini", "Gemini"), ("responses", "Responses"))
)
"""The same agent over the other wires, for what depends on the wire."""

PEERS = (
    Row(
        "pydantic-ai",
        "benchmarks.peers.pydantic_ai",
        "from pydantic_ai import Agent",
        "from pydantic_ai import Agent\nfrom pydantic_ai.models.openai import OpenAIChatModel\n"
        "from pydantic_ai.providers.openai import OpenAIProvider",
        ("pydantic-ai-slim[openai]",),
        ("pydantic-ai-slim", "openai"),
    ),
    Row(
        "openai-agents",
        "benchmarks.peers.openai_agents",
        "from agents import Agent, Runner, function_tool",
        "from agents import Agent, Runner, function_tool, OpenAIChatCompletionsModel\nimport openai",
        ("openai-agents",),
        ("openai-agents", "openai"),
    ),
    Row(
        "agno",
        "benchmarks.peers.agno",
        "from agno.agent import Agent",
        "from agno.agent import Agent\nfrom agno.models.openai.like import OpenAILike",
        ("agno", "openai", "sqlalchemy[asyncio]"),
        ("agno", "openai"),
    ),
    Row(
        "langgraph",
        "benchmarks.peers.langgraph",
        "from langchain.agents import create_agent",
        "from langchain.agents import create_agent\nfrom langchain_openai import ChatOpenAI",
        ("langgraph", "langchain", "langchain-openai", "langgraph-checkpoint-sqlite"),
        ("langgraph", "langchain", "langchain-openai", "openai"),
    ),
    Row(
        "agent-framework",
        "benchmarks.peers.agent_framework",
        "from agent_framework import Agent",
        "from agent_framework import Agent\nfrom agent_framework.openai import OpenAIChatCompletionClient",
        ("agent-framework-core", "agent-framework-openai"),
        ("agent-framework-core", "agent-framework-openai", "openai"),
    ),
)

ROWS = {row.name: row for row in (*OURS, *WIRES, *PEERS)}
