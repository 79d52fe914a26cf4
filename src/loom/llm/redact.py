"""Takes secrets out of text that leaves us: error messages, logs, displays.

Two nets: exact matches of secrets we were given (in plain and in the usual encodings), and the formats of
common keys. Here is no policy about *when* to redact; callers decide.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from functools import partial
from typing import Generic, TypeVar
from urllib.parse import quote

T = TypeVar("T")

# Every quantifier is bounded or runs over a class that its follower excludes, so matching is linear.
_FORMATS: tuple[tuple[str, str], ...] = (
    ("anthropic_key", r"\bsk-ant-[A-Za-z0-9_-]{8,}"),
    ("api_key", r"\bsk-(?:proj-|or-v1-|svcacct-|admin-)?[A-Za-z0-9_-]{16,}"),
    ("groq_key", r"\bgsk_[A-Za-z0-9]{20,}"),
    ("xai_key", r"\bxai-[A-Za-z0-9]{20,}"),
    ("huggingface_token", r"\bhf_[A-Za-z0-9]{20,}"),
    ("github_pat", r"\b(?:ghp_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{20,})"),
    ("github_oauth", r"\bgho_[A-Za-z0-9]{30,}"),
    ("github_app", r"\bgh[us]_[A-Za-z0-9]{30,}"),
    ("github_refresh", r"\bghr_[A-Za-z0-9]{30,}"),
    ("gitlab_pat", r"\bglpat-[A-Za-z0-9_-]{20,}"),
    ("slack_bot", r"\bxoxb-[A-Za-z0-9-]{10,}"),
    ("slack_user", r"\bxox[pers]-[A-Za-z0-9-]{10,}"),
    ("slack_app", r"\bxapp-[A-Za-z0-9-]{10,}"),
    ("google_api", r"\bAIza[A-Za-z0-9_-]{35}"),
    ("google_oauth", r"\bya29\.[A-Za-z0-9_-]{20,}"),
    ("aws_access_key", r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    ("stripe_live", r"\b[rs]k_live_[A-Za-z0-9]{16,}"),
    ("stripe_test", r"\b[rs]k_test_[A-Za-z0-9]{16,}"),
    ("sendgrid", r"\bSG\.[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{16,}"),
    ("twilio", r"\bSK[a-f0-9]{32}\b"),
    ("mailgun", r"\bkey-[a-f0-9]{32}\b"),
    ("digitalocean", r"\bdo[opr]_v1_[a-f0-9]{64}\b"),
    ("npm_token", r"\bnpm_[A-Za-z0-9]{36}\b"),
    ("pypi_token", r"\bpypi-[A-Za-z0-9_-]{50,}"),
    ("jwt", r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"),
)
_PATTERN = re.compile("|".join(f"(?P<{label}>{pattern})" for label, pattern in _FORMATS))

# What surrounds the secret is kept, the secret itself is group 'secret'.
_IN_CONTEXT: tuple[tuple[str, re.Pattern[str]], ...] = (
    (
        "pem_private_key",
        re.compile(
            r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?P<secret>[A-Za-z0-9+/=\s:,\\-]{16,8192})"
            r"-----END [A-Z ]{0,40}PRIVATE KEY-----"
        ),
    ),
    ("bearer_token", re.compile(r"(?i)\bbearer\s{1,4}(?P<secret>[A-Za-z0-9._~+/=-]{12,})")),
    ("basic_auth", re.compile(r"(?i)\bbasic\s{1,4}(?P<secret>[A-Za-z0-9+/]{12,}={0,2})(?![A-Za-z])")),
    ("url_password", re.compile(r"://[^\s/:@\"']{0,256}:(?P<secret>[^\s/@\"']{1,256})@")),
    (
        "field",
        re.compile(
            r"(?i)[\"'](?:api[_-]?key|x-api-key|secret[_-]?key|client[_-]?secret|secret|token|password|passwd|"
            r"credential|auth[_-]?token|access[_-]?token|refresh[_-]?token|private[_-]?key)[\"']\s{0,4}:\s{0,4}"
            r"[\"'](?P<secret>[^\"']{8,4096})[\"']"
        ),
    ),
    (
        "env_var",
        re.compile(
            r"\b[A-Z][A-Z0-9_]{0,64}(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)\s{0,2}=\s{0,2}"
            r"[\"']?(?P<secret>[^\s\"'\[]{12,})"
        ),
    ),
    (
        "password",
        re.compile(r"(?i)\b(?:password|passwd|pwd)\s{0,2}=\s{0,2}[\"']?(?P<secret>[^\s\"'&;\[]{6,})"),
    ),
)


def redact_sensitive_text(text: str) -> str:
    """``text`` with everything that has the format of a secret replaced by ``[REDACTED_<label>]``."""
    text = _PATTERN.sub(lambda match: f"[REDACTED_{match.lastgroup}]", text)
    for label, pattern in _IN_CONTEXT:
        text = pattern.sub(partial(_mask, label), text)
    return text


def _mask(label: str, match: re.Match[str]) -> str:
    whole, secret = match.group(0), match.group("secret")
    if secret.startswith(("[REDACTED", "REDACTED")):
        return whole
    start = match.start("secret") - match.start()
    return f"{whole[:start]}[REDACTED_{label}]{whole[start + len(secret) :]}"


class Scrubber:
    """Removes given secrets from text, in plain, URL, JSON, hex and base64 form, then known key formats.

    Secrets shorter than 4 characters are not looked for: replacing them would destroy ordinary words.
    """

    __slots__ = ("_secrets",)

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {form for secret in secrets if len(secret) >= 4 for form in _forms(secret)}
        self._secrets = tuple(sorted(forms, key=len, reverse=True))

    def __call__(self, text: str) -> str:
        """``text`` without the secrets."""
        for secret in self._secrets:
            text = text.replace(secret, "[REDACTED]")
        return redact_sensitive_text(text)

    def __repr__(self) -> str:
        return "Scrubber(...)"


def _forms(secret: str) -> Iterable[str]:
    octets = secret.encode("utf-8", "surrogatepass")
    yield secret
    yield quote(secret, safe="")
    yield json.dumps(secret)[1:-1]
    if len(octets) >= 8:
        yield octets.hex()
        yield base64.b64encode(octets).decode().rstrip("=")
        yield base64.urlsafe_b64encode(octets).decode().rstrip("=")


class Hidden(Generic[T]):
    """A box for a value that must not show in a repr, a traceback with locals, or a dump of attributes."""

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def reveal(self) -> T:
        """The value, for the one line that needs it."""
        return self._value

    def __repr__(self) -> str:
        return "Hidden(...)"

    def __reduce__(self) -> str:
        raise TypeError("a hidden value is not pickled; build the provider again in the other process")
