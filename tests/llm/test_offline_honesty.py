"""What the offline model declines, what it calls when told to, and the shape of its replies."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from offline_bench import ask, declined, file_tools, schema, write

from loom.errors import OfflineError
from loom.llm.base import ContentDeltaEvent, ModelSettings
from loom.llm.offline import OfflineProvider
from loom.llm.offline.tasks import goal_of, is_survey_task, survey_root
from loom.tools.base import ToolHandler
from loom.types import ChatMessage, ChatResponse, Role, StopReason, ToolResult, ToolSpec, Usage


class Search(ToolHandler):
    """Answers with what it was asked, or fails."""

    @property
    def tool(self) -> ToolSpec:
        return ToolSpec("search_docs", parameters=schema(["query"], "limit"))

    async def invoke(self, args: dict[str, Any]) -> ToolResult:
        if args["query"] == "bad":
            return ToolResult("the index is\x1b[31m gone", is_error=True)
        return ToolResult(f"hit for {args['query']}\n```\n  second line")


SURVEYS = [
    "Summarize this repository",
    "summarise the repo",
    "Please give me a short overview of this codebase.",
    "Describe what this project is about",
    "Explain the structure of this project",
    "Inspect the project layout",
    "Inspect the project layout and write a summary",
    "What does this project do?",
    "what's in this folder?",
    "List the files in this directory",
    "Show me the layout of the repository",
    "Tell me about the attached package",
    "How is this codebase organized?",
    "Summarize the current project for a new colleague",
]
OTHERS = [
    "List the main risks in this change",
    "Hello",
    "",
    "Write a poem",
    "Fix the bug in this repository",
    "Explain the bug in this project",
    "Explain why this project fails to build",
    "Refactor the code of this repository",
    "Summarize the plot of Hamlet",
    "What is the capital of France?",
    "List the bugs in this project",
    "Summarize the meeting about the project",
]


@pytest.mark.parametrize("task", SURVEYS)
def test_survey_tasks_are_recognised(task: str) -> None:
    assert is_survey_task(task)


@pytest.mark.parametrize("task", OTHERS)
async def test_other_tasks_are_declined_without_a_call(task: str, tmp_path: Path) -> None:
    text, messages = await declined(task, [*file_tools(write(tmp_path, {"a.py": ""})), Search()])
    assert not any(m.tool_calls for m in messages)
    assert "I have not done this task" in text
    assert "embedded offline model" in text
    assert "not a language model" in text
    assert "ANTHROPIC_API_KEY" in text
    assert "OPENAI_API_KEY" in text
    assert "Ollama" in text
    assert 'model="provider:name"' in text
    assert "`search_docs`" in text


async def test_no_file_tools_no_summary() -> None:
    text, messages = await declined("Summarize this repository", [Search()])
    assert not any(m.tool_calls for m in messages)
    assert "I have not done this task" in text
    assert "Files(read_only=True)" in text


async def test_a_remote_repository_is_declined(tmp_path: Path) -> None:
    task = "Summarize the repository https://git.example/a/b."
    text, messages = await declined(task, file_tools(write(tmp_path, {"a.py": ""})))
    assert not any(m.tool_calls for m in messages)
    assert "`https://git.example/a/b`" in text


@pytest.mark.parametrize(
    ("task", "root"),
    [
        ("Summarize this repository", "."),
        ("Summarize the project in ./web/app.", "web/app"),
        ("Summarize the directory src/loom", "src/loom"),
        ("Summarize the folder /srv/x/", "/srv/x"),
        ("Describe the repository at `deep/down/`", "deep/down"),
        ("Describe the client/server parts of this project", "."),
        ("Describe this project in ./", "."),
    ],
)
def test_the_folder_named(task: str, root: str) -> None:
    assert survey_root(task) == root


def test_what_the_runtime_sets_around_a_goal_is_not_the_goal() -> None:
    assert goal_of('<earlier>\nfix x\n</earlier>\n\ncall a\n\n<context>\n{"k":1}\n</context>') == "call a"
    assert goal_of("plain <context>") == "plain <context>"


async def test_a_named_call_is_made_and_repeated_verbatim() -> None:
    text, messages = await ask('call search_docs {"query": "loom", "limit": 2}', [Search()])
    calls = [call for m in messages for call in m.tool_calls or ()]
    assert [(c.id, c.name, c.arguments) for c in calls] == [
        ("offline_0", "search_docs", '{"query":"loom","limit":2}')
    ]
    assert "````text\nhit for loom\n```\n  second line\n````" in text
    assert "embedded offline model" in text


async def test_a_named_call_that_fails_is_not_a_success() -> None:
    text, _ = await declined('Please use the tool `search_docs` with {"query": "bad"}', [Search()])
    assert "it failed:" in text
    assert "the index is gone" in text
    assert "it returned" not in text


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        ('call nothing {"a": 1}', "no tool of that name"),
        ("call search_docs", "needs the parameter 'query'"),
        ('call search_docs {"query": "x", "root": 1}', "no parameter 'root'"),
        ("call search_docs {query: x}", "not a JSON object"),
        ("call search_docs " + '{"a":' * 50_000, "not a JSON object"),
    ],
)
async def test_a_call_that_does_not_fit_is_not_made(task: str, problem: str) -> None:
    text, messages = await declined(task, [Search()])
    assert not any(m.tool_calls for m in messages)
    assert "I did not call" in text
    assert problem in text


async def test_structured_output_is_declined(tmp_path: Path) -> None:
    with pytest.raises(OfflineError, match="cannot fill a schema"):
        await OfflineProvider().chat(
            [ChatMessage(Role.USER, "Summarize this repository")],
            tools=[handler.tool for handler in file_tools(tmp_path)],
            settings=ModelSettings(output_schema={"type": "object"}),
        )


async def test_replies_have_no_usage_and_name_the_model(tmp_path: Path) -> None:
    _, messages = await ask("Summarize this repository", file_tools(write(tmp_path, {"a.py": ""})))
    response = await OfflineProvider().chat(messages[:-1], model="anything")
    assert response.model == "offline"
    assert response.usage == Usage()
    assert response.stop_reason is StopReason.STOP


async def test_review_d3_a_conversation_without_a_task_is_no_task() -> None:
    for messages in ([], [ChatMessage(Role.SYSTEM, "Be brief.")], [ChatMessage(Role.USER, "")]):
        with pytest.raises(OfflineError, match="not one I can do"):
            await OfflineProvider().chat(messages)


async def test_review_d3_a_stream_fails_before_it_says_anything() -> None:
    with pytest.raises(OfflineError, match="not one I can do"):
        await anext(OfflineProvider().chat_stream([ChatMessage(Role.USER, "Hello")]))


async def test_review_d3_a_folder_that_could_not_be_looked_at_is_not_described(tmp_path: Path) -> None:
    tools = file_tools(write(tmp_path, {"a.py": ""}))
    text, messages = await declined("Summarize the project in missing/folder", tools)
    assert any(m.tool_calls for m in messages), "it did look"
    assert "I could not look at the folder" in text
    assert "missing/folder" in text
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    empty, _ = await ask("Summarize this repository", file_tools(nothing))
    assert "The folder is empty as far as my tools show" in empty


async def test_review_d3_a_failed_call_keeps_its_words_inert() -> None:
    text, _ = await declined('call search_docs {"query": "bad"}', [Search()])
    assert "\x1b" not in text


async def test_the_stream_is_the_reply(tmp_path: Path) -> None:
    tools = file_tools(write(tmp_path, {"README.md": "# T\n\nA thing that does things.\n"}))
    _, messages = await ask("Summarize this repository", tools)
    specs = [handler.tool for handler in tools]
    for length in (2, len(messages) - 1):
        whole = await OfflineProvider().chat(messages[:length], tools=specs)
        events = [e async for e in OfflineProvider().chat_stream(messages[:length], tools=specs)]
        assert events[-1] == whole
        assert isinstance(events[-1], ChatResponse)
        deltas = [e.delta for e in events[:-1] if isinstance(e, ContentDeltaEvent)]
        assert len(deltas) == len(events) - 1
        assert "".join(deltas) == (whole.message.text_content or "")
        assert len(deltas) > 5 or whole.message.tool_calls


@pytest.mark.parametrize(
    "text",
    [
        "-'./" * 100_000,
        "summarize " + "- " * 50_000 + "x",
        "summarize " * 20_000 + "repo",
        "what is the " + " " * 100_000 + "project",
        "what is the project" + " " * 100_000 + "x",
        "call " + "a" * 100_000,
        "list the " * 20_000,
        "of " + "a/" * 100_000,
        "`" * 100_000,
    ],
)
async def test_hostile_tasks_cost_little(text: str) -> None:
    began = time.process_time()
    await declined(text, [Search()])
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize(
    "text",
    [
        " " * 400_000,
        "a  " * 130_000,
        "\n".join("a  " * 300 for _ in range(400)),
        "[" * 200_000,
        "\n".join(f"{'d/' * 200}{i}/" for i in range(500)),
        "\n".join(f"{i:>6}\t" + "x = [" + '"' * 900 for i in range(1, 400)),
        "\n".join(f"{i:>6}\t" + "`" * 900 + "\x1b[" * 500 for i in range(1, 200)),
    ],
)
async def test_hostile_results_cost_little(text: str) -> None:
    class Same(ToolHandler):
        def __init__(self, name: str, *required: str) -> None:
            self._spec = ToolSpec(name, parameters=schema(required, "path", "depth", "limit"))

        @property
        def tool(self) -> ToolSpec:
            return self._spec

        async def invoke(self, args: dict[str, Any]) -> ToolResult:
            listing = "pyproject.toml  9\nREADME.md  9\npackage.json  2\nMakefile  1\nmain.py  3\n"
            return ToolResult(text if self._spec.name == "Read" else listing + text)

    tools = [Same("List"), Same("Glob", "pattern"), Same("Read", "file_path")]
    began = time.process_time()
    answer, _ = await ask("Summarize this repository", tools)
    assert time.process_time() - began < 4.0
    assert len(answer) <= 6_000


async def test_only_declared_parameters_are_used() -> None:
    async def calls(*specs: ToolSpec) -> list[tuple[str, str]]:
        asked = [ChatMessage(Role.USER, "Summarize this repository")]
        try:
            response = await OfflineProvider().chat(asked, tools=specs)
        except OfflineError:
            return []
        return [(call.name, call.arguments) for call in response.message.tool_calls or ()]

    assert await calls(ToolSpec("List", parameters=schema([], "path"))) == [("List", '{"path":"."}')]
    assert await calls(ToolSpec("List")) == [("List", "{}")]
    assert await calls(ToolSpec("List", parameters=schema(["token"], "path"))) == []
    assert await calls(ToolSpec("Read", parameters=schema(["url"]))) == []
    assert await calls(ToolSpec("Glob", parameters={"properties": 3, "required": "pattern"})) == []
