"""List, Glob, Grep and Read: what they print, where they stop, what they leave out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from loom.config.abilities import Files
from loom.errors import ConfigError, ToolArgumentsError, ToolError, ToolExecutionError, ToolTimeoutError
from loom.tools.base import ToolHandler
from loom.tools.files import file_tools
from loom.tools.filesystem.globs import Glob
from loom.types import ToolResult


class Project:
    """A small tree and the tools rooted in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.configure()

    def configure(self, **settings: Any) -> None:
        self.tools: dict[str, ToolHandler] = {
            handler.tool.name: handler for handler in file_tools(root=self.root, **settings)
        }

    def write(self, path: str, content: str | bytes) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())

    async def call(self, tool: str, **args: Any) -> ToolResult:
        return await self.tools[tool].invoke(args)

    async def lines(self, tool: str, **args: Any) -> list[str]:
        return (await self.call(tool, **args)).text.split("\n")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.write("README.md", "# Title\n\nText about things.\n")
    project.write("src/app.py", "import os\n\n\ndef main() -> None:\n    print('hello')\n")
    project.write("src/pkg/mod.py", "def helper():\n    return 'Hello'\n")
    project.write("src/pkg/style.css", "p { color: red }\n")
    project.write(".git/config", "hello\n")
    return project


# --- List ---------------------------------------------------------------------------------------------


async def test_list_prints_one_entry_a_line(project: Project) -> None:
    (project.root / "now").symlink_to("src/app.py")
    result = await project.call("List")
    assert result.text == "README.md  28\nnow -> src/app.py\nsrc/"
    assert result.data["entries"][0] == {"path": "README.md", "kind": "file", "size": 28}
    assert await project.lines("List", path="src", depth=2) == [
        "src/app.py  51",
        "src/pkg/",
        "src/pkg/mod.py  33",
        "src/pkg/style.css  17",
    ]


async def test_list_of_a_file_or_nothing_says_so(project: Project) -> None:
    (project.root / "empty").mkdir()
    assert await project.lines("List", path="empty") == ["[nothing to list here]"]
    for path in ("README.md", "README.md/", "missing", "now/.."):
        with pytest.raises(ToolError):
            await project.call("List", path=path)


async def test_odd_names_stay_on_their_line(project: Project) -> None:
    for name in (b"a\nb", b"\x1b[2J", b"\xff\xfe", "exe\u202etxt".encode(), "größe".encode()):
        (project.root / os.fsdecode(name)).write_bytes(b"")
    lines = await project.lines("List")
    assert {"a\\nb  0", "\\x1b[2J  0", "\\xff\\xfe  0", "exe\\u202etxt  0", "größe  0"} <= set(lines)
    assert all(line.isprintable() for line in lines)


async def test_large_directory_is_cut_and_says_so(project: Project) -> None:
    for number in range(1005):
        (project.root / "src" / f"f{number:04}").touch()
    result = await project.call("List", path="src")
    lines = result.text.split("\n")
    assert len(lines) == 1001
    assert lines[-1].startswith("[cut: the first 1000 are shown")
    assert result.metadata == {"count": 1000, "truncated": True}
    project.configure(max_entries=100)
    result = await project.call("List", path="src")
    assert "[incomplete: stopped after 100 entries were looked at" in result.text
    assert result.metadata["truncated"] is True


# --- Glob ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "path", "found"),
    [
        ("*", ".", ["README.md"]),
        ("**/*.py", ".", ["src/app.py", "src/pkg/mod.py"]),
        ("**", ".", ["README.md", "src/app.py", "src/pkg/mod.py", "src/pkg/style.css"]),
        ("src/*.py", ".", ["src/app.py"]),
        ("src/**/mod.py", ".", ["src/pkg/mod.py"]),
        ("**/pkg/*", ".", ["src/pkg/mod.py", "src/pkg/style.css"]),
        ("*.py", "src", ["src/app.py"]),
        ("**/*.{css,md}", ".", ["README.md", "src/pkg/style.css"]),
        ("**/[am]*.py", ".", ["src/app.py", "src/pkg/mod.py"]),
        ("**/[!a]*.py", ".", ["src/pkg/mod.py"]),
        ("**/???.py", ".", ["src/app.py", "src/pkg/mod.py"]),
        ("./src//app.py", ".", ["src/app.py"]),
        ("{src/{app,none},README}.{py,md}", ".", ["README.md", "src/app.py"]),
    ],
)
async def test_glob(project: Project, pattern: str, path: str, found: list[str]) -> None:
    assert await project.lines("Glob", pattern=pattern, path=path) == found


