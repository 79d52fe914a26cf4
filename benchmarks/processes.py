"""The processes a measurement is made of: the model server, and one fresh worker for each scenario."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BARE = "pass"
# The meters come from the benchmarks themselves, read before anything more is imported for them.
_METER = (
    "\nimport resource\nused = resource.getrusage(resource.RUSAGE_SELF)\n"
    "from benchmarks.meter import peak_rss\nprint(used.ru_utime + used.ru_stime, peak_rss())"
)


class Failed(Exception):
    """A process did not give figures; the text says why."""


@dataclass(frozen=True, slots=True)
class Server:
    """The model server, as seen from outside."""

    url: str

    def cpu(self) -> float:
        """Seconds of CPU it has used."""
        # Not urllib: it would ask the environment's proxy for this machine.
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=10)
        try:
            connection.request("GET", "/cpu")
            return float(connection.getresponse().read())
        finally:
            connection.close()


@contextmanager
def model_server() -> Iterator[Server]:
    """The scripted model server, for the time of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.model_server"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = process.stdout.readline().strip()
        if not port:
            raise Failed("the model server did not start; its error is above")
        yield Server(f"http://127.0.0.1:{port}")
    finally:
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def run_worker(python: str, order: Mapping[str, Any], limit: float) -> dict[str, float]:
    """Measure one scenario in a fresh process; empty when the client has no such thing. Raises Failed."""
    done = _run([python, "-m", "benchmarks.worker", json.dumps(order)], limit)
    if order.get("profile"):
        sys.stderr.write(done.stderr)
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise Failed(f"exit {done.returncode}: {_last_line(done.stderr)}") from None
    if "error" in answer:
        raise Failed(answer["error"].partition("\n")[0][:200])
    figures: dict[str, float] = answer["figures"]
    return figures


def run_import(python: str, code: str, limit: float = 60.0) -> tuple[float, float]:
    """CPU seconds and peak bytes of a fresh interpreter that runs ``code``. Raises Failed."""
    done = _run([python, "-c", code + _METER], limit)
    if done.returncode:
        raise Failed(_last_line(done.stderr))
    cpu, rss = done.stdout.split()[-2:]
    return float(cpu), float(rss)


def _run(command: list[str], limit: float) -> subprocess.CompletedProcess[str]:
    # Telemetry and tracing of peers would reach for the network; the ones with a switch are switched off.
    quiet = {"OPENAI_AGENTS_DISABLE_TRACING": "1", "AGNO_TELEMETRY": "false", "LANGSMITH_TRACING": "false"}
    # Compiled modules are what a user has. They go to a folder of their own: the tree may be read-only, or the
    # developer's environment forbid to write them, which would add the compiler to every import.
    quiet["PYTHONPYCACHEPREFIX"] = _compiled().name
    strange = ("_API_KEY", "_BASE_URL", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.endswith(strange)}
    try:
        return subprocess.run(
            command, cwd=ROOT, env={**kept, **quiet}, capture_output=True, text=True, timeout=limit
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"not done after {limit:g} s") from None


@cache
def _compiled() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="loom-bench-compiled-")


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:200] if lines else "no output"
