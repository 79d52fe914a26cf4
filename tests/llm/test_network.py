"""Proxies, certificates and the environment: the way to a service is the one that was declared."""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from typing import Any

import pytest

from loom.agent import Agent
from loom.assembly.providers import make_provider
from loom.config.model import Model, Secret
from loom.errors import ConfigError, ProviderError
from loom.safety.network import environment_proxy, read_proxy
from loom.testing.model_server import ModelServer
from loom.types import ChatMessage, Role, RunState
from proxies import authority, proxy, tls_before

PASSWORD = "hunter2-of-the-proxy"

pytestmark = pytest.mark.timeout(30)


async def ask(model: Model) -> Any:
    agent: Agent[Any, Any] = Agent(model=model)
    try:
        return await agent.run("go")
    finally:
        await agent.aclose()


def port_of(server: ModelServer) -> int:
    return int(server.base_url.split(":")[2].split("/")[0])


MODELS = {
    "chat": lambda url, **way: Model.openai("m", base_url=url, api_key="k", **way),
    "responses": lambda url, **way: Model.openai("m", base_url=url, api_key="k", wire="responses", **way),
    "anthropic": lambda url, **way: Model.anthropic(
        "m", base_url=url.removesuffix("/v1"), api_key="k", **way
    ),
    "gemini": lambda url, **way: Model.gemini(
        "m", base_url=url.removesuffix("/v1") + "/v1beta", api_key="k", **way
    ),
}


@pytest.mark.parametrize("wire", MODELS)
async def test_a_service_is_asked_through_the_proxy(wire: str) -> None:
    async with ModelServer(["ok"]) as server, proxy() as way:
        result = await ask(MODELS[wire](server.base_url, proxy=way.url))
        assert result.output == "ok"
        assert [line.split(" ")[0] for line in way.asked] == ["POST"]
        assert f"127.0.0.1:{port_of(server)}" in way.asked[0]
        assert way.logins == [""]


async def test_a_secure_service_is_reached_through_a_tunnel(tmp_path: Path) -> None:
    bundle, context = authority(tmp_path, "127.0.0.1")
    async with (
        ModelServer(["ok"]) as server,
        tls_before(port_of(server), context) as port,
        proxy(wanted=f"ana:{PASSWORD}") as way,
    ):
        url = f"https://127.0.0.1:{port}/v1"
        address = way.url.replace("//", f"//ana:{PASSWORD}@")
        result = await ask(Model.openai("m", base_url=url, api_key="k", proxy=address, ca_bundle=bundle))
        assert result.output == "ok"
        assert way.asked == [f"CONNECT 127.0.0.1:{port} HTTP/1.1"], "the proxy sees no key and no question"


async def test_a_certificate_of_a_stranger_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    _, context = authority(tmp_path, "127.0.0.1")
    other, _ = authority(tmp_path / "other", "127.0.0.1")
    async with ModelServer(["ok"]) as server, tls_before(port_of(server), context) as port:
        for way in ({}, {"ca_bundle": other}):
            url = f"https://127.0.0.1:{port}/v1"
            result = await ask(Model.openai("m", base_url=url, api_key="k", **way))  # type: ignore[arg-type]
            assert result.state is RunState.FAILED
            assert "certificate" in str(result.error).lower()
        assert server.requests == []


async def test_a_certificate_for_another_host_is_not_trusted(tmp_path: Path) -> None:
    bundle, context = authority(tmp_path, "another.example")
    async with ModelServer(["ok"]) as server, tls_before(port_of(server), context) as port:
        result = await ask(
            Model.openai("m", base_url=f"https://127.0.0.1:{port}/v1", api_key="k", ca_bundle=bundle)
        )
        assert result.state is RunState.FAILED
        assert server.requests == []