async def test_glob_without_a_match_helps(project: Project) -> None:
    result = await project.call("Glob", pattern="*.py")
    assert result.text == "[no file fits the pattern; '**/' before a name looks in all directories]"
    assert result.data["entries"] == []


@pytest.mark.parametrize(
    "pattern", ["", "/", "../*", "a/../b", "x" * 1001, "{a,b}" * 7, "{1,2,3,4,5,6,7,8,9}" * 2]
)
async def test_glob_pattern_that_is_refused(project: Project, pattern: str) -> None:
    with pytest.raises(ToolArgumentsError, match="glob pattern"):
        await project.call("Glob", pattern=pattern)


def test_glob_costs_no_backtracking() -> None:
    began = time.monotonic()
    assert not Glob("*a" * 40 + "b").matches(("a" * 255,))
    assert not Glob("**/a/" * 60 + "b").matches(("a",) * 64)
    assert not Glob("/".join(["*a*a*a*a*b"] * 60)).matches(("a" * 255,) * 60)
    assert time.monotonic() - began < 2


# --- gitignore ----------------------------------------------------------------------------------------


async def test_ignored_files_are_left_out_unless_named(project: Project) -> None:
    project.write(".gitignore", "*.log\nbuild/\n/top.txt\n!keep.log\n")
    project.write("src/.gitignore", "!loud.log\nlocal\n")
    for path in (
        "a.log",
        "keep.log",
        "top.txt",
        "src/top.txt",
        "src/loud.log",
        "src/b.log",
        "src/local",
        "local",
    ):
        project.write(path, "needle\n")
    project.write("build/out.txt", "needle\n")
    project.write("node/build/out.txt", "needle\n")
    found = {".gitignore", "README.md", "keep.log", "local", "src/.gitignore", "src/app.py", "src/loud.log",
             "src/pkg/mod.py", "src/pkg/style.css", "src/top.txt"}  # fmt: skip
    assert set(await project.lines("Glob", pattern="**/*")) == found
    grep = await project.lines("Grep", pattern="needle")
    assert {line.split(":")[0] for line in grep} == {"keep.log", "local", "src/loud.log", "src/top.txt"}
    assert "src/b.log  7" not in await project.lines("List", path="src")
    assert await project.lines("Read", file_path="a.log") == ["     1\tneedle"]
    named = await project.lines("List", path="build")
    assert named == [
        "build/out.txt  7",
        "[this directory is ignored by .gitignore; shown because it was named]",
    ]
    assert "needle" in (await project.call("Grep", pattern="needle", path="build")).text
    project.configure(respect_gitignore=False)
    everything = set(await project.lines("Glob", pattern="**/*"))
    assert everything > found
    assert not any(path.startswith(".git/") for path in everything)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is the reference")
