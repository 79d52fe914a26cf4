"""Secrets without a format of their own, known by what stands around them: headers, URLs, files, PEM.

Values that have a name (``password=...``) are in ``secret_names``. A context is only a hint, so what stands in
the place of the secret is judged too. Linear like ``secret_formats``: values are matched possessively, and no
pattern can start in many places of one word and fail after a long way in each.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator

from .secret_formats import Found
from .secret_names import is_reference, looks_random, named_values

Search = Callable[[str], Iterator[Found]]


def in_context(text: str) -> Iterator[Found]:
    """Every value of ``text`` that stands where a secret would. What is redacted already is passed over."""
    lower = text.lower()
    for hints, search in _SEARCHES:
        if any(hint in lower for hint in hints):
            for found in search(text):
                if not text.startswith("[REDACTED", found.start):
                    yield found


# --- private keys -------------------------------------------------------------------------------------

_PEM_HEAD = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?:\s|\\[nr]){0,8}")
_PEM_BODY = re.compile(r"(?:[^-]|-(?!----)){8,16384}+")
_PEM_LINE = re.compile(r"[A-Za-z0-9+/=]{16}")
_PEM_PART = re.compile(
    r"[A-Za-z0-9+/=]{32,}+(?:(?:\s|\\[nr]){1,8}[A-Za-z0-9+/=]{32,128}+)*+"
    r"(?:(?:\s|\\[nr]){1,8}[A-Za-z0-9+/=]{1,64}(?=\s{0,8}\Z))?"
)
# How far a key may reach that has not ended: lines such as "Version: ...", then base64, then the end's beginning.
_PEM_SO_FAR = re.compile(
    r"(?:[A-Z][A-Za-z-]{2,20}: [^\r\n]{0,120}+(?:\r?\n|\Z)){0,8}+"
    r"(?:[A-Za-z0-9+/=\s:,\\]|-(?!-)){0,16384}+(?:-{1,5}E?N?D?)?"
)
_PUTTY = re.compile(
    r"Private-Lines:[ \t]{0,4}\d{1,5}\s{1,4}(?P<secret>[A-Za-z0-9+/=]{32,128}+"
    r"(?:\s{1,4}[A-Za-z0-9+/=]{4,128}+(?![^\s])){0,512}+)(?P<after>\s{0,4}[A-Za-z0-9+/=]{0,128}+)"
)


def _pem(text: str) -> Iterator[Found]:
    for head in _PEM_HEAD.finditer(text):
        start = head.end()
        body = _PEM_BODY.match(text, start)
        if body and text.startswith("-----END", body.end()):
            # Code that looks for keys has head and end too, and nothing between them that could be a key.
            yield Found(start, body.end(), "pem_private_key" if _PEM_LINE.search(body.group()) else None)
            continue
        so_far = _PEM_SO_FAR.match(text, start)
        reach = so_far.end() if so_far else 0
        if part := _PEM_PART.match(text, start):  # the rest was cut off
            yield Found(start, part.end(), "pem_private_key", reach)
        else:
            yield Found(start, reach, None)


def _putty(text: str) -> Iterator[Found]:
    for match in _PUTTY.finditer(text):
        yield Found(*match.span("secret"), "pem_private_key", match.end("after"))


# --- HTTP ---------------------------------------------------------------------------------------------

_AUTHORIZATION = (
    r"(?:(?<![A-Za-z])|(?<=\\[nrt]))authorization\\{0,3}[\"']?[ \t]{0,4}[:=][ \t]{0,4}\\{0,3}[\"']?"
)
_HEADER_VALUE = r"(?P<secret>[^\s\"'`\\,;<>{}()\[\]]{8,8192}+)"
_SCHEMES = re.compile(
    rf"(?i)(?P<header>{_AUTHORIZATION})?(?:(?<![A-Za-z0-9_])|(?<=\\[nrt]))"
    rf"(?P<scheme>bearer|basic|token|apikey|api-key|ssws|bot|negotiate)[ \t]{{1,4}}{_HEADER_VALUE}"
)
_NO_SCHEME = re.compile(rf"(?i){_AUTHORIZATION}{_HEADER_VALUE}")
_COOKIE = re.compile(r"(?i)\bcookie[\"']?:[ \t]{0,4}[\"']?(?P<secret>[\w.-]{1,64}=[^\r\n\"'\\]{8,4096}+)")
_QUERY = re.compile(
    r"(?i)(?:[?&;](?:sig|signature)|x-(?:amz|goog)-signature)=(?P<secret>[A-Za-z0-9%/+=_.~-]{16,1024}+)"
)
_WEBHOOK = re.compile(
    r"(?:hooks\.slack\.com/(?:services|workflows|triggers)/|discord(?:app)?\.com/api/webhooks/\d{15,22}/"
    r"|webhook\.office\.com/webhookb2/|hooks\.zapier\.com/hooks/catch/)(?P<secret>[\w/@.-]{20,512}+)"
)


def _headers(text: str) -> Iterator[Found]:
    for match in _SCHEMES.finditer(text):
        scheme, secret = match["scheme"].lower(), match["secret"]
        in_header, random = match["header"] is not None, looks_random(secret)
        if scheme == "basic":
            label, sure = "basic_auth", in_header or _is_user_and_password(secret)
        elif scheme == "bearer":
            label, sure = "bearer_token", in_header or (len(secret) >= 12 and random)
        else:
            label, sure = "authorization", in_header and random
        yield Found(*match.span("secret"), label if sure and not is_reference(secret) else None)
    for match in _NO_SCHEME.finditer(text):
        sure = looks_random(match["secret"]) and not is_reference(match["secret"])
        yield Found(*match.span("secret"), "authorization" if sure else None)


def _is_user_and_password(text: str) -> bool:
    try:
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), validate=True).decode()
    except (binascii.Error, ValueError):
        return False
    return ":" in decoded and decoded.isprintable()


# --- addresses ----------------------------------------------------------------------------------------

_USERINFO = re.compile(r"://[^\s/:@\"'<>]{0,256}:(?P<secret>[^\s/\"'<>]{1,256})@")
_USERINFO_SO_FAR = re.compile(r"://[^\s/:@\"'<>]{0,256}:(?P<secret>[^\s\"'<>]{1,256}+)")
# A password with a slash in it is no URL, but people write it; a port before the slash is not one.
_DATABASE = re.compile(
    r"(?i)(?:postgres(?:ql)?|mysql|mariadb|mongodb|rediss?|valkey|mssql|sqlserver|oracle|amqps?|clickhouse"
    r"|cockroachdb)(?:\+[a-z0-9]{1,16})?://[^\s/:@\"'<>]{0,256}:(?!\d{1,5}[/?])(?P<secret>[^\s\"'<>]{1,256})@"
)


def _addresses(text: str) -> Iterator[Found]:
    for pattern, label in ((_DATABASE, "db_connection_string"), (_USERINFO, "url_password")):
        for match in pattern.finditer(text):
            sure = not is_reference(match["secret"], quoted=True)
            yield Found(*match.span("secret"), label if sure else None)
    for match in _USERINFO_SO_FAR.finditer(text):
        yield Found(*match.span("secret"), None)


# --- on command lines, in files, beside their names -----------------------------------------------------

_FLAG = re.compile(
    r"--(?:[a-z0-9]{1,20}-){0,3}(?:password|passwd|passphrase|token|secret|api-?key|access-?key|secret-?key)"
    r"[ \t]{1,4}(?P<secret>[^\s\"'\\-][^\s\"'\\]{5,1024}+)"
)
_CURL_USER = re.compile(r"(?:\s-u|--user)[ =\t]{0,4}[\"']?[\w.@-]{1,128}:(?P<secret>[^\s\"':/\\]{4,256}+)")
_NETRC = re.compile(r"\blogin\s{1,4}\S{1,128}\s{1,8}password\s{1,4}(?P<secret>[^\s\"'\\]{4,256}+)")
_XML = re.compile(
    r"(?i)(?<!\?P)<[\w:.-]{0,40}?(?:password|passwd|secret|token|api[_-]?key)>(?P<secret>[^<\s]{6,1024}+)(?=<)"
)
_AWS_PAIR = re.compile(r"A[KS]IA[A-Z0-9]{16}[\s,:;|/\"']{1,6}(?P<secret>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])")
_AWS_NEAR = re.compile(
    r"(?i)(?:aws|secret)[ _-]{0,2}(?:secret)?[ _-]{0,2}(?:access)?[ _-]{0,2}key[ \t]{0,4}(?:is|was|\|)?[ \t]{1,4}"
    r"[\"'`]?(?P<secret>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])"
)
_HEROKU = re.compile(
    r"(?i)heroku[\w .:=>\"'`,|-]{0,40}?(?P<secret>[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"
)


def _always(value: str) -> bool:
    return True


def _by(label: str, *patterns: re.Pattern[str], when: Callable[[str], bool] = _always) -> Search:
    """A search that trusts its patterns as far as ``when`` and ``is_reference`` let it."""

    def search(text: str) -> Iterator[Found]:
        for pattern in patterns:
            for match in pattern.finditer(text):
                sure = when(match["secret"]) and not is_reference(match["secret"])
                yield Found(*match.span("secret"), label if sure else None)

    return search


def _has_digit(value: str) -> bool:
    return any(c.isdigit() for c in value)


# What must be in the lower-case text for a search to be worth its time.
_SEARCHES: tuple[tuple[tuple[str, ...], Search], ...] = (
    (("private key",), _pem),
    (("private-lines:",), _putty),
    (("authorization", "bearer", "basic"), _headers),
    (("cookie",), _by("cookie", _COOKIE)),
    (("sig=", "signature="), _by("signature", _QUERY, when=looks_random)),
    (("hooks.slack.com", "api/webhooks/", "webhookb2", "hooks.zapier.com"), _by("webhook_url", _WEBHOOK)),
    (("://",), _addresses),
    (("key", "token", "secret", "pass", "pwd", "credential", "auth"), named_values),
    (("--",), _by("field", _FLAG, when=_has_digit)),
    ((" -u", "--user"), _by("password", _CURL_USER)),
    (("login",), _by("password", _NETRC)),
    ((">",), _by("field", _XML)),
    (("akia", "asia", "key"), _by("aws_secret_key", _AWS_PAIR, _AWS_NEAR, when=_has_digit)),
    (("heroku",), _by("heroku", _HEROKU)),
)
