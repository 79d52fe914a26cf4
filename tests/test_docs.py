"""The documentation, held to its word: its code runs, its commands exist, its links lead somewhere.

Python blocks run in order, each as a program of its own, in an empty folder with a small project in it, where
the model services are a scripted server on this machine. Marks are HTML comments right above a block:

``<!-- says: hello -->``  what the model replies in this Python block; ``||`` stands between replies, and
                          ``name({"key": "value"})`` is a tool call. Without it the reply is some text.
``<!-- continues -->``    a Python block that goes on where the one before it ended
``<!-- output -->``       a text block: exactly what the program before it prints; ``...`` stands for anything
``<!-- skip: why -->``    a shell block that is not checked; Python blocks cannot be skipped
"""

from __future__ import annotations

import ast
import asyncio
import doctest
import inspect
import json
import linecache
import re
import shlex
import subprocess
import sys
import tomllib
import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

import sample_types
from loom.testing.model_server import ModelServer
from loom.testing.scripted import call
from markdown_blocks import Block, anchors, blocks, links

ROOT = Path(__file__).parent.parent
PAGES = [
    page
    for page in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        *ROOT.glob("docs/**/*.md"),
    )
    if page.exists()
]
EXAMPLES = sorted(ROOT.glob("examples/*.py"))
PYTHON, SHELL = ("python", "py"), ("console", "bash", "sh", "shell")
PLAIN = (
    "",
    "diff",
    "http",
    "ini",
    "json",
    "jsonl",
    "makefile",
    "markdown",
    "mermaid",
    "text",
    "toml",
    "yaml",
)
FOREIGN = (
    "cat",
    "cd",
    "cp",
    "curl",
    "echo",
    "export",
    "git",
    "kill",
    "ls",
    "mkdir",
    "ollama",
    "pytest",
    "rm",
    "ruff",
    "source",
    "uv",
)


# --- python blocks ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Program:
    """One Python block and those that continue it, with what it is said to print."""

    parts: list[Block]
    output: str | None = None


def programs(page: Path) -> Iterator[Program]:
    current: Program | None = None
    for block in blocks(page):
        if block.language in PYTHON and block.mark == "continues":
            assert current is not None, f"{block.where} continues nothing"
            current.parts.append(block)
        elif block.language in PYTHON:
            if current is not None:
                yield current
            current = Program([block])
        elif block.mark == "output":
            assert current is not None, f"{block.where} shows the output of nothing"
            current.output = (current.output or "") + block.text
    if current is not None:
        yield current


def run(program: Program, module: types.ModuleType) -> None:
    """Execute the parts as one program. ``await`` at the top level is allowed, as in a notebook."""
    with asyncio.Runner() as runner:
        for part in program.parts:
            # Padded, so that tracebacks and inspect.getsource() point into the page.
            source = "\n" * part.line + part.text
            linecache.cache[str(part.path)] = (len(source), None, source.splitlines(True), str(part.path))
            flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            code = compile(source, str(part.path), "exec", flags, dont_inherit=True)
            if code.co_flags & inspect.CO_COROUTINE:
                runner.run(eval(code, vars(module)))
            else:
                exec(code, vars(module))


PROGRAMS = [program for page in PAGES for program in programs(page)]


def replies(mark: str) -> list[Any]:
    """The script of the model service: what a mark says, else enough small talk for any program."""
    if not mark.startswith("says:"):
        return ["A short answer to what was asked."] * 50
    items: list[Any] = []
    for said in mark.removeprefix("says:").split("||"):
        found = re.fullmatch(r"(\w+)\((\{.*\})\)", said.strip())
        items.append(call(found[1], **json.loads(found[2])) if found else said.strip())
    return items


