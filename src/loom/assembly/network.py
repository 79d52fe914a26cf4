"""From declared connection settings to the way a service is reached."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

from ..config.model import Secret
from ..errors import ConfigError
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
        check_bundle(ca_bundle)
    if given is None and ca_bundle is None:
        return None
    return Network(read_proxy(given) if given is not None else None, ca_bundle)


def check_bundle(ca_bundle: str) -> None:
    """Raise ConfigError unless the file holds certificates in PEM."""
    try:
        ssl.create_default_context(cafile=ca_bundle)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        why = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise ConfigError(f"ca_bundle {ca_bundle!r} cannot be read as certificates in PEM: {why}") from None
