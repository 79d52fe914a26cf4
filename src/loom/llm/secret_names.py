"""Values with the name of a secret: in JSON, YAML, code, ``.env`` files, headers and query strings.

A name is only a hint: code that fetches a secret (``os.environ[...]``), a placeholder, a path and a plain word
are no secrets, and must stay readable in what is logged and sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .secret_formats import Found

# One pattern for all notations: the word that ends a secret's name, a sign, a value. The name before that word
# is read backwards from it.
_NAMED = re.compile(
    r"(?P<word>(?i:key|token|secret|password|passwd|passwort|passphrase|passcode|pwd|pass|credentials?|auth))"
    r"(?:_?\d{1,2}|_value)?\\{0,3}[\"'`]?\]?"
    r"(?:[ \t]{0,4}:[ \t]{0,4}[A-Za-z_][A-Za-z_.|\[\]]{0,30}(?=[ \t]{0,4}=))?"
    r"[ \t]{0,4}(?P<sign>:=|=>|={1,2}|:)[ \t]{0,4}(?:[bBrRuUfF]{1,2}(?=[\"']))?"
    r"(?:\\{1,3}\"(?P<double_escaped>(?:[^\"\\\r\n]|\\(?![\\\"])){1,4096}+)"
    r"|\\{1,3}'(?P<single_escaped>(?:[^'\\\r\n]|\\(?![\\'])){1,4096}+)"
    r"|\"(?P<double>(?:[^\"\\\r\n]|\\[^\r\n]){1,4096}+)"
    r"|'(?P<single>(?:[^'\\\r\n]|\\[^\r\n]){1,4096}+)"
    r"|(?P<bare>(?:[^\s\"'`&;<>\[\\]|\\[^\s\"'`]){1,4096}+))"
)
_FETCHED = re.compile(r"\[(?!REDACTED)")  # what stands before it holds secrets, as in config["password"]
_SIGN = re.compile(r"[ \t]{1,4}(?::?=|:[ \t])")  # what stands before it is a name itself
_VALUES = ("bare", "double", "single", "double_escaped", "single_escaped")
_NAME_CHARS = re.compile(r"[A-Za-z0-9_.-]{0,64}")

_PASSWORDS = ("password", "passwd", "passwort", "passphrase", "passcode", "pwd", "pass")
_SECRET_KEYS = (
    "apikey", "secretkey", "accesskey", "privatekey", "accountkey", "authkey", "signingkey", "masterkey",
    "encryptionkey", "subscriptionkey", "sharedkey", "licensekey", "adminkey", "servicekey", "serverkey",
    "functionskey",
)  # fmt: skip
# Names that end like a secret's and are none: places in lists and tables, marks in a model's vocabulary.
_HARMLESS = re.compile(
    r"(?:page|next|cursor|continuation|continue|sync|eos|bos|pad|unk|sep|mask|stop|special|max|min|num|total|public"
    r"|primary|foreign|sort|partition|cache|idempotency|object|by|com)[_.-]?(?:key|token|pass)\Z"
)


def named_values(text: str) -> Iterator[Found]:
    """Every value of ``text`` whose name ends like a secret's."""
    position = 0
    while match := _NAMED.search(text, position):
        position = match.end()
        kind = next(kind for kind in _VALUES if match[kind] is not None)
        start, reach = match.span(kind)
        value = text[start:reach] if kind != "bare" else text[start:reach].rstrip(".,:!?)}")
        before = _NAME_CHARS.match(text[max(0, match.start() - 64) : match.start()][::-1])
        name = (before.group()[::-1] if before else "") + match["word"]
        label = _label(name, match["sign"], kind != "bare", value) if value else None
        if kind == "bare" and _FETCHED.match(text, reach):
            label = None
        if label is None and kind == "bare" and _SIGN.match(text, reach):
            position = start
        yield Found(start, start + len(value), label, reach)


def _label(name: str, sign: str, quoted: bool, value: str) -> str | None:
    """What ``value`` is as the value of ``name``; None when it is no secret."""
    plain = re.sub(r"[_.-]", "", name.lower())
    upper = name.isupper() and sign != ":"
    if not _is_secret_name(name, plain, upper) or is_reference(value, quoted=quoted):
        return None
    if not (quoted or upper) and _SNAKE.fullmatch(value):
        return None
    weak = plain.endswith(_PASSWORDS)  # passwords are short and may be words
    if upper:
        enough = len(value) >= (6 if weak else 12)
    elif quoted:
        enough = len(value) >= (6 if weak else 8)
    elif weak:
        # After a colon stands prose as often as YAML.
        enough = len(value) >= 6 and (sign != ":" or bool(re.search(r"[\d!@#$%^&*+~]", value)))
        enough = enough and not (sign == ":" and plain == "pass")  # what test runners say
    else:
        # Types stand after a colon too, and are long words of both cases.
        random = bool(re.search(r"\d", value)) if sign == ":" else True
        enough = len(value) >= (12 if sign == ":" else 8) and random and looks_random(value)
    if not enough:
        return None
    if plain.endswith("secretaccesskey") or (plain.startswith("aws") and len(value) == 40):
        return "aws_secret_key"
    if plain.endswith(("accountkey", "sharedaccesskey")):
        return "azure_secret"
    return "env_var" if upper else "password" if weak and not quoted else "field"


def _is_secret_name(name: str, plain: str, upper: bool) -> bool:
    if _HARMLESS.search(name.lower()) or name.startswith("REDACTED_"):
        return False
    if plain.endswith("key"):
        return plain.endswith(_SECRET_KEYS) or (upper and re.search(r"(?:\A|[_.-])KEY\Z", name) is not None)
    if plain.endswith("auth"):
        return upper or name.endswith("_auth")
    return True


_PLACEHOLDER = re.compile(
    r"(?i)\$\{?[a-z_][\w.]*\}?|\$[({].*|\{.*|<.*|%\(.*|%[a-z]|(.)\1*|x{3,}.*|\.{3}.*|…|none|null|nil|true|false|undefined"
    r"|required|optional|string|bytes|boolean|integer|unauthorized|forbidden"
    r"|(?:your|my|the|some|example|dummy|fake|placeholder|insert|replace|enter)[-_ ][a-z_ -]*"
    r"|(?:file|env|vault|arn|op|ref|ssm|keyring|https?):.*|projects/.*"
)
_CODE = re.compile(
    r"[(*&!]*[A-Za-z_]+(?:\.[A-Za-z_]+)+\W*|[(*&!]*[A-Za-z_][\w.]*\(.*"
    r"|(?i:(?:[a-z0-9]{1,32}_){0,6}(?:password|passwd|pwd|token|secret|key))\W*"
)
_SNAKE = re.compile(r"[(*&!]*_?[a-z]+(?:_[a-z]+)+\W*")
_PATH = re.compile(r"(?:~|\.{1,2})?/[a-z._-]{2,}/[\w./-]*")


def is_reference(value: str, *, quoted: bool = False) -> bool:
    """Whether ``value`` says where a secret comes from, or that one belongs here, and is none itself."""
    if _PLACEHOLDER.fullmatch(value) or _PATH.fullmatch(value):
        return True
    return not quoted and _CODE.fullmatch(value) is not None


def looks_random(value: str) -> bool:
    """Whether ``value`` is no word and no number: letters with digits, or long with letters of both cases."""
    if any(c.isalpha() for c in value) and any(c.isdigit() for c in value):
        return True
    mixed = value.lower() != value != value.upper()
    return len(value) >= 20 and mixed and not re.search(r"[a-z][_ -][a-z]", value)