@pytest.fixture
def model_services(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The environment of a reader with keys, whose services are one scripted server on this machine."""
    program = request.node.callspec.params.get("program")
    with ModelServer.in_thread(replies(program.parts[0].mark if program else "")) as server:
        for vendor in ("OPENAI", "ANTHROPIC"):
            monkeypatch.setenv(f"{vendor}_API_KEY", "test")
            monkeypatch.setenv(f"{vendor}_BASE_URL", server.base_url)
        yield


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with a small project in it, as working folder and as home."""
    project = tmp_path / "project"
    (project / "src").mkdir(parents=True)
    (project / "README.md").write_text("# Sample\n\nA small project to read.\n", encoding="utf-8")
    (project / "pyproject.toml").write_text('[project]\nname = "sample"\nversion = "1.0"\n', encoding="utf-8")
    (project / "src" / "main.py").write_text('print("hello")\n', encoding="utf-8")
    monkeypatch.chdir(project)
    monkeypatch.setenv("HOME", str(tmp_path))
    return project


@pytest.mark.parametrize("program", PROGRAMS, ids=[program.parts[0].where for program in PROGRAMS])
@pytest.mark.usefixtures("model_services", "workspace")
def test_python_blocks_run(
    program: Program, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)  # where a program's classes say they live
    run(program, module)
    if program.output is not None:
        said = capsys.readouterr().out
        alike = doctest.OutputChecker().check_output(program.output, said, doctest.ELLIPSIS)
        assert alike, f"the page says:\n{program.output}\nthe program says:\n{said}"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
@pytest.mark.usefixtures("model_services")
def test_examples_run(example: Path, workspace: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-W", "error", str(example)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=workspace,
        timeout=50,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert finished.stdout.strip(), "an example shows something"


def all_blocks() -> Iterator[Block]:
    for page in PAGES:
        yield from blocks(page)


def test_every_block_says_what_it_is() -> None:
    known = {*PYTHON, *SHELL, *PLAIN}
    strays = [f"{block.where}: {block.language}" for block in all_blocks() if block.language not in known]
    assert strays == []


def test_python_blocks_are_never_skipped() -> None:
    skipped = [block for block in all_blocks() if block.mark.startswith("skip")]
    assert [block.where for block in skipped if block.language not in SHELL] == []
    assert [block.where for block in skipped if not re.fullmatch(r"skip: \S.+", block.mark)] == []


# --- shell blocks -------------------------------------------------------------------------------------


def commands(block: Block) -> Iterator[list[str]]:
    """The commands of a shell block, split into words; of a console block only what follows a prompt."""
    text = block.text.replace("\\\n", " ")
    for line in text.splitlines():
        if block.language == "console":
            if not line.startswith("$ "):
                continue
            line = line[2:]
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;<>")
        lexer.whitespace_split = True
        words: list[str] = []
        for token in lexer:
            if token and set(token) <= set("&|;"):
                if words:
                    yield words
                words = []
            else:
                words.append(token)
        if words:
            yield words


@cache
def verbs() -> frozenset[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return frozenset(re.findall(r"^([a-z][\w-]*):", makefile, re.MULTILINE))


@cache
def project() -> dict[str, Any]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        table: dict[str, Any] = tomllib.load(file)["project"]
        return table


@cache
def loom_help(*words: str) -> str | None:
    """What ``loom WORDS --help`` says, or None when there is no such command."""
    finished = subprocess.run(
        [sys.executable, "-m", "loom.cli", *words, "--help"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return finished.stdout if finished.returncode == 0 else None


def faults_of_loom(words: list[str]) -> Iterator[str]:
    path: list[str] = []
    text = loom_help()
    assert text is not None, "`loom --help` fails"
    rest = [word for word in words if not word.startswith("-")]
    while "Commands:" in text and rest:
        path.append(rest.pop(0))
        found = loom_help(*path)
        if found is None:
            yield f"there is no `loom {' '.join(path)}`"
            return
        text = found
    for option in (word.partition("=")[0] for word in words if word.startswith("-") and word != "-"):
        if not re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text):
            yield f"`loom {' '.join(path)}` has no option {option}"


def faults_of_python(words: list[str]) -> Iterator[str]:
    if words[:1] == ["-m"]:
        if words[1] == "pip":
            yield from faults_of_pip(words[2:])
        elif words[1] not in ("venv", "loom.cli") and not (ROOT / words[1]).is_dir():
            yield f"there is no module {words[1]}"
    elif words and words[0].endswith(".py") and not (ROOT / words[0]).is_file():
        yield f"there is no file {words[0]}"


def faults_of_pip(words: list[str]) -> Iterator[str]:
    for word in words:
        found = re.match(r"(?:loom-agent|[./][^\[]*)\[([\w,-]+)\]", word)
        for extra in found[1].split(",") if found else ():
            if extra not in project().get("optional-dependencies", {}):
                yield f"there is no extra {extra}"
        if re.match(r"loom-agent\b(?! @)", word):
            yield "the index gives another project's release by this name: install from a checkout"
        elif re.match(r"loom(?!-agent)\b", word):
            yield f"the distribution is called loom-agent, not {word}"


def faults(words: list[str]) -> Iterator[str]:
    while words and re.fullmatch(r"\w+=.*", words[0]):
        words = words[1:]  # a variable set for this command
    command, rest = (words[0], words[1:]) if words else ("", [])
    if command == "make":
        named = [word for word in rest if "=" not in word and not word.startswith("-")]
        yield from (f"there is no verb {verb}" for verb in named if verb not in verbs())
    elif command == "loom":
        yield from faults_of_loom(rest)
    elif command in ("python", "python3"):
        yield from faults_of_python(rest)
    elif command == "pip" or words[:2] == ["uv", "pip"] or words[:2] == ["uv", "add"]:
        yield from faults_of_pip(rest)
    elif (ROOT / command).is_file():
        return
    elif command and command not in FOREIGN:
        yield f"nobody knows the command {command}"


SHELL_BLOCKS = [b for b in all_blocks() if b.language in SHELL and not b.mark.startswith("skip")]


@pytest.mark.parametrize("block", SHELL_BLOCKS, ids=[block.where for block in SHELL_BLOCKS])
def test_commands_exist(block: Block) -> None:
    assert [fault for words in commands(block) for fault in faults(words)] == []


# --- links --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    broken: list[str] = []
    for target in links(page):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue  # another site's page; only a network could tell
        path, _, anchor = unquote(target).partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.is_relative_to(ROOT) or not there.exists():
            broken.append(f"{target}: no such file")
        elif anchor and there.suffix == ".md" and anchor not in anchors(there):
            broken.append(f"{target}: no such heading")
    assert broken == []


# --- the checks themselves ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("make tset", "there is no verb tset"),
        ("cd x && make tset", "there is no verb tset"),
        ("python examples/00_nothing.py", "there is no file examples/00_nothing.py"),
        ("python -m benchmarkz", "there is no module benchmarkz"),
        ("pip install '.[nothing]'", "there is no extra nothing"),
        ("pip install -e '/a/checkout[nothing]'", "there is no extra nothing"),
        (
            "pip install loom-agent",
            "the index gives another project's release by this name: install from a checkout",
        ),
        ("python -m pip install loom", "the distribution is called loom-agent, not loom"),
        ("frobnicate --all", "nobody knows the command frobnicate"),
    ],
)
def test_a_wrong_command_is_noticed(command: str, complaint: str) -> None:
    block = Block(ROOT / "README.md", 1, "console", f"$ {command}  # why not\n{command} is output\n", "")
    assert [fault for words in commands(block) for fault in faults(words)] == [complaint]


def test_a_page_is_read_as_it_is_meant(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A `code` heading\n\n[a](b.md#c) and `[no](link)`\n\n<!-- continues -->\n\n"
        "  ```Python title=x\n  if True:\n      pass\n  ```\n\n~~~\n[no](link)\n```python\n~~~\n",
        encoding="utf-8",
    )
    first, second = blocks(page)
    assert (first.language, first.mark, first.line) == ("python", "continues", 7)
    assert first.text == "if True:\n    pass\n"
    assert (second.language, second.text) == ("", "[no](link)\n```python\n")
    assert links(page) == ["b.md#c"]
    assert "a-code-heading" in anchors(page)


def test_a_failing_program_fails_where_the_page_says(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "text\n\n```python\nimport asyncio\nawait asyncio.sleep(0)\n1 / 0\n```\n", encoding="utf-8"
    )
    (program,) = programs(page)
    with pytest.raises(ZeroDivisionError) as raised:
        run(program, types.ModuleType("__main__"))
    assert raised.traceback[-1].path == page
    assert raised.traceback[-1].lineno == 5  # counted from 0


def test_a_sample_becomes_a_module_that_checkers_read(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "text\n\n```python\nfrom asyncio import sleep\n```\n\nand then\n\n<!-- continues -->\n"
        "```python\nawait sleep(0)\nwrong = 1 + 'x'\n```\n\n```python\nimport os\n```\n",
        encoding="utf-8",
    )
    first, second = (sample_types.as_module(program) for program in sample_types.samples(page))
    assert first.splitlines()[11] == "    wrong = 1 + 'x'", "on the line it has on its page"
    assert "async def sample() -> None:" in first
    assert second.strip() == "import os"
