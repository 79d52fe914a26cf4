"""``loom doctor``: honest about what works, silent about what is secret."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest
from loom_command import KEY, Service, loom, loom_here

from loom.cli.health import chosen_models, examine_model
from loom.config.model import Model
from loom.testing.model_server import ModelServer

Serve = Callable[..., Service]


def test_a_key_is_set_or_not_and_never_shown(project: Path) -> None:
    env = {
        "ANTHROPIC_API_KEY": KEY,
        "OPENAI_BASE_URL": f"http://user:{KEY}@127.0.0.1:9/v1",
        "GROQ_API_KEY": " ",
    }
    for words in (["doctor"], ["doctor", "--json"]):
        done = loom(*words, cwd=project, env=env)
        assert done.returncode == 0, done.stderr
        for start in range(len(KEY) - 5):
            assert KEY[start : start + 6] not in done.stdout + done.stderr
        assert "\x1b" not in done.stdout
    said = json.loads(done.stdout)
    assert said["keys"]["ANTHROPIC_API_KEY"] is True
    assert said["keys"]["OPENAI_API_KEY"] is False
    assert said["keys"]["GROQ_API_KEY"] is False, "blanks are no key"
    assert said["addresses"] == ["OPENAI_BASE_URL", "OLLAMA_BASE_URL"]
    assert said["auto"].startswith("anthropic:")
    assert said["ollama"] is None
    assert os.listdir(project) == ["README.md"], "looking makes nothing"


def test_versions_extras_and_a_healthy_store(project: Path, serve: Serve) -> None:
    loom_here("run", "Look", "--session", "s", cwd=project, env=serve("One.").env)
    done = loom_here("doctor", cwd=project)
    assert done.returncode == 0
    for word in ("loom ", "CPython 3.", "sqlite ", "aiohttp ", "msgspec ", "extra cli", "rich "):
        assert word in done.stdout
    assert "ANTHROPIC_API_KEY is not set" in done.stdout
    assert "model auto        offline:offline" in done.stdout
    assert ".loom/sessions.db (SQLite): 1 session, 3 events, all readable" in done.stdout
    assert "nothing is broken" in done.stdout


def test_an_ollama_that_answers_is_found(project: Path) -> None:
    with ModelServer.in_thread(models=["nomic-embed-text", "llama3.2"]) as server:
        done = loom_here("doctor", "--json", cwd=project, env={"OLLAMA_BASE_URL": server.base_url})
    said = json.loads(done.stdout)
    assert said["ollama"] == "llama3.2"
    assert said["auto"] == "ollama:llama3.2"


def test_review_c_a_model_that_has_ended_is_said_and_breaks_what_needs_it(project: Path) -> None:
    def doctor(**env: str) -> tuple[int, str]:
        done = loom_here("doctor", cwd=project, env=env)
        return done.returncode, done.stdout

    code, said = doctor(LOOM_MODEL="anthropic:claude-sonnet-4-20250514")
    assert code == 1
    assert (
        "!!  model LOOM_MODEL  the model anthropic:claude-sonnet-4-20250514 was retired on 2026-06-15" in said
    )
    code, said = doctor(LOOM_MODEL="anthropic:claude-sonnet-4")
    assert code == 0
    assert "--  model LOOM_MODEL  anthropic:claude-sonnet-4: " in said
    assert "was retired on 2026-06-15; claude-" in said
    assert doctor(LOOM_MODEL="nonsense")[0] == 1
    assert doctor(LOOM_MODEL="offline")[0] == 0


def test_review_c_an_end_to_come_is_shown() -> None:
    today = date(2026, 11, 29)
    assert examine_model("auto", Model.openai("gpt-5.1"), today).retires == date(2027, 4, 1)
    assert not examine_model("auto", Model.openai("gpt-5.1"), today).notice
    assert "successor is gpt-6.1-sol" in examine_model("auto", Model.openai("gpt-5"), today).notice
    assert chosen_models({"LOOM_MODEL": " "}, today) == []


@pytest.mark.parametrize("name", ["sessions.db", "sessions.jsonl"])
def test_damage_anywhere_in_the_store_is_found(project: Path, serve: Serve, name: str) -> None:
    store = project / name
    words = ("run", "A task to be found again", "--session", "s", "--store", name)
    loom_here(*words, cwd=project, env=serve("One.").env)
    assert loom_here("doctor", "--store", name, cwd=project).returncode == 0
    whole = store.read_bytes()
    at = whole.rindex(b"to be found again")
    store.write_bytes(whole[:at] + b"TO" + whole[at + 2 :])
    done = loom_here("doctor", "--store", name, cwd=project)
    assert done.returncode == 1
    assert "!!  store         " in done.stdout
    assert "1 problem" in done.stdout


def test_a_file_that_is_no_store_is_broken_and_left_alone(project: Path) -> None:
    (project / "notes.db").write_text("my notes\n" * 200, encoding="utf-8")
    done = loom_here("doctor", "--store", "notes.db", "--json", cwd=project)
    assert done.returncode == 1
    assert "not a database" in json.loads(done.stdout)["problems"][0]
    assert (project / "notes.db").read_text(encoding="utf-8") == "my notes\n" * 200
    (project / "empty.db").touch()
    assert loom_here("doctor", "--store", "empty.db", cwd=project).returncode == 0
    assert (project / "empty.db").stat().st_size == 0


def test_a_store_that_others_may_read_is_mentioned(project: Path, serve: Serve) -> None:
    loom_here("run", "Look", "--session", "s", cwd=project, env=serve("One.").env)
    (project / ".loom" / "sessions.db").chmod(0o644)
    done = loom_here("doctor", cwd=project)
    assert done.returncode == 0
    assert "chmod 600" in done.stdout


def test_damage_that_no_reading_meets_is_found(project: Path, serve: Serve) -> None:
    loom_here("run", "Look", "--session", "s", "--store", "s.db", cwd=project, env=serve("One.").env)
    store = project / "s.db"
    with closing(sqlite3.connect(store)) as connection:
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'dedupe_by_age'"
        ).fetchone()
    whole = store.read_bytes()
    store.write_bytes(whole[: (page - 1) * size] + b"\xff" * size + whole[page * size :])
    assert "Look" in loom_here("sessions", "show", "s", "--store", "s.db", cwd=project).stdout
    done = loom_here("doctor", "--store", "s.db", cwd=project)
    assert done.returncode == 1
    assert "s.db is damaged" in done.stdout


def test_extras_that_are_no_ability_are_left_out(tmp_path: Path) -> None:
    extras = json.loads(loom_here("doctor", "--json", cwd=tmp_path).stdout)["extras"]
    assert sorted(extras) == ["cli", "pricing"]
