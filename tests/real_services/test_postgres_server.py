"""The PostgreSQL that other tests stand on: it answers, keeps what it promised over a death, and leaves nothing."""

from __future__ import annotations

import os
import signal

from postgres_server import Postgres


def test_it_answers_on_a_local_socket_alone(postgres: Postgres) -> None:
    assert postgres.sql("SELECT 6 * 7") == "42"
    assert postgres.sql("SHOW listen_addresses") == ""
    assert os.stat(postgres.folder / "data").st_uid != 0, "a server never runs as root"


def test_what_was_committed_outlives_a_killed_server() -> None:
    with Postgres(durable=True) as server:
        assert server.sql("SHOW fsync") == "on"
        server.sql("CREATE TABLE kept (word text)")
        server.sql("INSERT INTO kept VALUES ('here')")
        server.stop(signal.SIGKILL)
        (server.folder / "data" / "postmaster.pid").unlink()
        server.start()
        assert server.sql("SELECT word FROM kept") == "here"
    assert server.process.poll() is not None
    assert not server.folder.exists()
