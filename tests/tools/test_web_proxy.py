"""WebFetch through a proxy: the proxy connects, and still to nothing that was not judged here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from loom.agent import Agent
from loom.assembly.toolbox import compile_tools
from loom.config.abilities import Web
from loom.errors import ConfigError, ToolExecutionError, ToolPermissionError
from loom.testing.scripted import ScriptedProvider, call
from loom.tools.base import ToolHandler
from loom.types import ToolResult
from proxies import Proxy, authority, listening, proxy

PUBLIC = "93.184.216.34"
PASSWORD = "hunter2-of-the-proxy"

pytestmark = pytest.mark.timeout(30)


class Site:
    """A web server with TLS for ``public.example``, a proxy before it, and who may be asked for names."""

    def __init__(self, way: Proxy, bundle: str) -> None:
        self.way = way
        self.bundle = bundle
        self.heads: list[str] = []
        self.reply = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
        self.names: dict[str, Sequence[str]] = {"public.example": [PUBLIC]}

    async def lookup(self, host: str, port: int) -> Sequence[str]:
        return self.names[host]

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(self.reply)
        await writer.drain()

    async def fetch(self, url: str, login: str = "", **web: Any) -> ToolResult:
        grant = Web(proxy=self.way.url.replace("//", f"//{login}"), **{"ca_bundle": self.bundle, **web})
        tool: Any = compile_tools([], [grant], 10_000).get("WebFetch")
        assert isinstance(tool, ToolHandler)
        tool._lookup = self.lookup  # type: ignore[attr-defined]
        return await tool.invoke({"url": url})


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    bundle, context = authority(tmp_path, "public.example")
    async with proxy() as way:
        site = Site(way, bundle)
        async with listening(site.handle, context) as secure, listening(site.handle) as plain:
            way.routes.update({PUBLIC: secure, "intern.example": plain, "public.example": secure})
            yield site


async def test_the_proxy_is_handed_the_address_that_was_judged(site: Site) -> None:
    result = await site.fetch("https://public.example/page?a=b")
    assert result.text.endswith("hello")
    assert result.metadata["url"] == "https://public.example/page?a=b"
    assert site.way.asked == [f"CONNECT {PUBLIC}:443 HTTP/1.1"]
    assert site.heads[0].startswith("GET /page?a=b HTTP/1.1\r\n")
    assert "\r\nHost: public.example\r\n" in site.heads[0]


@pytest.mark.parametrize("addresses", [["127.0.0.1"], [PUBLIC, "10.0.0.1"], ["169.254.169.254"], ["::1"]])
async def test_a_name_that_leads_inside_never_reaches_the_proxy(site: Site, addresses: list[str]) -> None:
    site.names["public.example"] = addresses
    with pytest.raises(ToolPermissionError, match="not on the open network"):
        await site.fetch("https://public.example/")
    assert site.way.asked == []


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1/", "https://localhost/", "https://intranet/", "https://[::1]/"]
)
async def test_an_inner_address_never_reaches_the_proxy(site: Site, url: str) -> None:
    with pytest.raises(ToolPermissionError):
        await site.fetch(url)
    assert site.way.asked == []


async def test_plain_http_has_no_tunnel_and_is_not_fetched(site: Site) -> None:
    with pytest.raises(ToolPermissionError, match="over a proxy only https"):
        await site.fetch("http://public.example/")
    assert site.way.asked == []


async def test_a_redirect_is_judged_like_any_other(site: Site) -> None:
    site.names["inner.example"] = ["10.0.0.1"]
    site.reply = b"HTTP/1.1 302 Found\r\nLocation: https://inner.example/\r\nContent-Length: 0\r\n\r\n"
    with pytest.raises(ToolPermissionError, match="not on the open network"):
        await site.fetch("https://public.example/")
    assert len(site.way.asked) == 1


async def test_the_certificate_is_held_against_the_name(site: Site) -> None:
    site.names["other.example"] = [PUBLIC]
    with pytest.raises(ToolExecutionError, match=r"(?i)certificate"):
        await site.fetch("https://other.example/")
    assert site.heads == []


async def test_without_the_bundle_the_certificate_is_not_trusted(site: Site) -> None:
    with pytest.raises(ToolExecutionError, match=r"(?i)certificate"):
        await site.fetch("https://public.example/", ca_bundle=None)
    assert site.heads == []


async def test_hosts_the_application_vouches_for_go_to_the_proxy_by_name(site: Site) -> None:
    site.names.clear()
    result = await site.fetch("http://intern.example/", allow_hosts=("intern.example",))
    assert result.text.endswith("hello")
    assert site.way.asked == ["GET http://intern.example/ HTTP/1.1"]
    await site.fetch("https://public.example/", allow_hosts=("public.example",))
    assert site.way.asked[1] == "CONNECT public.example:443 HTTP/1.1"


@pytest.mark.parametrize("url", ["https://public.example/", "http://intern.example/"])
async def test_the_login_reaches_the_proxy_and_nobody_else(site: Site, url: str) -> None:
    site.way.wanted = f"ana:{PASSWORD}"
    await site.fetch(url, login=f"ana:{PASSWORD}@", allow_hosts=("intern.example",))
    assert site.way.logins[0].startswith("Basic ")
    if url.startswith("https"):
        assert "authorization" not in site.heads[0].lower()
    try:
        result = await site.fetch(url, login="ana:wrong-word@", allow_hosts=("intern.example",))
    except ToolExecutionError as error:
        told = repr(error)
    else:  # without a tunnel the proxy's no is the answer
        assert result.is_error
        told = repr(result)
    assert "407" in told
    assert "wrong-word" not in told
    assert "wrong-word" not in repr(Web(proxy="http://ana:wrong-word@h:1"))


async def test_a_proxy_that_is_named_by_name_is_found(site: Site) -> None:
    grant = Web(proxy=f"http://localhost:{site.way.port}", ca_bundle=site.bundle)
    tool: Any = compile_tools([], [grant], 10_000).get("WebFetch")
    tool._lookup = site.lookup
    assert (await tool.invoke({"url": "https://public.example/"})).text.endswith("hello")


@pytest.mark.parametrize("wrong", [{"proxy": "socks5://h:1"}, {"proxy": ""}, {"proxy": "h:1"}])
def test_a_way_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Web(**wrong)
    with pytest.raises(ConfigError):
        Web.enabled(**wrong)


async def test_a_bundle_without_certificates_is_refused(tmp_path: Path) -> None:
    agent: Agent[Any, Any] = Agent(
        model=ScriptedProvider([call("WebFetch", url="https://public.example/")]),
        capabilities=[Web.enabled(ca_bundle=str(tmp_path / "none.pem"))],
    )
    with pytest.raises(ConfigError, match=r"none\.pem"):
        await agent.run("go")