def test_ignore_rules_agree_with_git(project: Project) -> None:
    """Random ignore files over a random tree: what is left is what ``git ls-files`` leaves."""
    shutil.rmtree(project.root / ".git")
    chance = random.Random(11)
    names = ["a", "b", "c.log", "d.txt", "build"]
    for _ in range(60):
        path = "/".join(chance.choices(names, k=chance.randint(1, 4)))
        try:
            project.write(path, "x")
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            continue
    patterns = [
        "*.log",
        "build/",
        "/a",
        "!c.log",
        "a/**/d.txt",
        "**/b",
        "b/*",
        "!b/a/",
        "# no",
        "d.tx?",
        "a/b/",
        "*/c.log",
    ]
    directories = [project.root, *(path for path in project.root.rglob("*") if path.is_dir())]
    subprocess.run(["git", "init", "-q", str(project.root)], check=True, capture_output=True)
    environment = {"PATH": os.environ["PATH"], "HOME": str(project.root), "GIT_CONFIG_NOSYSTEM": "1"}

    async def compare() -> None:
        seen = (await project.call("Glob", pattern="**/*")).data["entries"]
        listed = subprocess.run(
            ["git", "-C", str(project.root), "ls-files", "-co", "--exclude-standard"],
            env=environment, check=True, capture_output=True, text=True,
        )  # fmt: skip
        assert sorted(entry["path"] for entry in seen) == sorted(listed.stdout.split())

    for _ in range(25):
        for directory in directories:
            (directory / ".gitignore").unlink(missing_ok=True)
        for directory in chance.sample(directories, k=min(3, len(directories))):
            (directory / ".gitignore").write_text("\n".join(chance.sample(patterns, k=3)) + "\n")
        asyncio.run(compare())


async def test_ignore_file_cannot_stall_or_break_a_walk(project: Project) -> None:
    project.write(".gitignore", "*a" * 12 + "b\n!\n\\\n**/x/**/y/**/z/**/w\n*.css\n" + "\0\xff\n[\n")
    project.write("a" * 250, "x")
    began = time.monotonic()
    lines = await project.lines("Glob", pattern="**/*")
    assert time.monotonic() - began < 2
    assert "src/pkg/style.css" not in lines
    assert "a" * 250 in lines
    assert "pattern(s) of .gitignore were not applied" in lines[-1]


async def test_ignore_file_that_is_a_link_or_pipe_is_no_ignore_file(project: Project) -> None:
    (project.root / ".gitignore").symlink_to("README.md")
    os.mkfifo(project.root / "src" / ".gitignore")
    assert "src/app.py" in await project.lines("Glob", pattern="**/*")


def children() -> list[str]:
    """Processes started by any of our threads that still exist."""
    found: list[str] = []
    for task in Path("/proc/self/task").iterdir():
        try:
            found += (task / "children").read_text().split()
        except OSError:
            continue
    return found


# --- Grep ---------------------------------------------------------------------------------------------


async def test_grep_prints_path_line_text(project: Project) -> None:
    result = await project.call("Grep", pattern="hello")
    assert result.text == "src/app.py:5:     print('hello')"
    assert result.data["matches"] == [{"path": "src/app.py", "line": 5, "text": "    print('hello')"}]
    assert await project.lines("Grep", pattern="hello", ignore_case=True) == [
        "src/app.py:5:     print('hello')",
        "src/pkg/mod.py:2:     return 'Hello'",
    ]
    assert await project.lines("Grep", pattern=r"^def\s+\w+") == [
        "src/app.py:4: def main() -> None:",
        "src/pkg/mod.py:1: def helper():",
    ]
    assert await project.lines("Grep", pattern="hello|color", glob_pattern="*.css") == [
        "src/pkg/style.css:1: p { color: red }"
    ]
    assert await project.lines("Grep", pattern="Title", path="README.md") == ["README.md:1: # Title"]
    assert await project.lines("Grep", pattern="Title", path="src") == ["[no match in 3 file(s)]"]
    assert await project.lines("Grep", pattern="h", glob_pattern="src/*.py") == [
        "src/app.py:5:     print('hello')"
    ]


async def test_grep_context_groups_neighbours(project: Project) -> None:
    project.write("n.txt", "".join(f"line {number}\n" for number in range(1, 21)))
    assert await project.lines("Grep", pattern=r"line (3|5|15|20)$", path="n.txt", context=1) == [
        "n.txt-2- line 2",
        "n.txt:3: line 3",
        "n.txt-4- line 4",
        "n.txt:5: line 5",
        "n.txt-6- line 6",
        "--",
        "n.txt-14- line 14",
        "n.txt:15: line 15",
        "n.txt-16- line 16",
        "--",
        "n.txt-19- line 19",
        "n.txt:20: line 20",
    ]


