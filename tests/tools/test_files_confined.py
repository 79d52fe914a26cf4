"""The root of the file tools holds against links, climbs, special files, odd names and races."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loom.errors import ConfigError, ToolError, ToolPermissionError
from loom.tools.base import ToolHandler
from loom.tools.files import file_tools

CANARY = "CANARY-f3a9"


class Bench:
    """A tree with traps, canaries around it, and the tools rooted in it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.outside = base / "outside"
        self.root = base / "root"
        (self.outside / "dir").mkdir(parents=True)
        (self.root / "sub" / "deep").mkdir(parents=True)
        for path in (
            self.outside / "secret",
            self.outside / "dir" / "secret",
            base / "secret",
            base / "rootsecret",
        ):
            path.write_text(f"{CANARY} {path.name}\n")
        (base / "root-twin").mkdir()
        (base / "root-twin" / "secret").write_text(CANARY)
        for name in (
            "a.txt",
            "sub/b.txt",
            "sub/deep/c.txt",
            ".hidden",
            "sp ace.txt",
            "-dash",
            "größe.txt",
            "~",
        ):
            (self.root / name).write_text(f"inside {name}\n")
        self.tools = tools_in(self.root)

    def link(self, name: str, target: str | Path) -> None:
        (self.root / name).symlink_to(target)

    async def every_tool(self, path: str) -> list[str]:
        """What each tool says about ``path``: its text, or its error."""
        calls: list[tuple[str, dict[str, Any]]] = [
            ("Read", {"file_path": path}),
            ("List", {"path": path, "depth": 5}),
            ("Glob", {"path": path, "pattern": "**/*"}),
            ("Grep", {"path": path, "pattern": "CANARY"}),
        ]
        said: list[str] = []
        for name, args in calls:
            try:
                said.append((await self.tools[name].invoke(args)).text)
            except ToolError as error:
                said.append(f"{type(error).__name__}: {error}")
        return said


def tools_in(root: Path, **settings: Any) -> dict[str, ToolHandler]:
    return {handler.tool.name: handler for handler in file_tools(root=root, **settings)}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def read(bench: Bench, path: str) -> str:
    return (await bench.tools["Read"].invoke({"file_path": path})).text


ESCAPES = [
    "..",
    "../",
    "../secret",
    "../outside/secret",
    "./../secret",
    "sub/../../secret",
    "sub/deep/../../../secret",
    "sub/./../.././secret",
    "sub//..//..//secret",
    "../root/../secret",
    "../root-twin/secret",
    "../rootsecret",
    "../../../../../../../../etc/passwd",
    "a.txt/../../secret",
    "missing/../../secret",
    "/etc/passwd",
    "//etc/passwd",
    "/",
    "/proc/self/environ",
    "/proc/self/root/etc/passwd",
    "/dev/zero",
    "{base}/secret",
    "{base}/root/../secret",
    "{base}/root-twin/secret",
    "{base}/rootsecret",
    "{base}/root/sub/../../secret",
    "{base}",
    "{base}/",
    "{base}/./root/../outside/secret",
    "~/secret",
    "~root/.bashrc",
    "$HOME/secret",
    "..\\secret",
    "%2e%2e/secret",
    "..%2fsecret",
    "%00",
    "..;/secret",
    ". ./secret",
    ".. /secret",
    " ../secret",
    "...",
    "\uff0e\uff0e/secret",
    "\u2024\u2024/secret",
    "..\u2215secret",
    "..\u2044secret",
    "file://{base}/secret",
    "..\0/secret",
    "a.txt\0/../../secret",
    "\0",
    "",
    "\ud800",
    "\udc2e\udc2e/secret",
    "../" * 1500 + "etc/passwd",
    "sub/" + "../" * 40 + "etc/passwd",
    "a" * 256,
    "a" * 5000,
]


@pytest.mark.parametrize("path", ESCAPES)
async def test_text_that_tries_to_leave(bench: Bench, path: str) -> None:
    for said in await bench.every_tool(path.replace("{base}", str(bench.base))):
        assert CANARY not in said
        assert "root:" not in said
        assert "Error: " in said


