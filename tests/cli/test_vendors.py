"""Every row of the table of vendors, asked by the real command over a real socket."""

from __future__ import annotations

from pathlib import Path

import pytest
from loom_command import loom

from loom.assembly.vendors import VENDORS
from loom.testing.model_server import ModelServer

PATHS = {
    "anthropic": "/messages",
    "gemini": "/models/some-model:streamGenerateContent?alt=sse",
    "openai": "/chat/completions",
    "responses": "/responses",
}
"""What the streamed requests of a wire are posted to."""
KEY_HEADERS = {"anthropic": "x-api-key", "gemini": "x-goog-api-key"}

KEYS = {
    env: f"sk-test-of-{name}-{number}"
    for name, vendor in VENDORS.items()
    for number, env in enumerate(vendor.key_envs)
}
"""A key for every vendor at once: only the right one may be sent."""


@pytest.mark.parametrize("name", VENDORS)
def test_a_vendor_is_asked_where_it_is_with_its_own_key(name: str, project: Path) -> None:
    vendor = VENDORS[name]
    with ModelServer.in_thread(["Here I am."]) as server:
        # An address without a path: what a vendor's addresses end in is the row's business.
        address = server.base_url if not vendor.path else server.base_url.removesuffix("/v1")
        env = {**KEYS, vendor.base_url_env: address}
        done = loom("run", "Who are you?", "--model", f"{name}:some-model", cwd=project, env=env)
        assert (done.stdout, done.returncode) == ("Here I am.\n", 0), done.stderr
        (request,) = server.requests
    query = "&".join(f"{key}={usual}" for key, (_, usual) in vendor.query.items())
    ending = vendor.path.format(model="some-model") + PATHS[vendor.wire] + (f"?{query}" if query else "")
    assert request.path.endswith(ending)
    assert request.body.get("model", "some-model") == "some-model"
    sent = request.raw.decode() + repr(request.headers) + request.path
    assert [key for key in KEYS.values() if key in sent] == [KEYS[env] for env in vendor.key_envs[:1]]
    if vendor.key_envs:
        header = vendor.quirks.get("key_header") or KEY_HEADERS.get(vendor.wire, "Authorization")
        assert KEYS[vendor.key_envs[0]] in request.headers[header]


@pytest.mark.parametrize("name", [name for name, vendor in VENDORS.items() if vendor.keyless])
def test_a_server_of_ones_own_may_want_no_key(name: str, project: Path) -> None:
    vendor = VENDORS[name]
    with ModelServer.in_thread(["Here I am."]) as server:
        env = {vendor.base_url_env: server.base_url} | dict.fromkeys(KEYS, "")
        done = loom("run", "Who are you?", "--model", f"{name}:some-model", cwd=project, env=env)
        assert (done.stdout, done.returncode) == ("Here I am.\n", 0), done.stderr
        assert "Authorization" not in server.requests[0].headers


@pytest.mark.parametrize("name", [name for name, vendor in VENDORS.items() if not vendor.keyless])
def test_a_missing_key_or_address_is_named(name: str, project: Path) -> None:
    vendor = VENDORS[name]
    done = loom("run", "Hello", "--model", f"{name}:m", cwd=project, env=dict.fromkeys(KEYS, ""))
    assert done.returncode == 2
    wanted = vendor.key_envs[0] if vendor.base_url else vendor.base_url_env
    assert wanted in done.stderr