async def test_grep_line_numbers_are_those_of_read(project: Project) -> None:
    project.write("mixed", b"one\r\ntwo\rthree\nfour\x0bstill four\xe2\x80\xa8and still\nfive")
    for line in (await project.call("Grep", pattern="o|e", path="mixed")).text.split("\n"):
        number, text = line.removeprefix("mixed:").split(": ", 1)
        shown = (await project.call("Read", file_path="mixed", offset=int(number), limit=1)).text.split(
            "\n["
        )[0]
        assert shown == f"{number:>6}\t{text}"


async def test_grep_stops_at_its_matches(project: Project) -> None:
    project.write("many", "match\n" * 500)
    result = await project.call("Grep", pattern="match", max_matches=7)
    lines = result.text.split("\n")
    assert len(lines) == 8
    assert lines[-1] == "[stopped at 7 matches; narrow `pattern`, `path` or `glob_pattern`]"
    assert result.metadata["truncated"] is True
    result = await project.call("Grep", pattern="match", max_matches=1000, context=20)
    assert len(result.text) < 110_000


async def test_grep_shows_the_match_in_a_long_line(project: Project) -> None:
    project.write("min.js", "x" * 9000 + "needle" + "y" * 9000 + "\n" + "z" * 50_000 + "needle\n")
    [line] = await project.lines("Grep", pattern="needle", path="min.js")
    assert "needle" in line
    assert len(line) < 330


async def test_grep_skips_binary_and_says_what_it_did_not_search(project: Project) -> None:
    project.write("data.bin", b"hello\0hello")
    project.write("image", b"\x89PNG hello")
    project.write("wide.txt", "hello wide".encode("utf-16"))
    project.write("latin.txt", "hello größe".encode("latin-1"))
    lines = await project.lines("Grep", pattern="hello")
    assert "wide.txt:1: hello wide" in lines
    assert "latin.txt:1: hello gr\ufffd\ufffde" in lines
    assert lines[-1] == "[2 binary file(s) not searched]"
    with pytest.raises(ToolExecutionError, match="binary"):
        await project.call("Grep", pattern="hello", path="data.bin")


@pytest.mark.parametrize("pattern", ["(a+)+$", "(.*.*.*.*.*)x"])
async def test_catastrophic_pattern_neither_blocks_nor_hangs(project: Project, pattern: str) -> None:
    project.write("aaa", "a" * 5000 + "b\n")
    late = 0.0

    async def heartbeat() -> None:
        nonlocal late
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            late = max(late, time.monotonic() - before)

    before = set(children())
    beat = asyncio.create_task(heartbeat())
    began = time.monotonic()
    with pytest.raises(ToolTimeoutError, match="simpler pattern"):
        await project.call("Grep", pattern=pattern, path="aaa")
    beat.cancel()
    assert time.monotonic() - began < 6
    assert late < 1.0
    assert set(children()) <= before


async def test_cancelled_grep_leaves_no_process(project: Project) -> None:
    project.write("aaa", "a" * 5000 + "b\n")
    before = set(children())
    task = asyncio.create_task(project.call("Grep", pattern="(a+)+$"))
    while not set(children()) - before:
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    deadline = time.monotonic() + 1.5  # less than the two seconds after which it would end by itself
    while set(children()) - before and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    assert not set(children()) - before


@pytest.mark.parametrize(
    "pattern",
    ["(", "[", "*", "a{99999999999999999999}", "(" * 500, "(?P<x>a)(?P<x>b)", "\\", "(?<=a*)b", "(?z)"],
)
async def test_pattern_that_is_none(project: Project, pattern: str) -> None:
    with pytest.raises(ToolArgumentsError, match="not a valid regular expression"):
        await project.call("Grep", pattern=pattern)