async def test_two_models_with_two_authorities_do_not_share_a_connection(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    bundle, context = authority(tmp_path, "127.0.0.1")
    other, _ = authority(tmp_path / "other", "127.0.0.1")
    async with ModelServer(["ok"] * 2) as server, tls_before(port_of(server), context) as port:
        url = f"https://127.0.0.1:{port}/v1"
        good: Agent[Any, Any] = Agent(model=Model.openai("m", base_url=url, api_key="k", ca_bundle=bundle))
        assert (await good.run("go")).ok
        assert not (await ask(Model.openai("m", base_url=url, api_key="k", ca_bundle=other))).ok
        assert (await good.run("go")).ok
        await good.aclose()


@pytest.mark.parametrize("secure", [False, True])
async def test_a_proxy_that_says_no_is_asked_once_and_its_password_is_nowhere(
    secure: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    async with ModelServer(["ok"]) as server, proxy(wanted="ana:another") as way:
        url = server.base_url.replace("http:", "https:") if secure else server.base_url
        address = way.url.replace("//", f"//ana:{PASSWORD}@")
        model = Model.openai("m", base_url=url, api_key="k", proxy=address)
        provider = make_provider(model)
        with pytest.raises(ProviderError) as caught:
            await provider.chat([ChatMessage(Role.USER, "go")])
        await provider.aclose()
        told = "".join(traceback.format_exception(caught.value))
        for text in (told, repr(model), repr(provider), str(vars(provider)), caplog.text):
            assert PASSWORD not in text
        assert len(way.asked) == 1
        assert server.requests == []


async def test_a_proxy_that_is_not_there_is_an_error_and_no_way_around() -> None:
    async with ModelServer(["ok"]) as server, proxy() as way:
        gone = way.url
        way.port = 0
    async with ModelServer(["ok"]) as server:
        result = await ask(
            Model.openai("m", base_url=server.base_url, api_key="k", proxy=gone, max_retries=0)
        )
        assert result.error is not None
        assert result.error.code == "provider_unavailable"
        assert server.requests == []


# --- the environment --------------------------------------------------------------------------------


async def test_review_l_the_environment_plays_no_part_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its proxies nor the logins of a netrc file, unless ``trust_env`` says so: then its proxies."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login mallory password stolen\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with ModelServer(["ok"] * 3) as server, proxy() as way:
        for name in ("http_proxy", "all_proxy"):
            monkeypatch.setenv(name, way.url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        plain = Model.compatible("m", base_url=server.base_url)
        assert (await ask(plain)).ok
        assert way.asked == []
        assert "Authorization" not in server.requests[0].headers
        trusting = Model.compatible("m", base_url=server.base_url, trust_env=True)
        assert (await ask(trusting)).ok
        assert len(way.asked) == 1
        assert "Authorization" not in server.requests[1].headers
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert (await ask(trusting)).ok
        assert len(way.asked) == 1


async def test_review_l_cookies_are_not_kept() -> None:
    from loom.testing.model_server import served

    body = b'{"choices":[{"message":{"content":"ok"},"finish_reason":"stop"}]}'
    item = served(body=body, headers={"Set-Cookie": "a=b; Path=/"})
    async with ModelServer([item, item]) as server:
        agent: Agent[Any, Any] = Agent(
            model=Model.compatible("m", base_url=server.base_url.replace("127.0.0.1", "localhost"))
        )
        for _ in range(2):
            await agent.run("go")
        await agent.aclose()
        assert ["Cookie" in request.headers for request in server.requests] == [False, False]


@pytest.mark.parametrize(
    ("url", "environ", "found"),
    [
        ("https://a.example/v1", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("https://a.example/v1", {"https_proxy": "p:1"}, "http://p:1"),
        ("https://a.example/v1", {"http_proxy": "http://p:1"}, None),
        ("http://a.example/v1", {"http_proxy": "http://p:1"}, "http://p:1"),
        ("http://a.example/v1", {"HTTP_PROXY": "http://p:1"}, None),
        ("http://a.example/v1", {"ALL_PROXY": "http://p:1"}, "http://p:1"),
        ("https://a.example/v1", {"https_proxy": "", "ALL_PROXY": "http://p:1"}, "http://p:1"),
        ("https://a.example/v1", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, None),
        ("https://a.example/v1", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "x, .EXAMPLE"}, None),
        ("https://a.example/v1", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "example"}, None),
        ("https://a.example/v1", {"HTTPS_PROXY": "http://p:1", "no_proxy": "a.example:443"}, None),
        ("https://a.example/v1", {"HTTPS_PROXY": "http://p:1", "no_proxy": "a.example:8443"}, "http://p:1"),
        ("https://aexample/v1", {"HTTPS_PROXY": "http://p:1", "no_proxy": "example, ,"}, "http://p:1"),
        ("https://[::1]/v1", {"HTTPS_PROXY": "http://p:1", "no_proxy": "[::1]"}, None),
    ],
)
def test_the_proxy_of_an_environment(url: str, environ: dict[str, str], found: str | None) -> None:
    assert environment_proxy(url, environ) == found


# --- declarations -----------------------------------------------------------------------------------

WRONG: list[dict[str, Any]] = [
    {"proxy": ""},
    {"proxy": "127.0.0.1:3128"},
    {"proxy": "socks5://h:1"},
    {"proxy": "http://"},
    {"proxy": "http://h:port"},
    {"proxy": "http://[::1"},
    {"proxy": "http://h:1/path"},
    {"proxy": "http://h:1?a=b"},
    {"proxy": Secret("ftp://ana:x@h")},
    {"proxy": 3128},
    {"ca_bundle": ""},
    {"trust_env": 1},
    {"connect_timeout": 0},
    {"connect_timeout": float("inf")},
]


@pytest.mark.parametrize("way", WRONG, ids=repr)
def test_a_way_that_cannot_be_is_refused_at_once(way: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Model.openai("m", **way)


def test_a_password_in_a_proxy_that_cannot_be_read_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        Model.openai("m", proxy=f"ftp://ana:{PASSWORD}@h:1")
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_bundle_without_certificates_is_refused_before_anything_is_asked(
    tmp_path: Path, content: bytes | None
) -> None:
    bundle = tmp_path / "ca.pem"
    if content is not None:
        bundle.write_bytes(content)
    with pytest.raises(ConfigError, match=r"ca\.pem"):
        make_provider(Model.openai("m", api_key="k", ca_bundle=bundle))


def test_what_is_declared_is_what_is_used(tmp_path: Path) -> None:
    model = Model.openai("m", api_key="k", proxy="http://h:3128", connect_timeout=3, ca_bundle=tmp_path / "x")
    assert model.proxy == "http://h:3128"
    assert model.ca_bundle == os.fspath(tmp_path / "x")
    provider: Any = make_provider(Model.openai("m", api_key="k", connect_timeout=3))
    assert provider._timeouts[0] == 3
    secret = Model.openai("m", proxy=f"http://ana:{PASSWORD}@h:3128")
    assert isinstance(secret.proxy, Secret)
    assert secret == Model.openai("m", proxy=f"http://ana:{PASSWORD}@h:3128")
    read = read_proxy("https://ana%40x:p%3Aw@[::1]:3128")
    assert (read.url, read.user, read.password) == ("https://[::1]:3128", "ana@x", "p:w")
    assert (read.host, read.port, read_proxy("http://h").port) == ("::1", 3128, 80)
    assert "p:w" not in repr(read)


def test_the_offline_model_takes_no_way() -> None:
    for way in ({"proxy": "http://h:1"}, {"ca_bundle": "x"}, {"trust_env": True}):
        with pytest.raises(ConfigError, match="offline"):
            Model.parse("offline", **way)  # type: ignore[arg-type]
