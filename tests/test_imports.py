"""Who may import what, where a table says it better than ``.importlinter`` can.

Read from the source, so an import inside a function or under ``TYPE_CHECKING`` counts like any other.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "loom"

ANYWHERE = ("loom.*",)
THIRD_PARTY: dict[str, tuple[str, ...]] = {
    "aiohttp": ("loom.llm.http", "loom.llm.service", "loom.tools.web*", "loom.testing.*"),
    "click": ("loom.cli.*",),
    "genai_prices": ("loom.llm.pricing",),
    "msgspec": ANYWHERE,  # the codec of the vocabulary
    "pathspec": ("loom.tools.filesystem.walk", "loom.tools.files"),
    "pydantic": (
        "loom.assembly.output*",
        "loom.tools.functions.annotations",
        "loom.tools.functions.arguments",
        "loom.tools.function",
        "loom.safety.schema",
        "loom.tools.functions.validation_faults",
    ),
    "rich": ("loom.cli.*",),
    "typing_extensions": ANYWHERE,
}
"""Third-party package -> the modules that may import it."""

BELONGS_TO = {"multidict": "aiohttp", "pydantic_core": "pydantic", "yarl": "aiohttp"}
"""Parts of a package's own interface that come with it under another name."""

DISTRIBUTION = {"genai_prices": "genai-prices"}
STANDARD_LIBRARY: dict[str, tuple[str, ...]] = {
    "sqlite3": ("loom.store.sqlite*", "loom.store.schema"),
    "http": ("loom.llm.*", "loom.tools.web*", "loom.testing.*"),
    "subprocess": ("loom.tools.*", "loom.testing.*", "loom.cli.*"),
}
"""The same for parts of the standard library that belong to one adapter."""

PURE = (
    "loom.context.*",
    "loom.folds.*",
    "loom.kernel.steps",
    "loom.policies.*",
    "loom.safety.*",
)
"""Modules that compute and never act: what they need to know about the world is an argument."""

# fmt: off
WORLD = {
    "asyncio", "concurrent", "ctypes", "fcntl", "glob", "http", "io", "logging", "mmap", "multiprocessing",
    "os", "pathlib", "queue", "random", "secrets", "select", "selectors", "shutil", "signal", "socket",
    "sqlite3", "ssl", "subprocess", "tempfile", "threading", "time", "uuid",
}
DEEDS = frozenset({"breakpoint", "eval", "exec", "input", "open", "print"})
CLOCKS = frozenset({"now", "today", "utcnow"})

FLOORS = {
    "doors": ["_door", "_generics"],
    "vocabulary": ["errors", "events", "requests", "signals", "types", "usage"],
    "pure": ["context", "folds", "policies", "safety"],
    "kernel": ["kernel"],
    "declarations": ["config"],
    "edges": [
        "auth", "heartbeat", "hitl", "llm", "mcp", "media", "routing", "search", "skills", "sources", "store",
        "telemetry", "testing", "tools",
    ],
    "assembly": ["assembly", "loop", "loop_events", "loop_hooks", "short_replies"],
    "public": ["agent", "compat", "orchestration", "runtime"],
    "applications": ["cli", "distributed", "server"],
}
# fmt: on
"""The floor of everything directly under ``loom``."""

LINES_AT_MOST = 500


def module_name(path: Path) -> str:
    parts = ["loom", *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
SYNTAX = {name: ast.parse(path.read_text(encoding="utf-8"), str(path)) for name, path in FILES.items()}


def absolute_imports(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """The top-level packages a module imports by absolute name, with the line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").partition(".")[0], node.lineno


def fits(module: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(module, pattern) or f"{module}.*" == pattern for pattern in patterns)


def calls(tree: ast.Module) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def test_third_party_packages_are_imported_only_by_the_adapter_that_needs_them() -> None:
    strays: list[str] = []
    for module, tree in SYNTAX.items():
        for package, line in absolute_imports(tree):
            package = BELONGS_TO.get(package, package)
            if package in ("loom", "__future__") or package in sys.stdlib_module_names:
                continue
            if not fits(module, THIRD_PARTY.get(package, ())):
                strays.append(f"{module}:{line} imports {package}")
    assert strays == [], "move the import to its adapter, or add a row to THIRD_PARTY and say why"


def test_adapters_keep_their_part_of_the_standard_library() -> None:
    strays = [
        f"{module}:{line} imports {package}"
        for module, tree in SYNTAX.items()
        for package, line in absolute_imports(tree)
        if package in STANDARD_LIBRARY and not fits(module, STANDARD_LIBRARY[package])
    ]
    assert strays == []


def test_what_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project.get("optional-dependencies", {}).values()
    wanted = [*project["dependencies"], *(line for extra in extras for line in extra)]
    declared = {line.split(">")[0].split("=")[0].split("[")[0].strip().lower() for line in wanted}
    imported = {package for tree in SYNTAX.values() for package, _ in absolute_imports(tree)}
    missing = {package for package in THIRD_PARTY if DISTRIBUTION.get(package, package) not in declared}
    assert imported & missing == set()


def test_imports_within_the_package_are_relative() -> None:
    strays = [
        f"{module}:{line}"
        for module, tree in SYNTAX.items()
        for package, line in absolute_imports(tree)
        if package == "loom"
    ]
    assert strays == []


@pytest.mark.parametrize("module", [name for name in FILES if fits(name, PURE)])
def test_what_decides_never_acts(module: str) -> None:
    tree = SYNTAX[module]
    deeds = [f"line {line} imports {package}" for package, line in absolute_imports(tree) if package in WORLD]
    for call in calls(tree):
        if isinstance(call.func, ast.Name) and call.func.id in DEEDS:
            deeds.append(f"line {call.lineno} calls {call.func.id}")
        if isinstance(call.func, ast.Attribute) and call.func.attr in CLOCKS:
            deeds.append(f"line {call.lineno} reads a clock")
    deeds += [f"line {node.lineno} awaits" for node in ast.walk(tree) if isinstance(node, ast.Await)]
    assert deeds == []


def test_the_model_is_called_in_one_place() -> None:
    """Providers may wrap providers; everyone else goes through the kernel's one question."""
    places = {
        module
        for module, tree in SYNTAX.items()
        for call in calls(tree)
        if isinstance(call.func, ast.Attribute) and call.func.attr in ("chat", "chat_stream")
        if not fits(module, ("loom.llm.*", "loom.testing.*"))
    }
    assert len(places) == 1, places
    assert fits(next(iter(places)), ("loom.kernel.*",))


def test_every_module_has_a_floor() -> None:
    known = {name for names in FLOORS.values() for name in names}
    here = {name.split(".")[1] for name in FILES if "." in name}
    assert here - known == set(), (
        "say in docs/architecture.md which floor it stands on, then add it to FLOORS"
    )


def test_the_architecture_page_shows_everything_under_the_roof() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    here = {path.name + ("/" if path.is_dir() else "") for path in PACKAGE.iterdir()}
    here -= {"__pycache__/", "py.typed"}
    assert sorted(name for name in here if name not in page) == []


def test_files_can_be_read_in_one_sitting() -> None:
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in FILES.items()}
    assert {name: lines for name, lines in lengths.items() if lines > LINES_AT_MOST} == {}
