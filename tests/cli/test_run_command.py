"""``loom run``, as it is used: through pipes and on a terminal."""

from __future__ import annotations

import base64
import json
import os
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from loom_command import COMMAND, KEY, Service, Terminal, environment, loom, loom_here

from loom.errors import AuthenticationError, ProviderUnavailableError
from loom.events import decode_event
from loom.testing.model_server import served
from loom.testing.scripted import call, say
from loom.types import Usage

Serve = Callable[..., Service]
READ = call("Read", file_path="README.md")
HOSTILE = "red \x1b[31m title \x1b]0;owned\x07 bell \x9b2J turn \u202etxt.exe back \u200b\rover\n\ttab"


def test_into_a_pipe_goes_the_answer_alone(project: Path) -> None:
    done = loom("run", "Summarize this repository", "--model", "offline", cwd=project)
    assert done.returncode == 0, done.stderr
    assert "Sample" in done.stdout
    assert "model calls" not in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    assert "  Read file_path=README.md limit=150  ok " in done.stderr
    assert "completed · 3 model calls" in done.stderr
    assert "cost unknown" in done.stderr
    assert os.listdir(project) == ["README.md"], "a run that is not kept leaves nothing behind"


def test_review_d3_what_the_offline_model_cannot_do_fails(project: Path) -> None:
    for words in (["--model", "offline"], []):
        done = loom("run", "Which functions have no test?", *words, cwd=project)
        assert (done.returncode, done.stdout) == (1, "")
        assert "I have not done this task" in done.stderr
        assert "failed · " in done.stderr
        assert ("auto found no key" in done.stderr) == (not words)
    assert "auto found no key" in loom("run", "Summarize this repository", cwd=project).stderr


def test_on_a_terminal_text_comes_as_it_is_written_and_a_call_is_one_line(
    project: Path, serve: Serve
) -> None:
    usage = Usage(input_tokens=1200, output_tokens=34, cache_read_tokens=1000)
    service = serve(["Let me look.", READ], say("It is a sample.", usage=usage))
    with Terminal(["run", "What is this?"], cwd=project, env=service.env) as terminal:
        assert terminal.wait() == 0
    assert "\x1b[" in terminal.raw
    lines = [line.rstrip() for line in terminal.text.splitlines()]
    assert lines.count("It is a sample.") == 1
    (shown,) = (line for line in lines if "Read file_path=README.md  ok" in line)
    assert (
        terminal.text.index("Let me look.")
        < terminal.text.index(shown)
        < terminal.text.index("It is a sample.")
    )
    assert "1,210 in (1,000 cached) + 39 out tokens" in lines[-1]
    assert "scripted" in lines[-1]


PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)


def test_files_are_shown_to_the_model_and_kept(project: Path, serve: Serve) -> None:
    (project / "cat").write_bytes(PNG)
    (project / "dog").write_bytes(PNG + b"dog")
    service = serve("Animals.", "Yes.")
    words = ("run", "What is this?", "--session", "s", "--attach", "cat", "-a", "dog")
    done = loom_here(*words, cwd=project, env=service.env)
    assert (done.returncode, done.stdout) == (0, "Animals.\n")
    os.remove(project / "cat")
    again = loom_here("run", "Sure?", "--session", "s", cwd=project, env=service.env)
    assert again.returncode == 0, again.stderr
    expected = [base64.b64encode(content).decode() for content in (PNG, PNG + b"dog")]
    for request in service.server.requests:
        asked = next(m for m in request.body["messages"] if m["role"] == "user")["content"]
        assert asked[0] == {"type": "text", "text": "What is this?"}
        assert [part["image_url"]["url"].partition(",")[2] for part in asked[1:]] == expected
    shown = loom_here("sessions", "show", "s", cwd=project).stdout
    assert "[image/png, 48 bytes]" in shown
    assert "[image/png, 51 bytes]" in shown
    exported = loom_here("sessions", "export", "s", cwd=project).stdout
    assert "image/png" in exported


