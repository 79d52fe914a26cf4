"""From declared connection settings to the way a service is reached."""

from __future__ import annotations

from collections.abc import Mapping

from ..config.model import Secret
from ..safety.network import Network, environment_proxy, read_proxy


def make_network(
    url: str,
    *,
    proxy: str | Secret | None,
    ca_bundle: str | None,
    trust_env: bool,
    environ: Mapping[str, str],
) -> Network | None:
    """The way to ``url``; None for the usual one. Raises ConfigError, also for a ``ca_bundle`` without certificates."""
    given = proxy.reveal() if isinstance(proxy, Secret) else proxy
    if given is None and trust_env:
        given = environment_proxy(url, environ)
    if ca_bundle is not None:
        # Imported here: it brings the HTTP client, and who names no file of certificates may never need one.
        from ..llm.http import tls_context

        tls_context(ca_bundle)
    if given is None and ca_bundle is None:
        return None
    return Network(read_proxy(given) if given is not None else None, ca_bundle)
