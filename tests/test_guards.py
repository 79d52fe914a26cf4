"""``make guards``: a guard that no test holds is found, and every guard that is marked is held."""

from __future__ import annotations

import shlex
import subprocess
import sys
import types
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "scripts" / "guards"


def load() -> types.ModuleType:
    loader = SourceFileLoader("loom_guards_script", str(SCRIPT))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    sys.modules[loader.name] = module  # where a dataclass looks for its own
    loader.exec_module(module)
    return module


guards = load()
_SOURCE = """
def divide(a, b):
    # guard: test_sample.py -k zero
    if b == 0:
        return None
    if a < 0:  # guard: test_sample.py -k zero
        return 0
    return a / b
"""
_TESTS = """
from sample import divide

def test_zero():
    assert divide(1, 0) is None
    assert divide(4, 2) == 2
"""


def make_guards(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *words], capture_output=True, text=True, timeout=3600, check=False
    )


def sample(folder: Path, source: str) -> Path:
    (folder / "src").mkdir()
    (folder / "src" / "sample.py").write_text(source, encoding="utf-8")
    (folder / "test_sample.py").write_text(_TESTS, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -p no:xdist -p no:hypothesispytest\n")
    return folder


def test_a_guard_that_no_test_holds_is_found(tmp_path: Path) -> None:
    done = make_guards("--root", str(sample(tmp_path, _SOURCE)), "--all")
    assert done.returncode == 1, done.stdout + done.stderr
    first, second, third, *_ = [line.split() for line in done.stdout.splitlines()]
    assert first[:4] == ["2", "of", "2", "guards"]
    assert (second[0], second[3]) == ("held", "src/sample.py:4")
    assert (third[:2], third[4]) == (["NOT", "HELD"], "src/sample.py:6")
    assert done.stdout.splitlines()[-1] == "1 held, 1 not"
    assert (tmp_path / "src" / "sample.py").read_text(encoding="utf-8") == _SOURCE


@pytest.mark.parametrize(
    ("tests", "outcome"), [("test_none.py", "no such tests"), ("-k nothing", "no such tests")]
)
def test_a_guard_whose_tests_prove_nothing_is_a_fault(tests: str, outcome: str, tmp_path: Path) -> None:
    source = f"def f(b):\n    # guard: {tests}\n    if b:\n        return 1\n"
    done = make_guards("--root", str(sample(tmp_path, source)), "--all")
    assert done.returncode == 1
    assert outcome in done.stdout


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("if a and b:\n    pass\n", "if False:\n    pass\n"),
        ("if (\n    a\n    or b\n):\n    pass\n", "if (\n    False\n):\n    pass\n"),
        ("while a:\n    pass\n", "while False:\n    pass\n"),
        ("raise ValueError(\n    1\n)\n", "pass\n"),
        ("os.fsync(1); x = 2\n", "pass; x = 2\n"),
        ("'ü'; x\nif 'ü' in a: raise KeyError\n", None),
        ("assert a\n", "pass\n"),
        ("del a['ü']  # why\n", "pass  # why\n"),
    ],
)
def test_a_guard_is_taken_out_and_nothing_else(before: str, after: str | None) -> None:
    if after is None:
        assert guards.without(before, 2, Path("x.py")) == "'ü'; x\nif False: raise KeyError\n"
    else:
        assert guards.without(before, 1, Path("x.py")) == after


def test_an_elif_is_taken_out_alone() -> None:
    source = "if a:\n    x\nelif b:\n    y\nelse:\n    z\n"
    assert guards.without(source, 3, Path("x.py")) == source.replace("elif b", "elif False")


@pytest.mark.parametrize("statement", ["x = a and b", "return a", "x", "def f(): ...", "with a: b", ""])
def test_what_cannot_be_taken_out_cannot_be_marked(statement: str) -> None:
    with pytest.raises(guards.BadMark, match="no guard begins here"):
        list(guards.guards_of(Path("x.py"), f"# guard: tests\n{statement}\n"))
    with pytest.raises(guards.BadMark, match="names no tests"):
        list(guards.guards_of(Path("x.py"), "# guard:\nif a: b\n"))


def test_every_mark_names_tests_that_are_there() -> None:
    found = guards.guards_in(ROOT)
    assert len(found) >= 15
    missing = [
        f"{guard.where}: {word}"
        for guard in found
        for word in shlex.split(guard.tests)
        if word.endswith(".py") and not (ROOT / word).is_file()
    ]
    assert missing == []


@pytest.mark.nightly(twin="test_a_guard_that_no_test_holds_is_found")
def test_every_guard_is_held() -> None:
    done = make_guards("--all")
    assert done.returncode == 0, done.stdout + done.stderr