def test_a_file_that_cannot_be_shown_is_told_before_anything_is_sent(project: Path, serve: Serve) -> None:
    (project / "tool.png").write_bytes(b"\x7fELF" + bytes(40))
    service = serve("x")
    for name, complaint in (
        ("tool.png", "not sent"),
        ("none.png", "does not exist"),
        (".", "is a directory"),
    ):
        done = loom_here("run", "What?", "--attach", name, "--session", "s", cwd=project, env=service.env)
        assert done.returncode == 2, done.stderr
        assert complaint in done.stderr
    assert service.server.requests == []
    assert not (project / ".loom").exists()


def test_no_color_means_none(project: Path, serve: Serve) -> None:
    service = serve([READ], "Done.")
    with Terminal(["run", "Look"], cwd=project, env={**service.env, "NO_COLOR": "1"}) as terminal:
        assert terminal.wait() == 0
    assert "Done." in terminal.text
    styles = [part for part in terminal.raw.split("\x1b[")[1:] if part.lstrip("0123456789;").startswith("m")]
    assert styles == []


def test_force_color_does_not_reach_a_pipe(project: Path) -> None:
    words = ("run", "Summarize this repository", "--model", "offline")
    done = loom(*words, cwd=project, env={"FORCE_COLOR": "1", "CLICOLOR_FORCE": "1"})
    assert done.returncode == 0
    assert "\x1b" not in done.stdout + done.stderr


def test_what_a_model_writes_cannot_steer_the_terminal(project: Path, serve: Serve) -> None:
    call_of_a_name = call("\x1b[2JWipe", **{"\x1b]0;x\x07": "\x1b[31m"})
    service = serve(["look", call_of_a_name], HOSTILE)
    with Terminal(["run", "Look"], cwd=project, env={**service.env, "TERM": "dumb"}) as terminal:
        assert terminal.wait() == 0
    for sequence in ("\x1b[2J", "\x1b]0;", "\x07", "\x9b", "\u202e", "\u200b"):
        assert sequence not in terminal.raw.replace("\x1b[2K", "")
    assert r"title \x1b]0;owned\x07 bell \x9b2J turn \u202etxt.exe back \u200b\rover" in terminal.text
    assert r"\x1b[2JWipe" in terminal.text


def test_what_a_model_writes_is_tamed_in_a_pipe_too(project: Path, serve: Serve) -> None:
    done = loom_here("run", "Look", cwd=project, env=serve(HOSTILE).env)
    assert done.stdout.splitlines()[1:] == ["\ttab"]
    assert not set("\x1b\x07\x9b\u202e\u200b\r") & set(done.stdout)


def test_json_lines_are_the_events_and_then_the_result(project: Path, serve: Serve) -> None:
    service = serve([READ], HOSTILE)
    done = loom("run", "Look", "--json", cwd=project, env=service.env)
    assert done.returncode == 0
    assert done.stderr == ""
    assert not set("\x1b\x07\x9b\u202e\u200b\r") & set(done.stdout)
    *events, result = done.stdout.removesuffix("\n").split("\n")
    decoded = [decode_event(line) for line in events]
    kept = [event.seq for event in decoded if event.durable]
    assert kept == list(range(1, len(kept) + 1))
    assert decoded[0].type == "run.started"
    assert decoded[-1].type == "run.finished"
    assert {"text.delta", "tool.finished", "model.replied"} <= {event.type for event in decoded}
    answer = json.loads(result)
    assert (answer["type"], answer["state"], answer["output"]) == ("result", "completed", HOSTILE)
    assert answer["usage"] == {"input_tokens": 20, "output_tokens": 10}
    assert answer["cost"] is None
    assert "events" not in answer


def test_the_task_may_come_through_a_pipe(project: Path, serve: Serve) -> None:
    service = serve("Fine.")
    words = ("run", "-", "--instructions", "Review.", "--quiet")
    done = loom_here(*words, cwd=project, env=service.env, stdin="a diff\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Fine.\n", "")
    assert service.said_to_it(0) == ["Review.", "a diff\n"]


