"""Names under which processes take sessions, and whether the one behind a name is still alive."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def new_owner() -> str:
    """A name for who takes a session: ``machine:pid:start:random``, readable in an error and telling when it died."""
    return f"{_machine()}:{os.getpid()}:{_started(os.getpid())}:{secrets.token_hex(3)}"


def has_died(owner: str) -> bool:
    """True when the process behind the name is known to be gone: it was on this machine and no longer is.

    A process id that was given to another process since has another start time.
    """
    machine, _, rest = owner.rpartition("/")
    parts = rest.split(":")
    if f"{machine}/{parts[0]}" != _machine() or len(parts) != 4 or not parts[1].isdigit():
        return False
    pid = int(parts[1])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    started = _started(pid)
    return started != "" and started != parts[2]


def _machine() -> str:
    """This machine as processes see it: names may be shared by containers, the namespace of ids is not."""
    try:
        namespace = os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        namespace = "0"
    return f"{os.uname().nodename}/{namespace}"


def _started(pid: int) -> str:
    """When a process started, in ticks since boot (field 22 of ``/proc/PID/stat``); empty where nobody tells."""
    try:
        return (
            Path(f"/proc/{pid}/stat")
            .read_text(encoding="ascii", errors="replace")
            .rpartition(")")[2]
            .split()[19]
        )
    except (OSError, IndexError):
        return ""
