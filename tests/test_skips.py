"""What the suite itself promises: a missing service is a failure where all are there, a nightly test has its twin."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parent.parent
_CONFTEST = Path(__file__).with_name("conftest.py")
_SKIPPING = """
import pytest

def test_in_the_test():
    pytest.skip("needs service postgresql: initdb is not installed")

@pytest.mark.skipif(True, reason="needs service sshd")
def test_by_a_mark(): ...

@pytest.fixture
def chromium():
    pytest.skip("needs service chromium")

def test_by_a_fixture(chromium): ...

def test_for_another_reason():
    pytest.skip("needs root")

@pytest.mark.xfail(reason="needs service that nobody has", strict=True)
def test_that_is_expected_to_fail():
    assert False
"""


@pytest.mark.parametrize("where", ["here", "in CI"])
def test_a_skip_for_a_missing_service_fails_where_all_are_there(
    where: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeconftest(_CONFTEST.read_text(encoding="utf-8"))
    pytester.makepyfile(
        test_items=_SKIPPING,
        test_module="import pytest\npytest.skip('needs service npm', allow_module_level=True)",
    )
    monkeypatch.setenv("CI", "true" if where == "in CI" else "")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--continue-on-collection-errors")
    if where == "here":
        result.assert_outcomes(skipped=5, xfailed=1)
    else:
        # pytest counts a failing set-up, and a file that was not collected, as errors.
        result.assert_outcomes(failed=1, errors=3, skipped=1, xfailed=1)
        result.stdout.fnmatch_lines(["*needs service postgresql: initdb is not installed*"])


@pytest.mark.parametrize(
    ("mark", "complaint"),
    [
        ("@pytest.mark.nightly", "twin"),
        ("@pytest.mark.nightly(twin='test_none')", "test_none"),
        ("@pytest.mark.nightly(twin='test_long')", "test_long"),
        ("@pytest.mark.nightly(twin='test_short')", ""),
    ],
)
def test_a_nightly_test_names_its_twin(mark: str, complaint: str, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(_CONFTEST.read_text(encoding="utf-8"))
    pytester.makeini("[pytest]\nmarkers =\n    nightly(twin): long")
    pytester.makepyfile(f"import pytest\n{mark}\ndef test_long(): ...\ndef test_short(): ...\n")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    if complaint:
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"*test_long*{complaint}*"])
    else:
        result.assert_outcomes(passed=2)


def test_what_takes_long_is_not_part_of_the_suite() -> None:
    options = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"][
        "ini_options"
    ]
    for mark in ("chaos", "fuzz", "nightly", "services"):
        assert f"not {mark}" in options["addopts"]
        assert any(line.startswith((f"{mark}:", f"{mark}(")) for line in options["markers"])


def test_warnings_of_others_are_excepted_by_module() -> None:
    """Warnings are errors. An exception names whose they are: `ignore:message:category:module`."""
    options = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"][
        "ini_options"
    ]
    first, *others = options["filterwarnings"]
    assert first == "error"
    assert [line for line in others if len(line.split(":")) < 4 or not line.split(":")[3].strip()] == []
    assert [line for line in others if line.split(":")[3].startswith("loom")] == []