def test_the_agent_looks_at_the_root_and_nowhere_else(project: Path, serve: Serve, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "note.txt").write_text("seen", encoding="utf-8")
    service = serve(
        [call("Read", file_path="note.txt"), call("Read", file_path="../project/README.md")], "Done."
    )
    done = loom_here("run", "Look", "--root", str(inside), cwd=project, env=service.env)
    assert "Read file_path=note.txt  ok " in done.stderr
    assert "Read file_path=../project/README.md  " in done.stderr
    assert "Read file_path=../project/README.md  ok" not in done.stderr
    assert "A small project" not in str(service.server.requests[1].body)
    offered = {tool["function"]["name"] for tool in service.server.requests[0].body["tools"]}
    assert offered == {"Glob", "Grep", "List", "Read", "read_output"}


def test_the_web_is_granted_by_an_option(project: Path, serve: Serve) -> None:
    service = serve("Done.")
    loom_here("run", "Look", "--web", cwd=project, env=service.env)
    assert "WebFetch" in {tool["function"]["name"] for tool in service.server.requests[0].body["tools"]}


# --- exit codes ---------------------------------------------------------------------------------------


def test_a_refused_key_is_a_failure_without_a_traceback(project: Path, serve: Serve) -> None:
    done = loom("run", "Look", cwd=project, env=serve(AuthenticationError("wrong key")).env)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "authentication: " in done.stderr
    assert "failed · " in done.stderr
    assert "Traceback" not in done.stderr
    assert KEY not in done.stderr


def test_a_reached_limit_has_its_own_code(project: Path, serve: Serve) -> None:
    service = serve([READ], "never asked")
    done = loom_here("run", "Look", "--max-iterations", "1", cwd=project, env=service.env)
    assert done.returncode == 4
    assert done.stdout == "", "what came before the limit is not the answer"
    assert "max_iterations" in done.stderr
    assert service.server.remaining == 1


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["run"], "Missing argument 'TASK'"),
        (["run", "  "], "the task is empty"),
        (["run", "x", "--frobnicate"], "No such option"),
        (["run", "x", "--model", "gpt"], "a model is named 'provider:name'"),
        (["run", "x", "--model", "nobody:x"], "there is no provider 'nobody'"),
        (["run", "x", "--model", "openai:gpt-4o", "--session", "s"], "OPENAI_API_KEY"),
        (["run", "x", "--root", "missing"], "does not exist"),
        (["run", "x", "--root", "README.md"], "is a file"),
        (["run", "x", "--yes", "--no", "--model", "offline"], "contradict each other"),
        (["run", "x", "--session", ""], "it is empty"),
        (["run", "x", "--max-iterations", "0"], "x>=1"),
    ],
)
def test_wrong_usage_is_told_and_nothing_begins(project: Path, words: list[str], complaint: str) -> None:
    done = loom_here(*words, cwd=project)
    assert done.returncode == 2
    assert complaint in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert os.listdir(project) == ["README.md"]


def test_debug_shows_where_an_error_came_from(project: Path) -> None:
    for words in (["--debug", "run", "x", "--model", "gpt"], ["run", "x", "--model", "gpt", "--debug"]):
        done = loom_here(*words, cwd=project)
        assert done.returncode == 2
        assert "Traceback" in done.stderr
        assert "error: a model is named" in done.stderr


def test_ctrl_c_cancels_the_run_and_writes_it_down(project: Path, serve: Serve) -> None:
    service = serve(served("A long story that never ends." * 20, stall_at=1500))
    words = ["run", "Tell", "--session", "s"]
    with Terminal(words, cwd=project, env=service.env) as terminal:
        terminal.expect("A long story")
        terminal.press(b"\x03")
        assert terminal.wait() == 130
    assert "cancelled · " in terminal.text
    assert "Traceback" not in terminal.text
    listed = json.loads(loom_here("sessions", "list", "--json", cwd=project).stdout)
    assert [(row["id"], row["state"]) for row in listed] == [("s", "cancelled")]


