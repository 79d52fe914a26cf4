"""The doors: every name a user can import resolves, is one thing everywhere, is documented, costs nothing.

A *home* is the one file that defines a name. A *door* (``loom``, ``loom.config``, ...) only hands names on.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import loom

PACKAGE = Path(loom.__file__).parent
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__main__.py")

TWO_HOMES = {
    "Agent": "the two faces: loom.Agent and loom.loop.Agent",
    "AgentConfig": "the loop agent's settings, and an older name of the declaration",
    "main": "the command line's entry point is no part of the library",
}
"""Public names that are different things in two places, and why."""

OLDER_NAMES: dict[str, set[str]] = {"loom": set()}
"""Names of earlier versions that a door still gives, by door, outside its list."""

HEAVY = (
    "aiohttp",
    "asyncio",
    "click",
    "genai_prices",
    "pathspec",
    "pydantic",
    "rich",
    "sqlite3",
)
"""Packages that ``import loom`` must not pay for."""


def module_name(path: Path) -> str:
    parts = ["loom", *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}
SYNTAX = {name: ast.parse(path.read_text(encoding="utf-8"), str(path)) for name, path in MODULES.items()}


def defines(tree: ast.Module, name: str) -> bool:
    """True when a module assigns or defines ``name`` at its top level."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if getattr(node, "name", None) == name or any(
            getattr(target, "id", None) == name for target in targets
        ):
            return True
    return False


LISTED = sorted(name for name, tree in SYNTAX.items() if defines(tree, "__all__"))
DOORS = [name for name in LISTED if MODULES[name].name == "__init__.py"]
LAZY = [name for name in DOORS if defines(SYNTAX[name], "__getattr__")]


def is_public(module: str) -> bool:
    return not any(part.startswith("_") for part in module.split("."))


def definitions(tree: ast.Module) -> list[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]


def is_overload(node: ast.AST) -> bool:
    return any("overload" in ast.unparse(mark) for mark in getattr(node, "decorator_list", ()))


# --- names --------------------------------------------------------------------------------------------


def test_the_front_door_has_names() -> None:
    assert "loom" in DOORS, "loom/__init__.py must list its names in __all__"
    assert loom.__all__


@pytest.mark.parametrize("door", LISTED)
def test_every_exported_name_resolves(door: str) -> None:
    module = importlib.import_module(door)
    missing = [name for name in module.__all__ if not hasattr(module, name)]
    assert not missing


@pytest.mark.parametrize("door", DOORS)
def test_the_list_of_names_is_sorted_public_and_without_doubles(door: str) -> None:
    names = list(importlib.import_module(door).__all__)
    assert names == sorted(set(names))
    assert not [name for name in names if name.startswith("_") and name != "__version__"]


@pytest.mark.parametrize("door", DOORS)
def test_the_list_of_names_is_complete(door: str) -> None:
    """What a door brings in only to hand on is in its list. Modules are reached by their own path."""
    module = importlib.import_module(door)
    for name in module.__all__:
        getattr(module, name)
    own = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not isinstance(value, types.ModuleType)
        and str(getattr(value, "__module__", "")).startswith("loom")
    }
    used = {node.id for node in ast.walk(SYNTAX[door]) if isinstance(node, ast.Name)}
    assert own - used <= set(module.__all__)


