"""A virtual environment for each peer, in a cache folder by its name, made once and kept.

Delete the folder to get newer versions. The folder is ``$LOOM_BENCH_CACHE``, else below the user's cache.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ..processes import Failed
from ..registry import Row


def cache_folder() -> Path:
    """Where peers' environments are kept."""
    given = os.environ.get("LOOM_BENCH_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "loom-benchmarks"


def python_of(row: Row) -> str:
    """The interpreter of a peer's environment, made first when it is not there. Raises Failed."""
    folder = cache_folder() / f"{row.name}-py{sys.version_info.major}.{sys.version_info.minor}"
    python, ready = folder / "bin" / "python", folder / ".ready"
    wanted = "\n".join(row.requirements)
    if not ready.exists() or ready.read_text() != wanted:
        print(f"installing {row.name} into {folder} ...", file=sys.stderr, flush=True)
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        _run([str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", *row.requirements])
        ready.write_text(wanted)
    return str(python)


def versions_of(python: str, row: Row) -> dict[str, str]:
    """The versions of what is measured."""
    code = "import sys\nfrom importlib.metadata import version\nfor n in sys.argv[1:]: print(n, version(n))"
    done = subprocess.run([python, "-c", code, *row.versions], capture_output=True, text=True, check=False)
    return dict(line.split() for line in done.stdout.splitlines())


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        raise Failed(f"could not be installed: {lines[-1]}")
