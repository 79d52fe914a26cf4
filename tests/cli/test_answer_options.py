"""Which run and which requests the options of ``loom sessions resume`` mean."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from loom_command import Service, loom_here

from loom.cli.answers import Answers
from loom.errors import ConfigError
from loom.requests import Request
from loom.testing.scripted import call

Serve = Callable[..., Service]
OPEN = [
    Request(id="a", kind="approval", prompt="A?"),
    Request(id="b", kind="approval", prompt="B?"),
    Request(id="q", kind="question", prompt="Which?", choices=("red", "blue")),
]


def said(
    *, approve: tuple[str, ...] = (), deny: tuple[str, ...] = (), answer: tuple[str, ...] = ()
) -> list[tuple[str, str, object]]:
    answers = Answers.of_options(approve, deny, "why", answer).to(OPEN)
    return [(one.request_id, one.verdict, one.reason or one.value) for one in answers]


def test_all_stands_for_what_has_no_answer_of_its_own() -> None:
    assert said(approve=("all",)) == [("a", "approve", None), ("b", "approve", None)], "a question has no yes"
    assert said(approve=("all",), deny=("b",)) == [("a", "approve", None), ("b", "deny", "why")]
    assert said(approve=("b",), deny=("all",), answer=("q=blue",)) == [
        ("a", "deny", "why"),
        ("b", "approve", None),
        ("q", "answer", "blue"),
    ]
    assert said(deny=("all",))[-1] == ("q", "deny", "why")
    assert said(answer=("q=a=b",)) == [("q", "answer", "a=b")]
    assert said(approve=("a", "a")) == [("a", "approve", None)]
    assert said() == []


def sessions(project: Path, *words: str) -> list[dict[str, object]]:
    listed: list[dict[str, object]] = json.loads(
        loom_here("sessions", "list", "--json", *words, cwd=project).stdout
    )
    return listed


@pytest.mark.parametrize(
    ("approve", "deny", "answer", "complaint"),
    [
        (("all",), ("all",), (), "contradict each other"),
        (("a",), ("a",), (), "answered twice"),
        ((), ("q",), ("q=red",), "answered twice"),
        ((), (), ("q=red", "q=blue"), "answered twice"),
        (("x",), (), (), "'x' is not open here; open: a, b, q"),
        (("q",), (), (), "--answer q=VALUE"),
        ((), (), ("q",), "it is ID=VALUE"),
        ((), (), ("=red",), "it is ID=VALUE"),
    ],
)
def test_contradictions_are_told(
    approve: tuple[str, ...], deny: tuple[str, ...], answer: tuple[str, ...], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        said(approve=approve, deny=deny, answer=answer)


def test_of_several_waiting_runs_the_one_that_is_meant_goes_on(project: Path, serve: Serve) -> None:
    read = call("Read", file_path="README.md")
    service = serve([read], [read], "Of the second.", "Of the first.")
    for task in ("First", "Second"):
        words = ("run", task, "--ask", "Read", "--session", "s")
        done = loom_here(*words, cwd=project, env=service.env)
        assert done.returncode == 3
        assert ("has an unfinished run" in done.stderr) == (task == "Second")
    second = json.loads(loom_here("sessions", "export", "s", cwd=project).stdout)["runs"][1]["id"]
    words = ("sessions", "resume", "s", "--run", second, "--approve", "all")
    newest = loom_here(*words, cwd=project, env=service.env)
    assert newest.stdout == "Of the second.\n"
    assert "still waits (First)" in newest.stderr
    assert [row["state"] for row in sessions(project)] == ["waiting"], "the first run waits on"
    exported = json.loads(loom_here("sessions", "export", "s", cwd=project).stdout)
    assert [run["state"] for run in exported["runs"]] == ["waiting", "completed"]
    (kept,) = exported["session"]["metadata"]["cli"].values()
    assert kept["ask"] == ["Read"], "the settings are kept as long as the run may be resumed"
    other = loom_here("sessions", "resume", "s", "--approve", "all", cwd=project, env=service.env)
    assert other.stdout == "Of the first.\n"
    exported = json.loads(loom_here("sessions", "export", "s", cwd=project).stdout)
    assert exported["session"].get("metadata", {}) == {}
    again = loom_here("sessions", "resume", "s", "--approve", "all", cwd=project, env=service.env)
    assert again.returncode == 2


@pytest.mark.parametrize("words", [("--approve", "all"), ("--yes",)], ids=" ".join)
def test_review_guide_every_waiting_run_of_a_session_is_answered(
    project: Path, serve: Serve, words: tuple[str, ...]
) -> None:
    read = call("Read", file_path="README.md")
    service = serve([read], [read], "Of none.", "Of the first.", "Of the second.")
    for task, code in (("First", 3), ("Second", 3), ("Third", 0)):
        given = ("run", task, "--ask", "Read", "--session", "s")
        assert loom_here(*given, cwd=project, env=service.env).returncode == code
    assert [row["state"] for row in sessions(project, "--state", "waiting")] == ["waiting"]
    assert sessions(project, "--state", "completed") == []
    done = loom_here("sessions", "resume", "s", *words, cwd=project, env=service.env)
    assert (done.returncode, done.stdout) == (0, "Of the first.\nOf the second.\n"), done.stderr
    assert [row["state"] for row in sessions(project)] == ["completed"]
    exported = json.loads(loom_here("sessions", "export", "s", cwd=project).stdout)
    assert [run["state"] for run in exported["runs"]] == ["completed"] * 3


def test_review_guide_requests_of_several_runs_are_answered_by_name(project: Path, serve: Serve) -> None:
    read = call("Read", file_path="README.md")
    service = serve([read], [read], "Of the first.", "Of the second.")
    for task in ("First", "Second"):
        loom_here("run", task, "--ask", "Read", "--session", "s", cwd=project, env=service.env)
    shown = loom_here("sessions", "show", "s", cwd=project).stdout
    first, second = re.findall(r"\? (req_\w+): Run Read", shown)
    run = json.loads(loom_here("sessions", "export", "s", cwd=project).stdout)["runs"][0]["id"]
    words = ("sessions", "resume", "s", "--approve", first, "--deny", second)
    odd = loom_here(*words, "--run", run, cwd=project, env=service.env)
    assert (odd.returncode, "belong to other runs" in odd.stderr) == (2, True)
    done = loom_here(*words, cwd=project, env=service.env)
    assert (done.returncode, done.stdout) == (0, "Of the first.\nOf the second.\n"), done.stderr
    told = loom_here("sessions", "show", "s", cwd=project).stdout
    assert "refused by" in told


def test_review_guide_a_run_that_fails_does_not_keep_the_others_from_their_answers(
    project: Path, serve: Serve
) -> None:
    read = call("Read", file_path="README.md")
    service = serve([read], [read], "", "Of the second.")
    for task in ("First", "Second"):
        loom_here("run", task, "--ask", "Read", "--session", "s", cwd=project, env=service.env)
    done = loom_here("sessions", "resume", "s", "--approve", "all", cwd=project, env=service.env)
    assert (done.returncode, done.stdout) == (1, "Of the second.\n"), done.stderr