LINKS: dict[str, list[tuple[str, str]]] = {
    "absolute file": [("l", "{base}/outside/secret")],
    "relative file": [("l", "../outside/secret")],
    "absolute directory": [("l", "{base}/outside")],
    "relative directory": [("l", "../outside/dir")],
    "to parent": [("l", "..")],
    "to filesystem root": [("l", "/")],
    "to etc": [("l", "/etc")],
    "to proc self root": [("l", "/proc/self/root")],
    "to proc cwd": [("l", "/proc/self/cwd")],
    "to a descriptor": [("l", "/proc/self/fd/0")],
    "to dev": [("l", "/dev/zero")],
    "chain": [("l", "sub/m"), ("sub/m", "deep/n"), ("sub/deep/n", "../../../outside/secret")],
    "chain through a directory": [("l", "m"), ("m", "../outside"), ("n", "m/dir")],
    "out and in again": [("l", "../root/a.txt")],
    "twin": [("l", "{base}/root-twin/secret")],
    "dot dot through a link": [("d", "sub/deep"), ("l", "d/../../../secret")],
    "circle": [("l", "m"), ("m", "l")],
    "self": [("l", "l")],
    "self below": [("l", "l/x")],
    "long": [("l", "x/" * 1500)],
    "dangling outside": [("l", "../nothing")],
}


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("tail", ["", "/", "/secret", "/dir/secret", "/../secret", "/etc/passwd"])
async def test_link_that_leads_out(bench: Bench, name: str, tail: str) -> None:
    for link, target in LINKS[name]:
        bench.link(link, target.replace("{base}", str(bench.base)))
    for said in await bench.every_tool(f"l{tail}"):
        assert CANARY not in said
        assert "root:" not in said
    for said in (await bench.every_tool("."))[1:]:  # a walk over the traps does not fall into one
        assert CANARY not in said


async def test_links_that_stay_inside_are_followed(bench: Bench) -> None:
    bench.link("file", "sub/b.txt")
    bench.link("dir", "sub/deep")
    bench.link("up", "sub/deep/../b.txt")
    bench.link("absolute", bench.root / "sub" / "deep" / "c.txt")
    bench.link("to_root", bench.root)
    bench.link("sub/back", "../a.txt")
    bench.link("chain", "file")
    for path, inside in {
        "file": "sub/b.txt",
        "dir/c.txt": "sub/deep/c.txt",
        "dir/../b.txt": "sub/b.txt",
        "up": "sub/b.txt",
        "absolute": "sub/deep/c.txt",
        "to_root/to_root/a.txt": "a.txt",
        "sub/back": "a.txt",
        "chain": "sub/b.txt",
        f"{bench.root}/chain": "sub/b.txt",
    }.items():
        assert await read(bench, path) == f"     1\tinside {inside}"


async def test_forty_links_are_followed_and_no_more(bench: Bench) -> None:
    bench.link("l0", "a.txt")
    for number in range(1, 41):
        bench.link(f"l{number}", f"l{number - 1}")
    assert "inside a.txt" in await read(bench, "l39")
    with pytest.raises(ToolPermissionError, match="40 links"):
        await read(bench, "l40")


@pytest.mark.parametrize(
    "name", ["a.txt", ".hidden", "sp ace.txt", "-dash", "größe.txt", "~", "./sub//b.txt", "sub/../a.txt"]
)
async def test_ordinary_and_odd_names_are_read(bench: Bench, name: str) -> None:
    assert "inside" in await read(bench, name)


async def test_root_may_be_a_link_and_keeps_its_spellings(bench: Bench) -> None:
    alias = bench.base / "alias"
    alias.symlink_to(bench.root)
    tools = tools_in(alias)
    for path in ("a.txt", f"{alias}/a.txt", f"{bench.root}/a.txt"):
        assert "inside" in (await tools["Read"].invoke({"file_path": path})).text
    with pytest.raises(ToolPermissionError):
        await tools["Read"].invoke({"file_path": "../secret"})


def test_root_must_be_a_directory(bench: Bench) -> None:
    for wrong in (bench.root / "a.txt", bench.root / "missing"):
        with pytest.raises(ConfigError, match="no directory"):
            file_tools(root=wrong)


async def test_root_that_goes_away_is_a_typed_error(bench: Bench) -> None:
    bench.root.rename(bench.base / "moved")
    for said in await bench.every_tool("."):
        assert said.startswith("ToolExecutionError")


# --- special files ------------------------------------------------------------------------------------


@pytest.fixture
def listening(bench: Bench) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(bench.root)  # the path of a socket is short
        try:
            server.bind("sock")
        finally:
            os.chdir(here)
        server.listen()
        yield


@pytest.mark.usefixtures("listening")
@pytest.mark.parametrize("name", ["fifo", "sock", "to_fifo", "sub"])
async def test_what_is_no_regular_file_is_refused_at_once(bench: Bench, name: str) -> None:
    os.mkfifo(bench.root / "fifo")
    bench.link("to_fifo", "fifo")
    with pytest.raises(ToolError, match=r"only regular files|is a directory"):
        await read(bench, name)
    listing = (await bench.tools["List"].invoke({})).text
    assert "fifo  (special file)" in listing
    assert "sock  (special file)" in listing
    assert "inside" in (await bench.tools["Grep"].invoke({"pattern": "inside"})).text


