"""Killed by SIGKILL at every durable boundary and at random instants, a run ends as if nothing had happened.

The long tests are marked ``chaos`` (``make chaos``); a short slice of them runs with the suite.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SUBJECT = Path(__file__).parent / "subject.py"
STORES = ("sqlite", "file")
REPEATABLE = frozenset({"read", "note", "child"})
Report = dict[str, Any]


class Subject:
    """A process that forks one victim for each specification."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(SUBJECT), "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def perform(self, spec: dict[str, Any]) -> Report:
        """What the victim reported, or ``killed``."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(spec) + "\n")
        self._process.stdin.flush()
        report: Report = json.loads(self._process.stdout.readline())
        assert "raised" not in report, report["raised"]
        return report

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)


@pytest.fixture(scope="module")
def subject() -> Iterator[Subject]:
    one = Subject()
    yield one
    one.close()


@dataclass
class Life:
    """One run over its processes: its store, its effects, and how far the clock of the living is ahead."""

    subject: Subject
    store: str
    folder: Path
    skew: float = 0.0

    def spec(self, **more: Any) -> dict[str, Any]:
        return {
            "do": "run",
            "store": self.store,
            "path": str(self.folder / "sessions"),
            "effects": str(self.folder / "effects"),
            "skew": self.skew,
            "recovery": "approve",
            **more,
        }

    def perform(self, **more: Any) -> Report:
        report = self.subject.perform(self.spec(**more))
        if report.get("killed"):
            assert report["killed"] == signal.SIGKILL
            self.skew += 60.0  # the lease of the dead has expired
        return report

    @property
    def effects(self) -> Counter[str]:
        path = self.folder / "effects"
        return Counter(path.read_text().splitlines()) if path.exists() else Counter()


def _life(subject: Subject, store: str, tmp_path: Path, name: str) -> Life:
    folder = tmp_path / name
    folder.mkdir()
    return Life(subject, store, folder)


def essence(report: Report) -> dict[str, Any]:
    """What must not depend on how often the process died."""
    return {
        "state": report["state"],
        "output": report["output"],
        "messages": report["messages"],
        "usage": report["usage"],
        "error": report["error"],
        "unfinished": report["unfinished"],
        "logs": [_essence_of(log) for log in report["logs"]],
    }


def _essence_of(log: list[dict[str, Any]]) -> list[Any]:
    """The log without times, repeated attempts, and the questions about calls of unknown fate."""
    recovery = {e["request"]["id"] for e in log if e["type"] == "request.opened" and _recovers(e)}
    told: list[Any] = []
    for event in log:
        kind, call = event["type"], event.get("call_id", "")
        if kind == "model.replied":
            told.append((kind, json.dumps(event["message"], sort_keys=True)))
        elif kind == "tool.finished":
            told.append((kind, call, event["outcome"], event["result"].get("text")))
        elif kind == "tool.started":
            told.append((kind, call))
        elif kind == "request.opened" and event["request"]["id"] not in recovery:
            told.append((kind, event["request"].get("call_id"), event["request"]["tool_name"]))
        elif kind in ("child.started", "child.finished"):
            told.append((kind, call))
        elif kind in ("run.started", "run.finished", "quality.judged"):
            told.append((kind, event.get("state")))
    unique = list(dict.fromkeys(told))
    finished = [entry for entry in told if entry[0] == "tool.finished"]
    assert len(finished) == len(set(finished)), "a call has two results"
    return sorted(unique, key=str)


def _recovers(event: dict[str, Any]) -> bool:
    return event["request"].get("origin") == "recovery"


def unknown_calls(report: Report) -> set[str]:
    """The effectful calls that the log shows as started and not finished."""
    unknown: set[str] = set()
    for log in report["logs"]:
        if log and log[-1]["type"] == "run.finished":
            continue
        for event in log:
            if event["type"] == "tool.started" and event["name"] not in REPEATABLE:
                unknown.add(f"{event['run_id']}:{event['call_id']}")
            elif event["type"] == "tool.finished":
                unknown.discard(f"{event['run_id']}:{event['call_id']}")
    return unknown


def asked_calls(report: Report) -> Counter[str]:
    """The calls whose fate was asked about, by what they would do."""
    asked: Counter[str] = Counter()
    for log in report["logs"]:
        run = log[0]["run_id"] if log else ""
        for event in log:
            if event["type"] != "request.opened" or not _recovers(event):
                continue
            if event["request"]["run_id"] == run:  # not one that a parent hands on
                arguments = json.loads(event["request"]["arguments"])
                asked[f"{event['request']['tool_name']} {arguments['n']}"] += 1
    return asked


def check_crash(life: Life, wanted: Report, recovery: str, **kill: Any) -> None:
    """Kill once, look, go on, and compare with the run that was left alone."""
    killed = life.perform(**kill)
    if not killed.get("killed"):
        assert essence(killed) == essence(wanted)
        return
    seen = life.perform(do="inspect")
    unknown = unknown_calls(seen)
    before = life.effects
    after = life.perform(recovery=recovery)
    where = f"{life.store} {kill} {recovery}"
    assert not after.get("killed"), where
    asked = asked_calls(after)
    assert sum(asked.values()) == len(unknown), f"{where}: {unknown} against {asked}"
    if recovery != "deny" or not unknown:
        assert essence(after) == essence(wanted), where
    else:
        outcomes = [e["outcome"] for log in after["logs"] for e in log if e["type"] == "tool.finished"]
        assert outcomes.count("unknown") == len(unknown), where
        assert after["state"] == "completed", where
    for effect, count in life.effects.items():
        if effect.split()[0] not in REPEATABLE:
            allowed = 1 + (asked[effect] if recovery == "approve" else 0)
            assert count <= allowed, f"{where}: {effect} happened {count} times"
            assert recovery == "approve" or not asked[effect] or count == before[effect], where
    _matches(seen, after)


def _matches(before: Report, after: Report) -> None:
    """What was durable when the process died is the beginning of what is there in the end."""
    for old, new in zip(before["logs"], after["logs"], strict=False):
        assert new[: len(old)] == old


def whole(subject: Subject, store: str, tmp_path: Path) -> tuple[Report, Counter[str]]:
    """The run that nobody disturbs."""
    life = _life(subject, store, tmp_path, "whole")
    report = life.perform()
    assert report["state"] == "completed"
    assert report["output"] == "the end"
    assert all(count == 1 for count in life.effects.values())
    assert len(life.effects) == 12
    return report, life.effects


# --- the short slice ------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", STORES)
def test_a_slice_of_the_boundaries(subject: Subject, store: str, tmp_path: Path) -> None:
    report, _ = whole(subject, store, tmp_path)
    appends = report["appends"]
    assert appends > 25
    for n in range(4, appends + 1, 14):
        for when, recovery in (("after", "approve"), ("before", "answer")):
            life = _life(subject, store, tmp_path, f"{when}{n}")
            check_crash(life, report, recovery, kill=[when, n])


@pytest.mark.parametrize("store", STORES)
def test_an_effectful_tool_that_had_started_is_asked_about(
    subject: Subject, store: str, tmp_path: Path
) -> None:
    """Killed right after its start was saved, and right before its end was: asked, with origin recovery."""
    report, _ = whole(subject, store, tmp_path)
    for n in range(6, report["appends"] + 1):
        life = _life(subject, store, tmp_path, str(n))
        life.perform(kill=["before", n])
        unknown = unknown_calls(life.perform(do="inspect"))
        if not unknown:
            continue
        effects = life.effects
        waiting = life.perform(recovery="ask")
        assert waiting["state"] == "waiting"
        assert {f"{r['run_id']}:{r['call_id']}" for r in waiting["pending"]} == unknown
        assert {r["origin"] for r in waiting["pending"]} == {"recovery"}
        assert {r["kind"] for r in waiting["pending"]} == {"approval"}
        again = life.perform(recovery="ask")
        assert again["state"] == "waiting"
        assert again["pending"] == waiting["pending"]
        ran = [effect for effect in life.effects - effects if effect.split()[0] not in REPEATABLE]
        assert ran == [], "something ran while its fate was unknown"
        done = life.perform(recovery="deny")
        assert done["state"] == "completed"
        outcomes = [e["outcome"] for log in done["logs"] for e in log if e["type"] == "tool.finished"]
        assert outcomes.count("unknown") == len(unknown)
        return
    pytest.fail("no effectful tool ever ran")


def test_a_fresh_program_goes_on(tmp_path: Path, subject: Subject) -> None:
    """The same with a process of its own for each step, not a fork."""
    life = _life(subject, "sqlite", tmp_path, "fresh")
    dead = subprocess.run(
        [sys.executable, str(SUBJECT), json.dumps(life.spec(kill=["after", 6]))],
        capture_output=True,
        check=False,
    )
    assert dead.returncode == -signal.SIGKILL
    life.skew += 60.0
    done = subprocess.run(
        [sys.executable, str(SUBJECT), json.dumps(life.spec())], capture_output=True, check=True, text=True
    )
    assert json.loads(done.stdout)["state"] == "completed"


# --- the long run -----------------------------------------------------------------------------------------


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize("recovery", ["approve", "answer", "deny"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("store", STORES)
def test_every_boundary(subject: Subject, store: str, when: str, recovery: str, tmp_path: Path) -> None:
    report, _ = whole(subject, store, tmp_path)
    for n in range(1, report["appends"] + 1):
        check_crash(_life(subject, store, tmp_path, f"{n}"), report, recovery, kill=[when, n])


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize("store", STORES)
def test_random_instants(subject: Subject, store: str, tmp_path: Path) -> None:
    report, _ = whole(subject, store, tmp_path)
    luck = random.Random(7)
    length = max(0.05, report["seconds"]) + 0.2
    deaths = 0
    for n in range(150):
        life = _life(subject, store, tmp_path, f"{n}")
        check_crash(
            life, report, luck.choice(["approve", "answer"]), die_at=luck.uniform(0, length), slow=0.004
        )
        deaths += life.skew > 0
    assert deaths > 50


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize("store", STORES)
def test_a_process_that_dies_again_and_again(subject: Subject, store: str, tmp_path: Path) -> None:
    """Each process manages a few appends, recovery included; nothing happens twice without being asked about."""
    report, _ = whole(subject, store, tmp_path)
    for recovery in ("approve", "answer"):
        life, luck = _life(subject, store, tmp_path, recovery), random.Random(3)
        for _ in range(200):
            last = life.perform(kill=["after", luck.randint(1, 8)], recovery=recovery)
            if not last.get("killed"):
                break
        else:
            pytest.fail("it never comes to its end")
        assert last["state"] == "completed"
        assert last["output"] == report["output"]
        asked = asked_calls(last)
        for effect, count in life.effects.items():
            if effect.split()[0] not in REPEATABLE:
                assert count <= 1 + (asked[effect] if recovery == "approve" else 0), effect


@pytest.mark.chaos
@pytest.mark.timeout(120)
@pytest.mark.parametrize("store", STORES)
def test_nobody_has_to_wait_for_a_dead_process(subject: Subject, store: str, tmp_path: Path) -> None:
    """Right after a kill, with the clock as it is: resuming must not fail because the dead holds the session."""
    life = _life(subject, store, tmp_path, "now")
    life.perform(kill=["after", 6])
    life.skew = 0.0
    done = life.perform()
    assert done["state"] == "completed"


@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.parametrize("store", STORES)
def test_two_processes_that_resume_at_once(store: str, tmp_path: Path) -> None:
    """One takes the session, the other waits for it; the effects are those of one."""
    folder = tmp_path / "both"
    folder.mkdir()
    for n in range(6):
        here = folder / str(n)
        here.mkdir()
        spec = {
            "do": "run",
            "store": store,
            "path": str(here / "sessions"),
            "effects": str(here / "effects"),
            "skew": 0.0,
            "recovery": "approve",
        }
        first = subprocess.run(
            [sys.executable, str(SUBJECT), json.dumps({**spec, "kill": ["after", 3 + 2 * n]})],
            capture_output=True,
            check=False,
        )
        assert first.returncode == -signal.SIGKILL
        both = [
            subprocess.Popen(
                [sys.executable, str(SUBJECT), json.dumps({**spec, "skew": 60.0})],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=dict(os.environ),
            )
            for _ in range(2)
        ]
        ends = [process.communicate(timeout=60) for process in both]
        done = [
            json.loads(out) for (out, _), process in zip(ends, both, strict=True) if process.returncode == 0
        ]
        assert any(report["state"] == "completed" for report in done), ends
        asked = asked_calls(next(report for report in done if report["state"] == "completed"))
        effects = Counter((here / "effects").read_text().splitlines())
        for effect, count in effects.items():
            if effect.split()[0] not in REPEATABLE:
                assert count <= 1 + asked[effect], effect
