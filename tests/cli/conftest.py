"""What every test of the command has: a small project to work in, and a model service on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from loom_command import KEY, Service

from loom.testing.model_server import ModelServer


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An empty folder with a README to read."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "README.md").write_text("# Sample\n\nA small project to read.\n", encoding="utf-8")
    return folder


@pytest.fixture
def serve() -> Iterator[Callable[..., Service]]:
    """``serve(*replies)`` starts a model service that gives these replies."""
    with ExitStack() as stack:

        def start(*replies: Any) -> Service:
            server = stack.enter_context(ModelServer.in_thread(replies))
            env = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.base_url, "LOOM_MODEL": "openai:scripted"}
            return Service(server, env)

        yield start