@pytest.mark.parametrize("door", LAZY)
def test_type_checkers_and_users_see_the_same_names(door: str) -> None:
    """A lazy door names its exports twice, for the type checker and for ``__getattr__``: the same ones."""
    tree = SYNTAX[door]
    promised = {
        alias.asname or alias.name
        for block in tree.body
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    given = {name for name in importlib.import_module(door).__all__ if name != "__version__"}
    own = {name for name in given if defines(tree, name)}
    assert given - own <= promised, "type checkers do not know these"
    assert promised <= given | OLDER_NAMES.get(door, set()), "users cannot import these"


def test_every_name_is_one_thing_through_every_door() -> None:
    seen: dict[str, dict[int, list[str]]] = {}
    for door in DOORS:
        module = importlib.import_module(door)
        for name in module.__all__:
            seen.setdefault(name, {}).setdefault(id(getattr(module, name)), []).append(door)
    torn = {name: list(homes.values()) for name, homes in seen.items() if len(homes) > 1}
    assert {name: doors for name, doors in torn.items() if name not in TWO_HOMES} == {}


def test_every_name_of_the_front_door_has_one_home() -> None:
    homes: dict[str, list[str]] = {}
    for module, tree in SYNTAX.items():
        for node in definitions(tree):
            if is_public(module) and not is_overload(node) and module not in homes.get(node.name, ()):
                homes.setdefault(node.name, []).append(module)
    torn = {name: homes[name] for name in loom.__all__ if len(homes.get(name, ())) > 1}
    assert {name: files for name, files in torn.items() if name not in TWO_HOMES} == {}


def test_what_a_door_exports_says_where_it_lives() -> None:
    """``__module__`` of an exported class or function is the file that holds it under that name."""
    strays: list[str] = []
    for door in DOORS:
        module = importlib.import_module(door)
        for name in module.__all__:
            value = getattr(module, name)
            if not isinstance(value, type | types.FunctionType) or not value.__module__.startswith("loom"):
                continue
            if getattr(importlib.import_module(value.__module__), value.__name__, None) is not value:
                strays.append(f"{door}.{name} says it lives in {value.__module__}")
    assert not strays


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = loom.no_such_name  # type: ignore[attr-defined]
    with pytest.raises(ImportError, match="no_such_name"):
        exec("from loom import no_such_name")


def test_the_front_door_shows_its_names_to_dir() -> None:
    assert set(loom.__all__) <= set(dir(loom))


def test_the_version_is_the_distributions() -> None:
    from importlib.metadata import version

    assert loom.__version__ == version("loom-agent")


# --- documentation ------------------------------------------------------------------------------------


@pytest.mark.parametrize("door", DOORS)
def test_every_exported_class_and_function_is_documented(door: str) -> None:
    module = importlib.import_module(door)
    silent: list[str] = []
    for name in module.__all__:
        value: Any = getattr(module, name)
        if isinstance(value, type | types.FunctionType) and not (value.__doc__ or "").strip():
            silent.append(name)
    assert not silent


def test_every_module_says_what_belongs_in_it() -> None:
    assert [name for name, tree in SYNTAX.items() if not ast.get_docstring(tree)] == []


def test_every_public_definition_is_documented() -> None:
    """Read from the source, since dataclasses invent a docstring where there is none."""
    silent = [
        f"{module}.{node.name}"
        for module, tree in SYNTAX.items()
        if is_public(module)
        for node in definitions(tree)
        if not ast.get_docstring(node) and not is_overload(node)
    ]
    assert silent == []


# --- cost ---------------------------------------------------------------------------------------------


def run_python(code: str, *, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-B", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=50, check=False)


_LIGHT = """
import json, sys
before = set(sys.modules)
import loom
print(json.dumps(sorted(name for name in set(sys.modules) - before if "." not in name)))
"""


def test_importing_the_package_loads_nothing_heavy(tmp_path: Path) -> None:
    finished = run_python(_LIGHT, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    loaded = json.loads(finished.stdout)
    assert sorted(set(loaded) & set(HEAVY)) == []


_ISOLATED = """
import importlib, os, sys, threading

# Loaded once here, so that a fork pays only for our own files. What `import loom` loads is another test.
import asyncio, multiprocessing.connection, sqlite3, typing
import aiohttp, msgspec, pathspec, pydantic
try:
    import click, rich.console
except ImportError:
    pass

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
DEEDS = ("socket.__new__", "socket.connect", "subprocess.Popen", "os.system", "os.mkdir", "os.putenv",
         "os.remove", "os.rename", "sqlite3.connect", "os.fork", "tempfile.mkstemp")

def watch(event, args):
    if event in DEEDS or (event == "open" and isinstance(args[2], int) and args[2] & WRITES):
        deeds.append(f"{event}{args!r}")

for name in sys.argv[1:]:
    if os.fork() == 0:
        deeds = []
        sys.addaudithook(watch)
        try:
            importlib.import_module(name)
        except BaseException as error:
            sys.stderr.write(f"{name}: {type(error).__name__}: {error}\\n")
        for deed in deeds:
            sys.stderr.write(f"{name}: importing it did {deed}\\n")
        for thread in threading.enumerate()[1:]:
            sys.stderr.write(f"{name}: importing it started {thread.name}\\n")
        sys.stderr.flush()
        sys.stdout.flush()
        os._exit(0)
    if os.wait()[1] != 0:
        sys.stderr.write(f"{name}: importing it ended the process\\n")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork to be fast")
@pytest.mark.parametrize("part", range(2))
def test_every_module_can_be_imported_first_and_importing_does_nothing(part: int, tmp_path: Path) -> None:
    """Each module in an interpreter that has seen nothing else of ours: circles show up, and side effects."""
    names = [name for name in MODULES if is_public(name) or name.count(".")][part::2]
    finished = subprocess.run(
        [sys.executable, "-B", "-c", _ISOLATED, *names],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=50,
        check=False,
    )
    assert finished.stderr == ""
    assert finished.stdout == "", "importing must not print"
    assert finished.returncode == 0
    assert list(tmp_path.iterdir()) == [], "importing must not leave files"