@pytest.mark.parametrize("pattern", ["", "x" * 1001, "a\nb"])
async def test_pattern_that_is_refused(project: Project, pattern: str) -> None:
    with pytest.raises(ToolArgumentsError):
        await project.call("Grep", pattern=pattern)


async def test_walk_ends_with_its_time(project: Project) -> None:
    ticks = iter(range(10_000))
    project.configure(max_seconds=10.0, clock=lambda: float(next(ticks)))
    result = await project.call("Grep", pattern="zzz")
    assert "[incomplete: stopped after 10 seconds were spent" in result.text
    assert result.metadata["truncated"] is True


# --- Read ---------------------------------------------------------------------------------------------


async def test_read_numbers_lines_and_goes_on(project: Project) -> None:
    project.write("n.txt", "".join(f"line {number}\n" for number in range(1, 11)))
    result = await project.call("Read", file_path="n.txt", limit=3)
    assert (
        result.text
        == "     1\tline 1\n     2\tline 2\n     3\tline 3\n[lines 1-3 of 10; go on with offset=4]"
    )
    assert result.metadata["total_lines"] == 10
    result = await project.call("Read", file_path="n.txt", offset=9)
    assert result.text == "     9\tline 9\n    10\tline 10"
    assert result.metadata["truncated"] is False
    with pytest.raises(ToolArgumentsError, match="has 10 lines"):
        await project.call("Read", file_path="n.txt", offset=11)


async def test_pieces_of_a_file_make_the_file(project: Project) -> None:
    chance = random.Random(3)
    text = "".join("x" * chance.randint(0, 300) + "\n" for _ in range(3000))
    project.write("big.txt", text)
    project.configure(max_read_bytes=20_000)
    offset, read = 1, ""
    while True:
        result = await project.call("Read", file_path="big.txt", offset=offset)
        assert len(result.text.encode()) < 20_200
        kept = [line for line in result.text.split("\n") if not line.startswith("[")]
        read += "".join(line.split("\t", 1)[1] + "\n" for line in kept)
        if not result.metadata["truncated"]:
            break
        assert f"go on with offset={offset + len(kept)}" in result.text
        offset += len(kept)
    assert read == text


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "[the file is empty]"),
        (b"no end", "     1\tno end"),
        (b"\n", "     1\t"),
        (b"a\r\nb\rc\n", "     1\ta\n     2\tb\n     3\tc"),
        (b"\xef\xbb\xbfbom", "     1\tbom"),
        ("wide\nü".encode("utf-16"), "     1\twide\n     2\tü"),
        (b"gr\xf6\xdfe", "     1\tgr\ufffd\ufffde\n[bytes that are not UTF-8 are shown as \ufffd]"),
        ("really \ufffd".encode(), "     1\treally \ufffd"),
        ("größe\t日本".encode(), "     1\tgröße\t日本"),
    ],
)
async def test_read_decodes_honestly(project: Project, content: bytes, text: str) -> None:
    project.write("f", content)
    assert (await project.call("Read", file_path="f")).text == text


async def test_read_cuts_long_lines(project: Project) -> None:
    project.write("long", "a" * 2000 + "\n" + "b" * 2001 + "\n" + "c" * 1_000_000 + "\nend\n")
    lines = await project.lines("Read", file_path="long")
    assert lines[0] == "     1\t" + "a" * 2000
    assert lines[1] == "     2\t" + "b" * 2000 + " …[line cut: 2000 of 2001 characters shown]"
    assert lines[2].startswith("     3\t" + "c" * 2000 + " …[line cut: 2000 of 1000000 characters shown]")
    assert lines[3] == "     4\tend"
    assert "long line(s) cut" in lines[4]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"a\0b", "a binary file of 3 bytes"),
        (b"\x89PNG\r\n\x1a\n", "a PNG image"),
        (b"%PDF-1.7", "a PDF"),
        (b"PK\3\4", "ZIP"),
    ],
)
async def test_binary_is_refused_by_name(project: Project, content: bytes, what: str) -> None:
    project.write("f", content)
    with pytest.raises(ToolExecutionError, match=what):
        await project.call("Read", file_path="f")