def test_a_signal_does_the_same_without_a_terminal(project: Path, serve: Serve) -> None:
    service = serve(served("A long story." * 50, stall_at=1500))
    with subprocess.Popen(
        [*COMMAND, "run", "Tell", "--json"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=project,
        env=environment(service.env),
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        while '"text.delta"' not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read().splitlines()
    assert process.returncode == 130
    assert json.loads(rest[-1])["state"] == "cancelled"


def test_a_reader_that_leaves_early_is_no_crash(project: Path) -> None:
    shell = f"{' '.join(COMMAND)} run 'Summarize this repository' --model offline --json | head -n 1"
    done = subprocess.run(
        ["sh", "-c", shell],
        cwd=project,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert json.loads(done.stdout)["type"] == "run.started"
    assert "Traceback" not in done.stderr


# --- requests -----------------------------------------------------------------------------------------


def test_a_run_that_is_not_kept_says_that_it_cannot_wait(project: Path, serve: Serve) -> None:
    done = loom_here("run", "Look", "--ask", "Read", cwd=project, env=serve([READ]).env)
    assert done.returncode == 3
    assert done.stdout == ""
    assert 'Run Read with {"file_path":"README.md"}?' in done.stderr
    assert "--session NAME" in done.stderr
    assert "waiting for 1 answer" in done.stderr
    assert os.listdir(project) == ["README.md"]


def test_yes_and_no_answer_for_everybody(project: Path, serve: Serve) -> None:
    yes = serve([READ], "Done.")
    done = loom_here("run", "Look", "--ask", "Re*", "--yes", cwd=project, env=yes.env)
    assert (done.returncode, done.stdout) == (0, "Done.\n")
    assert "(--yes)" in done.stderr
    assert "A small project" in yes.said_to_it(1)[-1]

    no = serve([READ], "A pity.")
    done = loom_here("run", "Look", "--ask", "Re*", "--no", cwd=project, env=no.env)
    assert (done.returncode, done.stdout) == (0, "A pity.\n")
    assert "Read file_path=README.md  denied " in done.stderr
    assert "A small project" not in no.said_to_it(1)[-1]


def test_a_denied_tool_cannot_be_approved(project: Path, serve: Serve) -> None:
    service = serve([READ], "A pity.")
    done = loom_here(
        "run", "Look", "--deny-tool", "Read", "--ask", "*", "--yes", cwd=project, env=service.env
    )
    assert "Read file_path=README.md  denied " in done.stderr
    assert "A small project" not in service.said_to_it(1)[-1]


def test_a_person_at_the_terminal_is_asked(project: Path, serve: Serve) -> None:
    service = serve([READ], [READ], [READ], "Done.")
    with Terminal(["run", "Look", "--ask", "Read"], cwd=project, env=service.env) as terminal:
        terminal.expect('Run Read with {"file_path":"README.md"}?')
        terminal.expect("[y/N] > ")
        terminal.type("y")
        terminal.expect("approved by ")
        terminal.expect("Read file_path=README.md  ok")
        terminal.expect("[y/N] > ")
        terminal.type("not today")
        terminal.expect("(not today)")
        terminal.expect("[y/N] > ")
        terminal.press(b"\x04")
        assert terminal.wait() == 3
    assert "not today" in service.said_to_it(2)[-1]


def test_what_was_typed_before_a_question_does_not_answer_it(project: Path, serve: Serve) -> None:
    service = serve(served(say("Wait.", READ), stall_at=None), "Done.")
    with Terminal(["run", "Look", "--ask", "Read"], cwd=project, env=service.env) as terminal:
        terminal.type("y")  # long before anything was asked
        terminal.expect("[y/N] > ")
        terminal.type("n")
        assert terminal.wait() == 0
    assert "Read file_path=README.md  denied" in terminal.text


def test_ctrl_c_at_a_question_cancels_the_run(project: Path, serve: Serve) -> None:
    with Terminal(["run", "Look", "--ask", "*"], cwd=project, env=serve([READ]).env) as terminal:
        terminal.expect("[y/N] > ")
        terminal.press(b"\x03")
        assert terminal.wait() == 130
    assert "cancelled" in terminal.text


# --- sessions -----------------------------------------------------------------------------------------


def test_a_session_remembers_and_is_its_owners_only(project: Path, serve: Serve) -> None:
    service = serve("I shall remember.", "It was blue.")
    for task in ("The colour is blue.", "Which colour?"):
        assert loom_here("run", task, "--session", "s", cwd=project, env=service.env).returncode == 0
    assert service.said_to_it(1) == ["The colour is blue.", "I shall remember.", "Which colour?"]
    folder = project / ".loom"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "sessions.db").stat().st_mode) == 0o600
    assert (folder / ".gitignore").read_text(encoding="utf-8") == "*\n"


def test_a_failing_service_leaves_a_session_that_goes_on(project: Path, serve: Serve, tmp_path: Path) -> None:
    store = str(tmp_path / "elsewhere" / "log.jsonl")
    down = [ProviderUnavailableError("down")] * 3
    service = serve(*down, "Back.")
    first = loom_here("run", "Hello", "--session", "s", "--store", store, cwd=project, env=service.env)
    assert first.returncode == 1
    assert "provider_unavailable" in first.stderr
    second = loom_here("run", "Again", "--session", "s", "--store", store, cwd=project, env=service.env)
    assert (second.returncode, second.stdout) == (0, "Back.\n")
    assert os.listdir(project) == ["README.md"]


# --- rules that name nothing --------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--deny-tool", "--ask"])
@pytest.mark.parametrize("name", ["raed", "read", "Read ", "WebFetch"])
def test_review_a_a_rule_of_the_command_line_that_names_no_tool_is_wrong_usage(
    option: str, name: str, project: Path, serve: Serve
) -> None:
    service = serve([READ], "Done.")
    done = loom_here("run", "Look", option, name, "--session", "s", cwd=project, env=service.env)
    assert done.returncode == 2
    assert option in done.stderr
    assert "Grep" in done.stderr
    assert "Read" in done.stderr
    assert service.server.requests == []
    assert not (project / ".loom").exists(), "nothing is kept of it"


def test_review_a_a_rule_with_a_pattern_that_fits_nothing_is_said(project: Path, serve: Serve) -> None:
    service = serve("Done.", "Done.")
    done = loom_here("run", "Look", "--deny-tool", "Web*", cwd=project, env=service.env)
    assert done.returncode == 0
    assert "--deny-tool 'Web*': no tool matches" in done.stderr
    done = loom_here("run", "Look", "--deny-tool", "Web*", "--web", cwd=project, env=service.env)
    assert "no tool matches" not in done.stderr


@pytest.mark.parametrize("words", [["chat"], ["sessions", "resume", "s"]], ids=" ".join)
def test_review_a_the_other_commands_refuse_such_a_rule_too(
    words: list[str], project: Path, serve: Serve
) -> None:
    service = serve([READ], "Done.")
    started = loom_here("run", "Look", "--ask", "Read", "--session", "s", cwd=project, env=service.env)
    assert started.returncode == 3
    done = loom_here(*words, "--deny-tool", "raed", cwd=project, env=service.env, stdin="hello\n")
    assert done.returncode == 2
    assert "did you mean 'Read'?" in done.stderr
    assert len(service.server.requests) == 1


def test_review_a_what_each_rule_touches_can_be_seen_without_a_model(project: Path) -> None:
    words = ("--explain", "--deny-tool", "G*", "--ask", "Read", "--model", "openai:gpt-4o")
    done = loom_here("run", "Look", *words, cwd=project)
    assert done.returncode == 0, done.stderr
    assert "tool  Read  reads\n" in done.stdout
    assert "rule  --deny-tool 'G*'  touches Glob, Grep\n" in done.stdout
    assert "rule  --ask 'Read'  touches Read\n" in done.stdout
    assert loom_here("run", "Look", "--explain", "--ask", "raed", cwd=project).returncode == 2


def test_review_guide_to_explain_needs_no_task(project: Path) -> None:
    done = loom_here("run", "--explain", "--deny-tool", "G*", cwd=project)
    assert (done.returncode, done.stderr) == (0, "")
    assert "rule  --deny-tool 'G*'  touches Glob, Grep\n" in done.stdout


@pytest.mark.parametrize("option", ["--deny-tool", "--ask"])
def test_review_a_an_empty_name_is_wrong_usage(option: str, project: Path) -> None:
    assert loom_here("run", "Look", option, "", "--model", "offline", cwd=project).returncode == 2
