"""What the distribution says of itself: every dependency is used, every extra exists, development needs one command."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import metadata
from pathlib import Path

import pytest

from test_imports import DISTRIBUTION, SYNTAX, absolute_imports

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
PRINTED = (
    "anthropic",
    "openai",
    "gemini",
    "web",
    "all",
    "search",
    "scrape",
    "acp",
    "mcp",
    "ssh",
    "graphrag",
    "dev",
)
"""The extras that descriptions of Loom name."""

CORE = {"aiohttp", "msgspec", "pydantic", "pathspec", "typing-extensions"}
IMPORTED = {
    DISTRIBUTION.get(package, package) for tree in SYNTAX.values() for package, _ in absolute_imports(tree)
}


def name_of(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found, requirement
    return found[0].lower().replace("_", "-")


def names(requirements: list[str]) -> set[str]:
    return {name_of(requirement) for requirement in requirements}


def test_review_k_every_core_dependency_is_imported_by_the_package() -> None:
    used = {name.lower().replace("_", "-") for name in IMPORTED}
    assert names(PROJECT["dependencies"]) - used == set(), "require it when something imports it"
    assert names(PROJECT["dependencies"]) == CORE, "a core dependency is a decision: write it down"


@pytest.mark.parametrize("extra", [extra for extra in EXTRAS if extra not in ("dev", "all")])
def test_what_an_extra_brings_is_imported_by_the_package(extra: str) -> None:
    used = {name.lower().replace("_", "-") for name in IMPORTED}
    assert names(EXTRAS[extra]) - used == set()


@pytest.mark.parametrize("extra", PRINTED)
def test_the_extras_that_are_named_exist(extra: str) -> None:
    assert extra in EXTRAS
    assert extra in (metadata("loom-agent").get_all("Provides-Extra") or ())


def test_all_is_every_extra_but_that_for_development() -> None:
    others = [line for extra, lines in EXTRAS.items() if extra not in ("all", "dev") for line in lines]
    assert sorted(EXTRAS["all"]) == sorted(set(others))


def test_development_needs_one_extra() -> None:
    """Everything that the suite imports, whatever is optional for users included."""
    assert set(EXTRAS["all"]) <= set(EXTRAS["dev"])
    assert {"pytest", "ruff", "mypy", "hypothesis"} <= names(EXTRAS["dev"])
    assert "dependency-groups" not in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_development_versions_are_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {name_of(line) for line in lines if line and not line.startswith("#")}
    assert names([*PROJECT["dependencies"], *EXTRAS["dev"]]) - pinned == set()


def test_the_wheel_holds_the_package_and_nothing_else(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        files = archive.namelist()
    assert {file.split("/")[0] for file in files} == {"loom", f"loom_agent-{PROJECT['version']}.dist-info"}
    assert "loom/py.typed" in files
    here = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert here == {file for file in files if file.startswith("loom/")}
