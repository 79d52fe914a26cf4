"""URL rules: whatever spells a place not on the open network is refused, every ordinary URL passes."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loom.errors import ConfigError, ToolPermissionError
from loom.safety.urls import UrlPolicy, check_redirect, check_url, is_public_address

IPV4_SPELLINGS = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0x7f.1",
    "017700000001",
    "0177.0.0.1",
    "0177.0.0.01",
    "127.0.0.1.",
    "127.000.000.001",
    "0",
    "0.0.0.0",
    "0x0",
    "00",
    "127.0.0.0x1",
    "127.65535",
    "10.0.0.1",
    "10.1",
    "167772161",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "192.168.1",
    "0xc0a80001",
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "169.254.43518",
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.7",
    "203.0.113.9",
    "192.88.99.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "1.2.3.4.5",
    "256.1.1.1",
    "1.2.3.256",
    "0x",
    "1.2.3.0x",
    "127.0.0.1%00",
    "127.0.0.1%2e",
    "4294967296",
    "-1",
    "08.8.8.8",
]

IPV6_SPELLINGS = [
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[::7f00:1]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b::808:808]",
    "[64:ff9b:1::1]",
    "[2002:7f00:1::]",
    "[2002:a00:1::1]",
    "[2001::1]",
    "[2001:0:7f00:1::]",
    "[2001:db8::1]",
    "[2001:10::1]",
    "[2001:20::1]",
    "[2001:2::1]",
    "[3fff::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "[fe80::1%25eth0]",
    "[fe80::1%eth0]",
    "[fec0::1]",
    "[ff02::1]",
    "[100::1]",
    "[5f00::1]",
    "[2606:4700::5efe:a00:1]",
    "[2606:4700::200:5efe:10.0.0.1]",
    "[::1",
    "::1",
    "[::1]x",
    "[]",
    "[127.0.0.1]",
    "[v1.x]",
    "[2606:4700::1%251]",
]

OTHER_TRICKS = [
    "",
    " ",
    "example.org",
    "//example.org/",
    "/etc/passwd",
    "http:",
    "http:/",
    "http://",
    "http:///etc/passwd",
    "http:example.org",
    "http:/example.org",
    "https:\\\\example.org",
    "http://\\127.0.0.1",
    "http:\t//example.org",
    "ht\ntp://example.org",
    " http://example.org",
    "http://example.org ",
    "http://exam\tple.org",
    "http://a.org\x00b",
    "http://a.org/\r\nHost: b",
    "http://user@example.org",
    "http://user:pw@example.org",
    "http://@example.org",
    "http://example.org@127.0.0.1",
    "http://127.0.0.1@example.org",
    "http://a.org:80@127.0.0.1",
    "http://a.org\\@127.0.0.1",
    "http://a.org%40127.0.0.1",
    "http://%31%32%37.1",
    "http://127%2e0%2e0%2e1",
    "http://localhost",
    "http://LOCALHOST",
    "http://localhost.",
    "http://foo.localhost",
    "http://localhost.localdomain.local",
    "http://printer.local",
    "http://metadata.google.internal",
    "http://intranet",
    "http://router.lan",
    "http://nas.home.arpa",
    "http://x.onion",
    "http://.",
    "http://..",
    "http://a..org",
    "http://.a.org",
    "http://-a.org",
    "http://a-.org",
    "http://a_b-.org",
    "http://a b.org",
    "http://a,b.org",
    "http://a;b.org",
    "http://a|b.org",
    "http://*.a.org",
    "http://$(id).a.org",
    "http://\uff11\uff12\uff17.\uff10.\uff10.\uff11",
    "http://127\u30020\u30020\u30021",
    "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
    "http://\u217cocalhost",
    "http://straße.de",
    "http://exa\u200dmple.org",
    "http://exa\u00admple.org",
    "http://example.org\u2024com",
    "http://\u2488.0.0.1",
    "http://example.org\ud800/",
    "http://[fe80::1]:80",
    "http://example.org:0",
    "http://example.org:22",
    "http://example.org:25",
    "http://example.org:6379",
    "http://example.org:65536",
    "http://example.org:99999999999",
    "http://example.org:-80",
    "http://example.org:+80",
    "http://example.org:8 0",
    "http://example.org:080",
    "http://example.org:80:80",
    "http://example.org:http",
    "http://example.org:٨٠",
    "http://example.org:8080x",
    "http://" + "a" * 64 + ".org",
    "http://" + "a." * 130 + "org",
    "http://example.org/" + "a" * 5000,
]

SCHEMES = [
    "file:///etc/passwd",
    "ftp://example.org",
    "gopher://example.org:70/_x",
    "dict://example.org:11211/stat",
    "data:text/html,hi",
    "javascript:alert(1)",
    "jar:http://a.org!/",
    "ldap://example.org",
    "ws://example.org",
    "wss://example.org",
    "about:blank",
    "blob:http://a.org/1",
    "view-source:http://a.org",
    "unix:///run/docker.sock",
    "http+unix://%2Frun%2Fdocker.sock/",
    "sftp://a.org",
    "netdoc:///etc/passwd",
    "HTTPX://a.org",
    "http\u017f://a.org",
]

GOOD = {
    "http://example.org": "http://example.org/",
    "HTTPS://Example.ORG/Path?q=1#frag": "https://example.org/Path?q=1",
    "https://example.org.": "https://example.org/",
    "https://example.org:443/": "https://example.org/",
    "http://example.org:8080/a": "http://example.org:8080/a",
    "https://example.org:/a": "https://example.org/a",
    "https://example.org?q=a b".replace(" ", "%20"): "https://example.org/?q=a%20b",
    "https://example.org/a%2Fb/../c": "https://example.org/a%2Fb/../c",
    "https://example.org/größe?ü": "https://example.org/gr%C3%B6%C3%9Fe?%C3%BC",
    "https://bücher.example.org/": "https://xn--bcher-kva.example.org/",
    "https://xn--bcher-kva.example.org/": "https://xn--bcher-kva.example.org/",
    "https://例え.jp/": "https://xn--r8jz45g.jp/",
    "https://a_b.example.org/": "https://a_b.example.org/",
    "http://8.8.8.8/": "http://8.8.8.8/",
    "http://[2606:4700:4700::1111]/": "http://[2606:4700:4700::1111]/",
    "http://[2606:4700:4700:0:0:0:0:1111]:8443/x": "http://[2606:4700:4700::1111]:8443/x",
    "https://example.org/@user/x:y": "https://example.org/@user/x:y",
    "http://a.org#@127.0.0.1:99999/@x@": "http://a.org/",
    "https://1.example.org/": "https://1.example.org/",
    "https://example.org/?next=http://127.0.0.1/": "https://example.org/?next=http://127.0.0.1/",
}


@pytest.mark.parametrize("host", IPV4_SPELLINGS + IPV6_SPELLINGS)
@pytest.mark.parametrize("shape", ["http://{}/", "https://{}:8443/x?y#z"])
def test_address_that_is_not_public_or_plainly_spelled_is_refused(host: str, shape: str) -> None:
    with pytest.raises(ToolPermissionError):
        check_url(shape.format(host))


@pytest.mark.parametrize("url", OTHER_TRICKS + SCHEMES)
def test_trick_is_refused(url: str) -> None:
    with pytest.raises(ToolPermissionError) as caught:
        check_url(url)
    assert str(caught.value).isascii() or "open network" in str(caught.value)
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize(("url", "spelled"), GOOD.items())
def test_ordinary_url_passes_in_one_spelling(url: str, spelled: str) -> None:
    parsed = check_url(url)
    assert parsed.url == spelled
    assert not parsed.trusted
    assert check_url(parsed.url).url == spelled  # reading it again changes nothing
    assert urlsplit(parsed.url).hostname == parsed.host


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001::1"]
)
def test_public_address(address: str) -> None:
    assert is_public_address(address)
    assert is_public_address(ip_address(address))


@pytest.mark.parametrize(
    "text", ["", "example.org", "8.8.8", "fe80::1%eth0", "2606:4700::1%1", "8.8.8.8/32", "::1"]
)
def test_text_that_is_no_plain_public_address(text: str) -> None:
    assert not is_public_address(text)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=300, deadline=None)
def test_nothing_is_public_that_the_standard_library_calls_special(number: int) -> None:
    v4 = IPv4Address(number)
    special = v4.is_private or v4.is_multicast or v4.is_reserved or v4.is_loopback or v4.is_link_local
    assert not (special and is_public_address(v4))
    for carrier in ("::ffff:0:0", "::", "64:ff9b::"):
        assert not is_public_address(IPv6Address(int(IPv6Address(carrier)) | number))
    assert not is_public_address(IPv6Address((0x2002 << 112) | (number << 80)))


@given(st.integers(0, 2**128 - 1))
@settings(max_examples=300, deadline=None)
def test_no_special_ipv6_address_is_public(number: int) -> None:
    v6 = IPv6Address(number)
    if is_public_address(v6):
        assert v6.is_global
        assert not v6.is_multicast
        assert v6.ipv4_mapped is None
        assert v6.sixtofour is None
        assert v6.teredo is None


_PIECES = [
    "http",
    "https",
    ":",
    "/",
    "//",
    "\\",
    "@",
    "#",
    "?",
    "%",
    ".",
    "127",
    "0",
    "0x7f",
    "1",
    "localhost",
    "[",
    "]",
    "::1",
    "example.org",
    "user",
    "\uff18",
    "\u3002",
    " ",
    "\t",
    "%2e",
    "%40",
    ":80",
    ":8080",
    "xn--",
    "2130706433",
]


@given(st.lists(st.sampled_from(_PIECES), max_size=9).map(lambda parts: "http://" + "".join(parts)))
@settings(max_examples=600, deadline=None)
def test_composed_url_is_refused_or_read_by_others_as_we_read_it(url: str) -> None:
    try:
        parsed = check_url(url)
    except ToolPermissionError:
        return
    other = urlsplit(parsed.url)
    assert (other.hostname, other.port or {"http": 80, "https": 443}[other.scheme]) == (
        parsed.host,
        parsed.port,
    )
    assert other.username is None
    try:  # what the C library would take for an address must be judged as that address
        seen = socket.inet_aton(parsed.host)
    except OSError:
        assert parsed.address is None or parsed.address.version == 6
    else:
        assert parsed.address == IPv4Address(seen)
        assert is_public_address(parsed.address)


_ORIGIN = check_url("https://example.org/a/b?c")


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/x", "https://example.org/x"),
        ("x", "https://example.org/a/x"),
        ("?q", "https://example.org/a/b?q"),
        ("//other.org/x", "https://other.org/x"),
        ("https://other.org", "https://other.org/"),
        ("../../../x", "https://example.org/x"),
        ("/größe", "https://example.org/gr%C3%B6%C3%9Fe"),
    ],
)
def test_redirect_is_followed(location: str, target: str) -> None:
    assert check_redirect(_ORIGIN, location).url == target


@pytest.mark.parametrize(
    "location",
    [
        "http://other.org/",
        "//127.0.0.1/",
        "//localhost/",
        "https://[::1]/",
        "https://10.0.0.1/",
        "file:///etc/passwd",
        "//user@other.org/",
        "/\\127.0.0.1/",
        "\\\\127.0.0.1\\x",
        "//2130706433/",
        "https://[",
        "javascript:1",
        "//[::1",
        "/a\r\nb",
        "https://example.org:22/",
        "ftp://other.org/",
        "///127.0.0.1/",
        "//169.254.169.254/latest/meta-data/",
        "https:x",
        "x:y",
        "/\udcff",
        "https:/\\127.0.0.1",
    ],
)
def test_redirect_is_refused(location: str) -> None:
    with pytest.raises(ToolPermissionError):
        check_redirect(_ORIGIN, location)


def test_http_may_go_up_to_https() -> None:
    assert check_redirect(check_url("http://example.org"), "https://example.org/").scheme == "https"


def test_trusted_host_is_trusted_at_its_port_and_spelling_only() -> None:
    policy = UrlPolicy.trusting(["127.0.0.1:9999", "intranet", "[::1]:81", "Wiki.Corp."])
    assert check_url("http://127.0.0.1:9999/", policy).trusted
    assert check_url("http://intranet:8080/", policy).trusted
    assert check_url("http://[0:0::1]:81/", policy).trusted
    assert check_url("https://wiki.corp/", policy).trusted
    for url in (
        "http://127.0.0.1/",
        "http://127.0.0.1:9998/",
        "http://127.0.0.2:9999/",
        "http://intranet:9999/",
        "http://x.intranet/",
        "http://2130706433:9999/",
        "http://user@intranet/",
    ):
        with pytest.raises(ToolPermissionError):
            check_url(url, policy)


@pytest.mark.parametrize(
    "entry", ["", "http://a.org", "a.org/x", "user@a.org", "a.org:x", "*", "2130706433", "a b"]
)
def test_trusting_something_that_is_no_host_is_a_mistake(entry: str) -> None:
    with pytest.raises(ConfigError, match="host"):
        UrlPolicy.trusting([entry])
