"""Names under which processes take sessions, and whether the one behind a name is still alive."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def new_owner() -> str:
    """A name for who takes a session: ``machine:pid:start:random``, readable in an error and telling when it died."""
    return f"{_machine()}:{os.getpid()}:{_status(os.getpid())[1]}:{secrets.token_hex(3)}"


class Owner:
    """Somebody who takes sessions, by name. In a forked child the same object is another, with a name of its own."""

    __slots__ = ("_name", "_pid")

    def __init__(self) -> None:
        self._pid, self._name = os.getpid(), new_owner()

    @property
    def name(self) -> str:
        """See ``new_owner``."""
        if self._pid != os.getpid():
            self._pid, self._name = os.getpid(), new_owner()
        return self._name


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
    state, started = _status(pid)
    return state in ("Z", "X") or (started != "" and started != parts[2])


def _machine() -> str:
    """This machine as processes see it.

    Names may be shared by containers and hosts, and the number of the first namespace of ids is the same on every
    Linux machine; the id of the boot is not.
    """
    try:
        namespace = os.readlink("/proc/self/ns/pid").strip("pid:[]")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        namespace, boot = "0", ""
    return f"{os.uname().nodename}/{boot}/{namespace}"


def _status(pid: int) -> tuple[str, str]:
    """The state of a process and when it started, in ticks since boot; empty where nobody tells.

    Fields 3 and 22 of ``/proc/PID/stat``. ``Z`` is a process that is over and was not waited for.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        after_name = fields.rpartition(")")[2].split()
        return after_name[0], after_name[19]
    except (OSError, IndexError):
        return "", ""