@pytest.mark.skipif(os.geteuid() != 0, reason="making a device needs root")
async def test_device_is_refused(bench: Bench) -> None:
    try:
        os.mknod(bench.root / "null", 0o600 | 0o020000, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("this container does not let root make devices")
    with pytest.raises(ToolError, match="a device"):
        await read(bench, "null")


async def test_root_over_proc_holds(bench: Bench) -> None:
    """Links of proc are doors to anywhere; their text is walked like any other."""
    tools = tools_in(Path("/proc/self"))
    for path in ("root/etc/passwd", "cwd/pyproject.toml", "exe"):
        with pytest.raises(ToolError):
            await tools["Read"].invoke({"file_path": path})


# --- nothing is changed -------------------------------------------------------------------------------


def fingerprint(root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        digest.update(
            f"{path} {status.st_mode} {status.st_size} {status.st_mtime_ns} {status.st_nlink}".encode()
            + content
        )
    return digest.hexdigest()


async def test_no_call_changes_a_byte_a_mode_or_a_name(bench: Bench) -> None:
    bench.link("l", "../outside")
    bench.link("m", "sub")
    before = fingerprint(bench.base)
    alphabet = ["..", ".", "sub", "deep", "a.txt", "l", "m", "missing", "", "b.txt", "~", "c.txt"]
    chance = random.Random(7)
    for _ in range(150):
        path = "/".join(chance.choices(alphabet, k=chance.randint(1, 6)))
        for said in await bench.every_tool(path):
            assert CANARY not in said
    assert fingerprint(bench.base) == before


def test_every_tool_says_that_it_only_reads(bench: Bench) -> None:
    for tool in bench.tools.values():
        spec = tool.tool
        assert (spec.read_only, spec.concurrency_safe, spec.destructive) == (True, True, False)
        assert spec.parameters["additionalProperties"] is False
        assert set(spec.parameters["required"]) <= set(spec.parameters["properties"])


# --- races --------------------------------------------------------------------------------------------


class Flipper(threading.Thread):
    """Makes a name a harmless thing, then a trap, then harmless again, as fast as it can.

    A file and a link take turns without a gap; a directory has to be out of the way for a moment.
    """

    def __init__(self, place: Path, trap: Path) -> None:
        super().__init__(daemon=True)
        self.place, self.trap = place, trap
        self.aside, self.kept = place.with_name(".aside"), place.with_name(".kept")
        self.flips = 0
        self.done = threading.Event()

    def run(self) -> None:
        flip = self.flip_directory if self.place.is_dir() else self.flip_file
        if not self.place.is_dir():
            os.link(self.place, self.kept)
        while not self.done.is_set():
            flip()
            self.flips += 1

    def flip_file(self) -> None:
        os.symlink(self.trap, self.aside)
        os.rename(self.aside, self.place)
        os.link(self.kept, self.aside)
        os.rename(self.aside, self.place)

    def flip_directory(self) -> None:
        os.symlink(self.trap, self.aside)
        os.rename(self.place, self.kept)
        os.rename(self.aside, self.place)
        os.unlink(self.place)
        os.rename(self.kept, self.place)


@pytest.mark.parametrize("what", ["file", "directory"])
async def test_name_swapped_for_a_link_between_check_and_open(bench: Bench, what: str) -> None:
    place = bench.root / "prey"
    if what == "file":
        place.write_text("inside prey\n")
        flipper, path = Flipper(place, bench.outside / "secret"), "prey"
    else:
        place.mkdir()
        (place / "secret").write_text("inside prey\n")
        flipper, path = Flipper(place, bench.outside), "prey/secret"
    flipper.start()
    good = 0
    try:
        while flipper.flips < 1500 or good < 20:
            for said in await asyncio.gather(*(bench.every_tool(path) for _ in range(6))):
                assert CANARY not in str(said)
                good += "inside prey" in str(said)
    finally:
        flipper.done.set()
        flipper.join()
    assert flipper.flips >= 500


async def test_directory_moved_out_while_it_is_walked_stays_confined(bench: Bench) -> None:
    """``..`` of a directory that was moved elsewhere is elsewhere; the walk goes back by its descriptors."""
    away, home = bench.outside / "moved", bench.root / "sub"
    stop = threading.Event()

    def move() -> None:
        while not stop.is_set():
            os.rename(home, away)
            os.rename(away, home)

    mover = threading.Thread(target=move, daemon=True)
    mover.start()
    try:
        for _ in range(60):
            for path in ("sub/../secret", "sub/deep/../../secret", "sub/../outside/secret", "sub"):
                for said in await bench.every_tool(path):
                    assert CANARY not in said
    finally:
        stop.set()
        mover.join()
