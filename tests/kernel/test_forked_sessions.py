"""A session object that is used on both sides of a fork: the child is another taker than its parent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from loom.runtime.owner import Owner

FORK = """
import asyncio, os, sys
from loom import Agent, SqliteSessionStore
from loom.errors import SessionBusy
from loom.runtime import SessionConfig
from loom.testing import ScriptedProvider

store = SqliteSessionStore(sys.argv[1])
agent = Agent(model=ScriptedProvider(["hello"] * 3), session_store=store)
session = agent.session(SessionConfig(id="s", busy_wait=0.1))
before = session.owner
lease = asyncio.run(store.acquire("s", owner=before, ttl=600))
child = os.fork()
if child == 0:
    try:
        asyncio.run(session.run("go"))
        os._exit(1)
    except SessionBusy as busy:
        os._exit(0 if busy.owner == before else 2)
    except BaseException:
        os._exit(3)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), session.owner == before)
asyncio.run(store.release(lease))
print(asyncio.run(session.run("go")).output)
"""


def test_review_e3_a_forked_child_does_not_take_the_session_of_its_parent(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK, str(tmp_path / "s.db")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.split() == ["0", "True", "hello"], done.stderr


def test_a_process_keeps_its_name() -> None:
    owner = Owner()
    assert owner.name == owner.name
    assert owner.name != Owner().name