async def test_one_endless_line_costs_little_memory(project: Project) -> None:
    with (project.root / "sparse").open("wb") as file:
        file.write(b"a" * 10_000)
        file.truncate(40 * 1024 * 1024)
    began = time.monotonic()
    [first, *notes] = await project.lines("Read", file_path="sparse")
    assert len(first) < 2200
    assert time.monotonic() - began < 5
    assert any("cut" in note for note in notes)


async def test_unreadable_and_missing_say_what_to_do(project: Project) -> None:
    with pytest.raises(ToolExecutionError, match="List or Glob"):
        await project.call("Read", file_path="missing.txt")
    with pytest.raises(ToolExecutionError, match="is a directory; list it"):
        await project.call("Read", file_path="src")


@pytest.mark.parametrize(
    ("tool", "args"),
    [
        ("Read", {}),
        ("Read", {"file_path": 5}),
        ("Read", {"file_path": "README.md", "offset": 0}),
        ("Read", {"file_path": "README.md", "limit": 1.5}),
        ("Read", {"file_path": "README.md", "limit": True}),
        ("Read", {"file_path": "README.md", "limit": 10**9}),
        ("Read", {"path": "README.md"}),
        ("List", {"depth": 0}),
        ("List", {"path": None}),
        ("Glob", {}),
        ("Grep", {"pattern": "a", "ignore_case": "yes"}),
        ("Grep", {"pattern": "a", "context": 99}),
        ("Grep", {"pattern": ["a"]}),
    ],
)
async def test_wrong_arguments(project: Project, tool: str, args: dict[str, Any]) -> None:
    with pytest.raises(ToolArgumentsError):
        await project.call(tool, **args)


def open_files() -> int:
    """The files and folders this process has open; sockets and pipes are the business of other tests."""
    found = 0
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one that lists has gone by now
            found += os.readlink(f"/proc/self/fd/{descriptor}").startswith("/")
    return found


async def test_calls_run_side_by_side_and_leak_no_descriptor(project: Project) -> None:
    await project.call("Grep", pattern="h.llo")
    before = open_files()
    for _ in range(3):
        results = await asyncio.gather(
            *(project.call("Read", file_path="README.md") for _ in range(20)),
            *(project.call("Glob", pattern="**/*") for _ in range(20)),
            *(project.call("Grep", pattern="h.llo") for _ in range(4)),
            *(project.call("Read", file_path="../x") for _ in range(10)),
            *(project.call("Grep", pattern="(") for _ in range(2)),
            return_exceptions=True,
        )
        assert sum(isinstance(result, ToolError) for result in results) == 12
    assert open_files() == before


# --- the declaration ----------------------------------------------------------------------------------


def test_declaration_is_a_frozen_value() -> None:
    grant = Files(root="somewhere/that/is/not/there")
    assert grant == Files(True, "files", "somewhere/that/is/not/there")
    assert hash(grant)
    with pytest.raises(AttributeError):
        grant.read_only = False  # type: ignore[misc] # the point of the test


@pytest.mark.parametrize("value", [False, 0, None, "no"])
def test_writing_is_refused_out_loud(value: Any) -> None:
    with pytest.raises(ConfigError, match="not available in this version"):
        Files(read_only=value)


def test_declaration_that_contradicts_itself() -> None:
    for wrong in ({"name": ""}, {"max_read_bytes": 10}):
        with pytest.raises(ConfigError):
            Files(**wrong)  # type: ignore[arg-type] # wrong on purpose


async def test_no_root_is_the_current_directory(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.root)
    tools = {handler.tool.name: handler for handler in file_tools()}
    monkeypatch.chdir("/")  # it was fixed when the tools were made
    assert "README.md  28" in (await tools["List"].invoke({})).text
