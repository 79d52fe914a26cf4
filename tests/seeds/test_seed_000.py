"""The samples of the first seed run as printed, against a loopback model service."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from samples import run_sample, sample

from loom import Agent, Files, FileSessionStore, Model, RunState, SessionConfig, tool
from loom.testing import ModelServer, call, say


@tool(read_only=True)
async def search_docs(query: str) -> str:
    """Search documentation."""
    return f"Results for: {query}"


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("# Widgets\nA library of widgets.\n")
    return tmp_path


def serve(monkeypatch: pytest.MonkeyPatch, server: ModelServer) -> None:
    for vendor in ("ANTHROPIC", "OPENAI"):
        monkeypatch.setenv(f"{vendor}_API_KEY", "test-key")
        monkeypatch.setenv(f"{vendor}_BASE_URL", server.base_url)


def test_quick_start(
    at_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = [
        [call("search_docs", query="widgets"), call("Read", file_path="README.md")],
        "A library of widgets.",
    ]
    with ModelServer.in_thread(script) as server:
        serve(monkeypatch, server)
        run_sample(sample("seed_000", "quick start"))
    assert capsys.readouterr().out == "A library of widgets.\n"
    first, second = server.requests
    assert first.body["model"].startswith("claude-sonnet-"), "a living member of the family"
    assert first.body["max_tokens"] == 512
    assert {"search_docs", "Read", "Glob", "Grep", "List", "WebFetch"} <= {
        t["name"] for t in first.body["tools"]
    }
    results = json.dumps(second.body["messages"])
    assert "Results for: widgets" in results
    assert "A library of widgets." in results


def test_quick_start_without_a_key_says_so(at_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from loom.errors import AuthenticationError

    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with pytest.raises(AuthenticationError, match="ANTHROPIC_API_KEY"):
        run_sample(sample("seed_000", "quick start"))


def test_plain_and_structured_tasks(at_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ModelServer.in_thread(["none that I see", "done"]) as server:
        serve(monkeypatch, server)
        agent = Agent(model=Model.openai("gpt-4o"))
        plain = run_sample(sample("seed_000", "strings"), agent=agent)
        structured = run_sample(sample("seed_000", "structured task"), agent=agent)
    assert plain["result"].output == "none that I see"
    assert structured["result"].output == "done"
    said = server.requests[1].body["messages"][-1]["content"]
    assert said.startswith("Refactor the runtime API")
    for given in ("agent + runtime kernel", "preserve public API", "keep tests green"):
        assert given in said


def test_sessions(at_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ModelServer.in_thread(["small, honest, fast", "It is small."]) as server:
        serve(monkeypatch, server)
        names = run_sample(sample("seed_000", "sessions"), agent=Agent(model=Model.openai("gpt-4o")))
    assert names["second"].output == "It is small."
    messages = server.requests[1].body["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant", "user"]
    assert messages[1]["content"] == "small, honest, fast"
    assert "small, honest, fast" in messages[2]["content"]


def test_durable_store_survives_the_process(at_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ModelServer.in_thread(["forty-two", "forty-two, as I said"]) as server:
        serve(monkeypatch, server)
        for question in ("What is six times seven?", "Say it again"):
            agent: Agent[Any, Any] = run_sample(sample("seed_000", "durable store"))["agent"]
            session = agent.session(SessionConfig(id="demo-user"))
            names = run_sample("result = await session.run(question)", session=session, question=question)
            assert names["result"].state is RunState.COMPLETED
    said = [m["content"] for m in server.requests[1].body["messages"]]
    assert said[:2] == ["What is six times seven?", "forty-two"]
    runs = FileSessionStore(".loom/sessions.json").list_runs("demo-user")
    assert [(run.state, run.output) for run in runs] == [
        ("completed", "forty-two"),
        ("completed", "forty-two, as I said"),
    ]


def test_hooks(at_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from loom.testing import ScriptedProvider

    agent = Agent(model=ScriptedProvider([call("search_docs", query="x"), "ok"]), tools=[search_docs])
    seen: dict[str, list[dict[str, Any]]] = {}
    run_sample(sample("seed_000", "hooks"), agent=agent)
    for name in ("before_run", "before_llm", "after_llm", "before_tool", "after_tool", "after_run"):
        agent.on(name, lambda **event: seen.setdefault(event["event_name"], []).append(event) or None)
    result = run_sample("result = await agent.run('go')", agent=agent)["result"]
    assert capsys.readouterr().out.splitlines() == [
        f"starting {result.run_id}",
        "llm 1",
        "tool search_docs",
        "search_docs True",
        "llm 2",
        "finished completed",
    ]
    expected = {
        "before_run": {"run_id", "session_id", "prompt", "context"},
        "before_llm": {"request", "iteration", "stream"},
        "after_llm": {"request", "response", "iteration", "stream", "error"},
        "before_tool": {"tool_name", "arguments", "tool_call_id", "iteration"},
        "after_tool": {"tool_name", "result", "success", "tool_call_id"},
        "after_run": {"run_id", "session_id", "prompt", "result"},
    }
    for name, keys in expected.items():
        assert keys <= set(seen[name][0]), name


def test_event_streams(
    at_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with ModelServer.in_thread([call("List", path="."), say("One README.")]) as server:
        serve(monkeypatch, server)
        agent = Agent(model=Model.openai("gpt-4o"), capabilities=[Files()])
        names = run_sample(sample("seed_000", "event streams"), agent=agent, SessionConfig=SessionConfig)
    printed = [line.split(" ", 1)[0] for line in capsys.readouterr().out.splitlines()]
    assert printed[0] == "run.started"
    assert printed[-1] == "run.finished"
    assert "text.delta" in printed
    assert "tool.finished" in printed
    assert names["result"].output == "One README."
    assert names["artifacts"][0].metadata["content"] == "One README."
