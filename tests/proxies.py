"""A proxy and a TLS server on loopback, with an authority of their own: real sockets, real certificates."""

from __future__ import annotations

import asyncio
import base64
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Proxy:
    """``asked`` holds the first line of each request, ``logins`` what came as Proxy-Authorization.

    ``wanted`` is the user and password it wants; ``routes`` sends a name to a port of this machine.
    """

    wanted: str | None = None
    routes: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.asked.append(first)
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        login = fields.get("proxy-authorization", "")
        self.logins.append(login)
        if self.wanted and login != "Basic " + base64.b64encode(self.wanted.encode()).decode():
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return
        method, target, _ = first.split(" ")
        if method == "CONNECT":
            there = await self._connect(target)
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            parts = urlsplit(target)
            there = await self._connect(parts.netloc)
            path = parts.path + (f"?{parts.query}" if parts.query else "")
            there[1].write(head.replace(target.encode(), path.encode(), 1))
        await relay((reader, writer), there)

    async def _connect(self, place: str) -> Streams:
        parts = urlsplit(f"//{place}")
        port = self.routes.get(parts.hostname or "", parts.port or 80)
        return await asyncio.open_connection("127.0.0.1", port)


async def relay(here: Streams, there: Streams) -> None:
    """Pass on what comes on either side, until one of them has ended."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    pumps = [asyncio.create_task(pump(here[0], there[1])), asyncio.create_task(pump(there[0], here[1]))]
    try:
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        there[1].transport.abort()


@asynccontextmanager
async def listening(
    handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[int]:
    """The port of a server on loopback, whose connections end with it."""
    tasks: set[asyncio.Task[None]] = set()
    accepted: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)
        tasks.add(asyncio.ensure_future(serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in accepted:
            writer.transport.abort()  # not by cancelling: a connection that is being opened would be left open
        await asyncio.gather(*tasks, return_exceptions=True)
        for _ in range(3):  # transports see that they were closed
            await asyncio.sleep(0)


@asynccontextmanager
async def proxy(**settings: object) -> AsyncIterator[Proxy]:
    """A proxy at work."""
    made = Proxy(**settings)  # type: ignore[arg-type]
    async with listening(made.handle) as made.port:
        yield made


@asynccontextmanager
async def tls_before(port: int, context: ssl.SSLContext) -> AsyncIterator[int]:
    """A port that speaks TLS and passes on what it hears to ``port``."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await relay((reader, writer), await asyncio.open_connection("127.0.0.1", port))

    async with listening(handle, context) as secure:
        yield secure


def authority(folder: Path, *names: str) -> tuple[str, ssl.SSLContext]:
    """A file with the certificate of a new authority, and a server's context with one it signed for ``names``."""
    now = datetime.datetime.now(datetime.UTC)

    def certificate(
        subject: str, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey, *, root: bool
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=root, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
            )
        )
        if not root:
            alternatives = [_general(name) for name in names]
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        return builder.sign(signer, hashes.SHA256())

    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = certificate("authority", root_key, root_key, root=True)
    bundle, chain = folder / "authority.pem", folder / "server.pem"
    bundle.write_bytes(root.public_bytes(serialization.Encoding.PEM))
    chain.write_bytes(
        certificate("server", key, root_key, root=False).public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return str(bundle), context


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
