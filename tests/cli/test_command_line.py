"""The way into the command: help that teaches, a quick start, and what happens without the extra."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from loom_command import environment, loom, loom_here

from loom.cli.text import duration, one_line, printable, printable_json, short_arguments

VERBS = ["list", "show", "resume", "fork", "delete", "export"]


@pytest.mark.parametrize(
    "words",
    [[], ["run"], ["chat"], ["sessions"], ["doctor"], *(["sessions", verb] for verb in VERBS)],
    ids=" ".join,
)
def test_every_help_teaches_by_example(words: list[str], tmp_path: Path) -> None:
    done = loom_here(*words, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert " ".join(["\n    loom", *words]) in done.stdout
    assert "$" not in done.stdout.replace("$LOOM_MODEL", "")


def test_the_version_is_that_of_the_distribution(tmp_path: Path) -> None:
    done = loom("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"loom {version('loom-agent')}\n")


def test_an_unknown_command_is_wrong_usage(tmp_path: Path) -> None:
    done = loom_here("walk", cwd=tmp_path)
    assert done.returncode == 2
    assert "No such command 'walk'" in done.stderr


def python(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment(),
        timeout=20,
        check=False,
    )


def test_help_costs_nothing_it_does_not_need(tmp_path: Path) -> None:
    code = """
import json, sys
from loom.cli import main
left = main(["--help"])
print(json.dumps([left, sorted(sys.modules)]))
"""
    done = python(code, tmp_path)
    code_left, modules = json.loads(done.stdout.splitlines()[-1])
    assert code_left == 0
    heavy = {"aiohttp", "asyncio", "pydantic", "rich", "sqlite3", "loom.agent"}
    assert heavy & set(modules) == set()


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra_the_command_says_what_to_install(tmp_path: Path, missing: str) -> None:
    code = f"""
import sys
sys.modules[{missing!r}] = None
from loom.cli import main
sys.exit(main(["run", "x"]))
"""
    done = python(code, tmp_path)
    assert done.returncode == 2
    assert "with its extra 'cli'" in done.stderr
    assert "pip install 'loom-agent" not in done.stderr, "another project's name on the index"
    assert "Traceback" not in done.stderr


# --- words --------------------------------------------------------------------------------------------


def test_text_for_a_terminal_keeps_what_people_write() -> None:
    kept = "tab\tline\n  ünï 漢字\u3000가 👩\u200d💻 می\u200cگیرم €"
    assert printable(kept) == kept
    assert printable("a\r\nb") == "a\nb"


@pytest.mark.parametrize(
    "sign",
    ["\x00", "\x08", "\x1b", "\r", "\x7f", "\x85", "\x9b", "\u2028", "\u202e", "\u2066", "\ufeff", "\ud800"],
)
def test_text_for_a_terminal_has_no_power_over_it(sign: str) -> None:
    shown = printable(f"a{sign}b")
    assert sign not in shown
    assert shown.startswith("a\\")
    assert printable(shown) == shown
    if sign != "\ud800":
        raw = json.dumps(f"a{sign}b\U000e0041", ensure_ascii=False).encode()
        assert json.loads(printable_json(raw)) == f"a{sign}b\U000e0041"
        assert sign not in printable_json(raw)


def test_arguments_are_short_whatever_the_model_wrote() -> None:
    assert short_arguments('{"path":"a.py","n":3,"deep":{"x":[1]}}') == 'path=a.py n=3 deep={"x":[1]}'
    assert short_arguments("") == ""
    assert short_arguments("{not json\n") == "{not json"
    assert short_arguments("[1,2]") == "[1,2]"
    for raw in ('{"text":"' + "long " * 5000 + '"}', "x" * 5000, '{"a":"\\u001b[2J"}'):
        shown = short_arguments(raw)
        assert len(shown) <= 100
        assert "\n" not in shown
        assert "\x1b" not in shown


def test_times_and_lines() -> None:
    assert [duration(n) for n in (0, 999, 1000, 59_900, 61_000)] == [
        "0 ms",
        "999 ms",
        "1.0 s",
        "59.9 s",
        "1 min 1 s",
    ]
    assert one_line("  a\n b  ", 10) == "a b"
    assert one_line("abcdef", 4) == "abc…"
