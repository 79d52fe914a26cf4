"""``loom sessions``: what one process kept, another reads and goes on with."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from loom_command import COMMAND, Service, Terminal, environment, loom, loom_here

from loom import (
    Agent,
    FileSessionStore,
    GovernancePolicy,
    PermissionRule,
    SessionConfig,
    SqliteSessionStore,
    tool,
)
from loom.events import RunStarted, decode_event
from loom.signals import RuntimeTask
from loom.testing.model_server import served
from loom.testing.scripted import ScriptedProvider, call

Serve = Callable[..., Service]
READ = call("Read", file_path="README.md")


@pytest.fixture
def waiting(project: Path, serve: Serve) -> Service:
    """A service, and a run in the session ``s`` that waits for one yes before its last reply."""
    service = serve([READ], "It is a sample.")
    words = ("run", "Look", "--ask", "Read", "--session", "s", "--root", str(project))
    done = loom_here(*words, cwd=project, env=service.env)
    assert done.returncode == 3
    assert "To go on: loom sessions resume s --approve all" in done.stderr
    return service


def request_id(project: Path) -> str:
    shown = loom_here("sessions", "show", "s", cwd=project).stdout
    (found,) = re.findall(r"\? (req_\w+): Run Read", shown)
    return str(found)


def state_of(project: Path, session_id: str = "s") -> str:
    rows = json.loads(loom_here("sessions", "list", "--json", cwd=project).stdout)
    (state,) = (row["state"] for row in rows if row["id"] == session_id)
    return str(state)


# --- resume -------------------------------------------------------------------------------------------


def test_a_waiting_run_goes_on_in_another_process(project: Path, waiting: Service, tmp_path: Path) -> None:
    store = str(project / ".loom" / "sessions.db")
    key_alone = {name: value for name, value in waiting.env.items() if name != "LOOM_MODEL"}
    words = ("sessions", "resume", "s", "--approve", "all", "--store", store, "--json")
    done = loom(*words, cwd=tmp_path, env=key_alone)  # neither the folder nor an option of the run
    assert done.returncode == 0, done.stderr
    *events, result = [json.loads(line) for line in done.stdout.splitlines()]
    assert result["output"] == "It is a sample."
    assert events[0]["type"] == "run.resumed"
    assert {event["run_id"] for event in events} == {result["run_id"]}
    assert "A small project" in waiting.said_to_it(1)[-1]
    assert state_of(project) == "completed"


def test_a_denial_gives_its_reason_to_the_model(project: Path, waiting: Service) -> None:
    words = ("sessions", "resume", "s", "--deny", request_id(project), "--reason", "not that file")
    done = loom_here(*words, cwd=project, env=waiting.env)
    assert (done.returncode, done.stdout) == (0, "It is a sample.\n")
    assert "not that file" in waiting.said_to_it(1)[-1]
    assert "A small project" not in waiting.said_to_it(1)[-1]


def test_without_an_answer_it_goes_on_waiting(project: Path, waiting: Service) -> None:
    done = loom_here("sessions", "resume", "s", cwd=project, env=waiting.env)
    assert done.returncode == 3
    assert request_id(project) in done.stderr
    assert len(waiting.server.requests) == 1


def test_a_person_at_the_terminal_is_asked(project: Path, waiting: Service) -> None:
    with Terminal(["sessions", "resume", "s"], cwd=project, env=waiting.env) as terminal:
        terminal.expect("[y/N] > ")
        terminal.type("y")
        terminal.expect("Read file_path=README.md  ok")
        terminal.expect("It is a sample.")
        assert terminal.wait() == 0


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--approve", "req_nothing"], "'req_nothing' is not open here; open: req_"),
        (["--approve", "all", "--deny", "all"], "contradict each other"),
        (["--answer", "blue"], "it is ID=VALUE"),
        (["--run", "run_nothing"], "no unfinished run 'run_nothing'"),
        (["--yes", "--no"], "contradict each other"),
        (["--model", "nobody:x"], "there is no provider 'nobody'"),
    ],
)
def test_a_wrong_answer_changes_nothing(
    project: Path, waiting: Service, words: list[str], complaint: str
) -> None:
    before = loom_here("sessions", "show", "s", "--json", cwd=project).stdout
    done = loom_here("sessions", "resume", "s", *words, cwd=project, env=waiting.env)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert loom_here("sessions", "show", "s", "--json", cwd=project).stdout == before


def test_one_request_is_answered_once(project: Path, waiting: Service) -> None:
    request = request_id(project)
    both = loom_here("sessions", "resume", "s", "--approve", request, "--deny", request, cwd=project)
    assert (both.returncode, "answered twice" in both.stderr) == (2, True)
    words = ("sessions", "resume", "s", "--approve", request)
    assert loom_here(*words, cwd=project, env=waiting.env).returncode == 0
    again = loom_here(*words, cwd=project, env=waiting.env)
    assert again.returncode == 2
    assert "has no unfinished run" in again.stderr


def test_a_run_whose_process_died_goes_on(project: Path, serve: Serve) -> None:
    service = serve("First.", "Finished after all.")
    assert loom_here("run", "Begin", "--session", "s", cwd=project, env=service.env).returncode == 0

    async def begin_and_die() -> None:
        store = SqliteSessionStore(project / ".loom" / "sessions.db")
        lease = await store.acquire("s", owner="dead", ttl=30)
        at = await store.head("s")
        task = RuntimeTask("Go on")
        await store.append(lease, [RunStarted(task=task, run_id="run_x", session_id="s", seq=at + 1, at=1.0)])
        await store.release(lease)
        await store.aclose()

    asyncio.run(begin_and_die())
    refused = loom_here("sessions", "resume", "s", cwd=project, env=service.env)
    assert refused.returncode == 2
    assert "not started from the command line" in refused.stderr
    words = ("sessions", "resume", "s", "--model", "openai:scripted")
    done = loom_here(*words, cwd=project, env=service.env)
    assert (done.returncode, done.stdout) == (0, "Finished after all.\n")


def test_a_killed_run_goes_on_at_once(project: Path, serve: Serve) -> None:
    service = serve([READ], served("Half a sentence. " * 80, stall_at=1500), "Whole.")
    words = ("run", "Look", "--session", "s")
    process = subprocess.Popen(
        [*COMMAND, *words, "--json"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        cwd=project,
        env=environment(service.env),
        encoding="utf-8",
    )
    with process:
        assert process.stdout is not None
        while '"text.delta"' not in process.stdout.readline():
            pass
        process.kill()
    assert state_of(project) == "running"
    done = loom_here("sessions", "resume", "s", cwd=project, env=service.env)
    assert (done.returncode, done.stdout) == (0, "Whole.\n")
    assert "A small project" in service.said_to_it(2)[-1]


def test_a_run_of_a_program_is_read_here_and_resumed_there(project: Path) -> None:
    @tool(read_only=True)
    def pick_colour() -> str:
        """Pick."""
        return "blue"

    async def wait_in_a_program() -> str:
        policy = GovernancePolicy(rules=(PermissionRule.ask("*"),))
        store = SqliteSessionStore(project / "app.db")
        model = ScriptedProvider([call("pick_colour")])
        agent = Agent(model=model, tools=[pick_colour], session_store=store, governance=policy)
        result = await agent.session(SessionConfig(id="app")).run("Which colour?")
        await agent.aclose()
        return result.state.value

    assert asyncio.run(wait_in_a_program()) == "waiting"
    done = loom_here("sessions", "resume", "app", "--approve", "all", "--store", "app.db", cwd=project)
    assert done.returncode == 2
    assert "resume it where it was started" in done.stderr
    assert "Run pick_colour" in loom_here("sessions", "show", "app", "--store", "app.db", cwd=project).stdout
    assert "app" in loom_here("sessions", "list", "--store", "app.db", cwd=project).stdout


# --- reading ------------------------------------------------------------------------------------------


def test_list_show_and_export_tell_what_happened(project: Path, serve: Serve) -> None:
    hostile = call("Read", file_path="a\x1b[2Jb")
    service = serve([READ, hostile], "It is a ```sample```\x1b[31m.")
    loom_here("run", "Look\nclosely", "--session", "s", cwd=project, env=service.env)

    row = loom_here("sessions", "list", cwd=project).stdout
    assert re.fullmatch(r"s +1 run  completed +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  Look closely\n", row)

    shown = loom_here("sessions", "show", "s", cwd=project).stdout
    assert "you: Look\n     closely\n" in shown
    assert "[Read file_path=README.md] ok" in shown
    assert "A small project to read." in shown
    assert r"a\x1b[2Jb" in shown
    assert "── completed · 2 model calls" in shown

    events = loom_here("sessions", "show", "s", "--events", cwd=project).stdout.splitlines()
    assert [int(line.split()[0]) for line in events] == list(range(1, len(events) + 1))
    lines = loom_here("sessions", "show", "s", "--json", cwd=project).stdout.splitlines()
    assert [decode_event(line).seq for line in lines] == list(range(1, len(events) + 1))

    target = project / "s.md"
    words = ("sessions", "export", "s", "--format", "markdown", "-o", str(target))
    assert loom_here(*words, cwd=project).returncode == 0
    document = target.read_text(encoding="utf-8")
    assert document.startswith("# Session `s`\n\n## Look closely\n")
    assert "> Look\n> closely" in document
    assert '**Tool** `Read` `{"file_path":"README.md"}`: ok\n\n```text\n' in document

    exported = loom_here("sessions", "export", "s", cwd=project).stdout
    whole = json.loads(exported)
    assert whole["session"]["id"] == "s"
    (run,) = whole["runs"]
    assert (run["state"], run["messages"][-1]["content"]) == ("completed", "It is a ```sample```\x1b[31m.")
    assert len(whole["events"]) == len(events)
    for said in (row, shown, document, exported, *events, *lines):
        assert "\x1b" not in said


def test_long_results_are_cut_unless_asked_for(project: Path, serve: Serve) -> None:
    (project / "README.md").write_text("".join(f"line {n}\n" for n in range(40)), encoding="utf-8")
    loom_here("run", "Look", "--session", "s", cwd=project, env=serve([READ], "Done.").env)
    short = loom_here("sessions", "show", "s", cwd=project).stdout
    assert "line 39" not in short
    assert "lines more" in short
    assert "line 39" in loom_here("sessions", "show", "s", "--full", cwd=project).stdout


def test_one_run_of_several_can_be_shown(project: Path, serve: Serve) -> None:
    service = serve("One.", "Two.")
    for task in ("First", "Second"):
        loom_here("run", task, "--session", "s", cwd=project, env=service.env)
    whole = loom_here("sessions", "show", "s", cwd=project).stdout
    first, _ = re.findall(r"run_\w+", whole)
    one = loom_here("sessions", "show", "s", "--run", first, cwd=project).stdout
    assert "One." in one
    assert "Two." not in one
    assert loom_here("sessions", "show", "s", "--run", "run_x", cwd=project).returncode == 2


# --- fork, delete -------------------------------------------------------------------------------------


def test_a_fork_begins_with_what_was_said_and_leaves_the_other_alone(project: Path, serve: Serve) -> None:
    service = serve("One.", "Two.", "Three.")
    for task in ("First", "Second"):
        loom_here("run", task, "--session", "s", cwd=project, env=service.env)
    lines = loom_here("sessions", "show", "s", "--json", cwd=project).stdout.splitlines()
    (end_of_first, _) = [event.seq for event in map(decode_event, lines) if event.type == "run.finished"]
    words = ("sessions", "fork", "s", "--at", str(end_of_first), "--as", "t")
    forked = loom_here(*words, cwd=project)
    assert (forked.returncode, forked.stdout) == (0, "t\n")
    loom_here("run", "Third", "--session", "t", cwd=project, env=service.env)
    assert service.said_to_it(2) == ["First", "One.", "Third"]
    assert len(loom_here("sessions", "show", "s", "--json", cwd=project).stdout.splitlines()) == len(lines)
    assert "forked from s at" in loom_here("sessions", "show", "t", cwd=project).stdout

    assert loom_here(*words, cwd=project).returncode == 2, "the id is taken"
    assert loom_here("sessions", "fork", "s", "--at", "999", cwd=project).returncode == 2
    fresh = loom_here("sessions", "fork", "s", cwd=project).stdout.strip()
    assert fresh.startswith("ses_")


def test_delete_asks_first(project: Path, serve: Serve) -> None:
    loom_here("run", "Look", "--session", "s", cwd=project, env=serve("One.").env)
    unasked = loom_here("sessions", "delete", "s", cwd=project)
    assert unasked.returncode == 2
    assert "--yes" in unasked.stderr
    with Terminal(["sessions", "delete", "s"], cwd=project) as terminal:
        terminal.expect("s: 1 run, last Look")
        terminal.expect("[y/N]: ")
        terminal.type("n")
        assert terminal.wait() == 130
    assert state_of(project) == "completed"
    with Terminal(["sessions", "delete", "s"], cwd=project) as terminal:
        terminal.expect("[y/N]: ")
        terminal.type("y")
        assert terminal.wait() == 0
    assert json.loads(loom_here("sessions", "list", "--json", cwd=project).stdout) == []


def test_a_session_in_use_is_not_deleted(project: Path, serve: Serve) -> None:
    loom_here("run", "Look", "--session", "s", cwd=project, env=serve("One.").env)

    async def work_in_it() -> int:
        store = SqliteSessionStore(project / ".loom" / "sessions.db")
        await store.acquire("s", owner="somebody else", ttl=30)
        done = await asyncio.to_thread(loom, "sessions", "delete", "s", "--yes", cwd=project)
        await store.aclose()
        assert "in use by somebody else" in done.stderr
        return done.returncode

    assert asyncio.run(work_in_it()) == 1
    assert state_of(project) == "completed"


# --- stores -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["show", "resume", "fork", "delete", "export"])
def test_what_is_not_there_is_told(project: Path, serve: Serve, verb: str) -> None:
    nowhere = loom_here("sessions", verb, "nope", cwd=project)
    assert nowhere.returncode == 2
    assert "there is no session store at .loom/sessions.db" in nowhere.stderr
    assert not (project / ".loom").exists()
    loom_here("run", "Look", "--session", "s", cwd=project, env=serve("One.").env)
    unknown = loom_here("sessions", verb, "nope", cwd=project)
    assert unknown.returncode == 2
    assert "there is no session 'nope'" in unknown.stderr


def test_a_store_may_be_a_file_of_lines(project: Path, serve: Serve) -> None:
    service, env = serve([READ], "It is a sample."), {"LOOM_STORE": "kept.jsonl"}
    words = ("run", "Look", "--ask", "Read", "--session", "s")
    assert loom_here(*words, cwd=project, env={**service.env, **env}).returncode == 3
    done = loom_here("sessions", "resume", "s", "--approve", "all", cwd=project, env={**service.env, **env})
    assert (done.returncode, done.stdout) == (0, "It is a sample.\n")
    assert [record.id for record in FileSessionStore(project / "kept.jsonl").list_sessions()] == ["s"]
    assert not (project / ".loom").exists()


def test_a_damaged_store_is_named_and_left_as_it_is(project: Path) -> None:
    (project / "broken.db").write_bytes(b"this is no database" * 100)
    done = loom_here("sessions", "list", "--store", "broken.db", cwd=project)
    assert done.returncode == 1
    assert "broken.db is damaged or not a database" in done.stderr
    assert "Traceback" not in done.stderr
    assert (project / "broken.db").read_bytes() == b"this is no database" * 100


# --- a long list --------------------------------------------------------------------------------------


@pytest.fixture
def thirty(tmp_path: Path) -> Path:
    """Thirty sessions, of which every tenth waits."""

    @tool(destructive=True)
    def ship() -> str:
        """Ship it."""
        return "shipped"

    async def fill() -> None:
        store = SqliteSessionStore(tmp_path / "s.db")
        for number in range(30):
            said = call("ship") if number % 10 == 0 else "Done."
            agent = Agent(model=ScriptedProvider([said]), tools=[ship], session_store=store)
            await agent.session(f"desk-{number:02}").run(f"Errand {number}: straße")
        await store.aclose()

    asyncio.run(fill())
    return tmp_path


def ids(*words: str, cwd: Path) -> list[str]:
    done = loom_here("sessions", "list", "--store", "s.db", *words, cwd=cwd)
    assert done.returncode == 0, done.stderr
    if "--json" in words:
        return [row["id"] for row in json.loads(done.stdout)]
    return [line.split()[0] for line in done.stdout.splitlines()]


def test_review_k_the_list_of_sessions_is_short_and_says_what_it_leaves_out(thirty: Path) -> None:
    done = loom_here("sessions", "list", "--store", "s.db", cwd=thirty)
    assert [line.split()[0] for line in done.stdout.splitlines()] == [f"desk-{n}" for n in range(29, 9, -1)]
    assert "10 more sessions: --all" in done.stderr
    assert len(ids("--all", cwd=thirty)) == 30
    assert ids("--limit", "2", cwd=thirty) == ["desk-29", "desk-28"]
    assert "more" not in loom_here("sessions", "list", "--store", "s.db", "--limit", "30", cwd=thirty).stderr


def test_review_k_the_list_of_sessions_as_data_is_whole_unless_it_is_limited(thirty: Path) -> None:
    assert len(ids("--json", cwd=thirty)) == 30
    assert ids("--json", "--limit", "1", cwd=thirty) == ["desk-29"]
    done = loom_here("sessions", "list", "--store", "s.db", "--json", "--limit", "1", cwd=thirty)
    assert "29 more sessions: --all" in done.stderr


def test_review_k_the_list_of_sessions_can_be_filtered(thirty: Path) -> None:
    assert ids("--state", "waiting", cwd=thirty) == ["desk-20", "desk-10", "desk-00"]
    assert ids("--state", "failed", cwd=thirty) == []
    assert len(ids("--state", "waiting", "--state", "completed", "--all", cwd=thirty)) == 30
    assert ids("--search", "errand 7:", cwd=thirty) == ["desk-07"]
    assert ids("--search", "STRASSE", "--limit", "1", cwd=thirty) == ["desk-29"]
    assert ids("--search", "DESK-1", "--state", "waiting", cwd=thirty) == ["desk-10"]
    none = loom_here("sessions", "list", "--store", "s.db", "--search", "nowhere", cwd=thirty)
    assert (none.stdout, none.stderr) == ("", "None of 30 sessions fits.\n")


@pytest.mark.parametrize(
    "words",
    [["--limit", "0"], ["--limit", "-1"], ["--limit", "3", "--all"], ["--state", "waitng"]],
    ids=" ".join,
)
def test_review_k_a_limit_that_means_nothing_is_wrong_usage(words: list[str], thirty: Path) -> None:
    assert loom_here("sessions", "list", "--store", "s.db", *words, cwd=thirty).returncode == 2
