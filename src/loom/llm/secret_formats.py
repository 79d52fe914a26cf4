"""What secrets look like: the published formats of keys, and what stands around a secret without a format.

Tables and the search over them, nothing else; what becomes of a find is decided in ``redact``. Every pattern
starts with a literal or with a bounded class, repeats no group over text its follower also takes, and bounds
its repetitions, so a search takes time linear in the text.

Left out on purpose, although common lists have them: phone numbers (any ten digits are one, timestamps too),
tenant and account ids (they name, they do not open), plain UUIDs, hashes and base64 without context.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple


class Found(NamedTuple):
    """A value where a secret would be.

    ``label`` is None when it does not look like one, so far. ``reach`` is how far the value may go when it has
    trailing punctuation that is not counted in; 0 means ``end``.
    """

    start: int
    end: int
    label: str | None
    reach: int = 0


_UUID = r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
_WORD = r"[A-Za-z0-9_-]"
_END = r"(?![A-Za-z0-9])"

# label, literal beginning, what follows it. The first that fits names the find.
_PREFIXED: tuple[tuple[str, str, str], ...] = (
    # models and what stands around them
    ("anthropic_key", "sk-ant-", r"[\w-]{8,}"),
    ("api_key", "sk-", r"(?:proj|svcacct|admin|service|None|or-v1|or|lf)-[\w-]{16,}"),
    ("api_key", "sk-", r"[A-Za-z0-9]{16}[\w-]*"),
    ("groq_key", "gsk_", r"[A-Za-z0-9]{20,}"),
    ("xai_key", "xai-", r"[A-Za-z0-9]{20,}"),
    ("huggingface_token", "hf_", r"[A-Za-z0-9]{20,}"),
    ("huggingface_token", "api_org_", r"[A-Za-z0-9]{30,}"),
    ("replicate_token", "r8_", r"[A-Za-z0-9]{30,}"),
    ("perplexity_key", "pplx-", r"[A-Za-z0-9]{30,}"),
    ("together_key", "tgp_v1_", r"[\w-]{30,}"),
    ("fireworks_key", "fw_", r"[A-Za-z0-9]{22,}"),
    ("nvidia_key", "nvapi-", r"[\w-]{40,}"),
    ("cerebras_key", "csk-", r"[a-z0-9]{30,}"),
    ("langsmith_key", "lsv2_", r"(?:pt|sk)_[0-9a-f]{32}_[0-9a-f]{10}"),
    ("langsmith_key", "ls__", r"[0-9a-f]{32}"),
    ("pinecone_key", "pcsk_", r"[A-Za-z0-9_]{30,}"),
    ("tavily_key", "tvly-", r"[\w-]{20,}"),
    ("firecrawl_key", "fc-", rf"[0-9a-f]{{32}}{_END}"),
    ("jina_key", "jina_", r"[A-Za-z0-9_-]{40,}"),
    ("voyage_key", "pa-", rf"{_WORD}{{43}}{_END}"),
    ("elevenlabs_key", "sk_", rf"[0-9a-f]{{48}}{_END}"),
    # code hosting, packages, building
    ("github_pat", "ghp_", r"[A-Za-z0-9]{30,}"),
    ("github_pat", "github_pat_", r"\w{20,}"),
    ("github_oauth", "gho_", r"[A-Za-z0-9]{30,}"),
    ("github_app", "ghu_", r"[A-Za-z0-9]{30,}"),
    ("github_app", "ghs_", r"[A-Za-z0-9]{30,}"),
    ("github_refresh", "ghr_", r"[A-Za-z0-9]{30,}"),
    ("gitlab_pat", "glpat-", r"[\w-]{20,}(?:\.[\w-]{2,40}){0,2}"),
    (
        "gitlab_token",
        "gl",
        r"(?:dt|rt|ptt|soat|cbt|ft|imt|agent|oas|ffct|rtr)-[\w-]{20,}(?:\.[\w-]{2,40}){0,2}",
    ),
    ("bitbucket_token", "ATBB", rf"[A-Za-z0-9]{{32}}{_END}"),
    ("bitbucket_token", "ATCTT3", r"[\w=-]{60,}"),
    ("atlassian_token", "ATATT3", r"[\w=-]{60,}"),
    ("trello_token", "ATTA", rf"[A-Za-z0-9]{{60,80}}{_END}"),
    ("npm_token", "npm_", rf"[A-Za-z0-9]{{36}}{_END}"),
    ("pypi_token", "pypi-", r"[\w-]{50,}"),
    ("rubygems_token", "rubygems_", r"[a-f0-9]{48}"),
    ("crates_token", "cio", rf"[A-Za-z0-9]{{32}}{_END}"),
    ("nuget_key", "oy2", rf"[a-z0-9]{{43}}{_END}"),
    ("docker_token", "dckr_", r"(?:pat|oat)_[\w-]{27,}"),
    ("clojars_token", "CLOJARS_", r"[a-z0-9]{60}"),
    ("artifactory_token", "AKCp", r"[A-Za-z0-9]{60,}"),
    ("artifactory_token", "cmVmdGtuO", r"[A-Za-z0-9]{50,}"),
    ("circleci_token", "CCIPAT_", r"\w{40,}"),
    ("buildkite_token", "bkua_", r"[a-f0-9]{40}"),
    ("sonar_token", "sq", r"[uap]_[0-9a-f]{40}"),
    ("postman_key", "PMAK-", r"[a-f0-9]{24}-[a-f0-9]{34}"),
    ("sourcegraph_token", "sgp_", r"(?:[a-zA-Z0-9]{16}_)?[a-f0-9]{40}"),
    ("pulumi_token", "pul-", r"[a-f0-9]{40}"),
    ("prefect_key", "pn", r"[ub]_[a-zA-Z0-9]{36}"),
    ("readme_key", "rdme_", r"[a-z0-9]{60,}"),
    # clouds and databases
    ("aws_access_key", "AKIA", rf"[A-Z0-9]{{16}}{_END}"),
    ("aws_access_key", "ASIA", rf"[A-Z0-9]{{16}}{_END}"),
    ("aws_bedrock_key", "ABSK", r"[A-Za-z0-9+/]{100,}={0,2}"),
    ("google_api", "AIza", rf"{_WORD}{{35}}"),
    ("google_api", "AQ.Ab", r"[\w-]{40,}"),
    ("google_oauth", "ya29.", r"[\w.-]{20,}"),
    ("google_oauth_secret", "GOCSPX-", r"[\w-]{20,}"),
    ("google_oauth_refresh", "1//0", r"[\w-]{40,}"),
    ("firebase", "AAAA", rf"{_WORD}{{7}}:{_WORD}{{140}}"),
    ("digitalocean", "do", r"[opr]_v1_[a-f0-9]{64}"),
    ("heroku", "HRKU-", r"[\w-]{30,}"),
    ("cloudflare_key", "v1.0-", r"[a-f0-9]{24}-[a-f0-9]{100,}"),
    ("vercel_token", "vercel_blob_rw_", r"\w{30,}"),
    ("netlify_token", "nfp_", r"[A-Za-z0-9]{36}"),
    ("render_key", "rnd_", rf"[A-Za-z0-9]{{28,40}}{_END}"),
    ("fly_token", "fo1_", rf"{_WORD}{{43}}"),
    ("fly_token", "fm", r"[12][ar]?_[A-Za-z0-9+/=_-]{60,}"),
    ("supabase_key", "sbp_", r"[a-f0-9]{40}"),
    ("supabase_key", "sb_secret_", r"[\w-]{20,}"),
    ("planetscale_key", "pscale_", r"(?:tkn|pw|oauth)_[\w.=-]{30,}"),
    ("neon_key", "napi_", r"[a-z0-9]{40,}"),
    ("databricks_token", "dapi", rf"[a-f0-9]{{32}}(?:-\d)?{_END}"),
    ("alibaba_key", "LTAI", rf"[A-Za-z0-9]{{16,24}}{_END}"),
    ("tencent_key", "AKID", rf"[A-Za-z0-9]{{32}}{_END}"),
    ("tailscale_key", "tskey-", r"(?:auth|api|client|scim|webhook)-[\w-]{20,}"),
    ("contentful_token", "CFPAT-", r"[\w-]{40,}"),
    # secrets about secrets, and watching
    ("vault_token", "hv", r"[sbr]\.[\w-]{24,}"),
    ("doppler_token", "dp.", r"(?:pt|st|ct|sa|scim|audit)\.(?:[a-z0-9_-]{2,35}\.)?[A-Za-z0-9]{40,44}"),
    ("onepassword_token", "ops_eyJ", r"[A-Za-z0-9+/=_-]{60,}"),
    (
        "onepassword_key",
        "A3-",
        r"[A-Z0-9]{6}-(?:[A-Z0-9]{11}|[A-Z0-9]{6}-[A-Z0-9]{5})(?:-[A-Z0-9]{5}){3}",
    ),
    ("age_key", "AGE-SECRET-KEY-1", r"[A-Z0-9]{50,}"),
    ("grafana_token", "glsa_", r"[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}"),
    ("grafana_token", "glc_", r"[A-Za-z0-9+/]{32,}={0,2}"),
    ("sentry_token", "sntry", r"[su]_[A-Za-z0-9+/=_-]{50,}"),
    ("newrelic_key", "NRAK-", r"[A-Z0-9]{27}"),
    ("newrelic_key", "NRII-", r"[\w-]{32}"),
    ("dynatrace_token", "dt0", r"[a-z]\d\d\.[A-Z0-9]{24}\.[A-Z0-9]{64}"),
    ("honeycomb_key", "hca", r"[il]k_[a-z0-9]{40,}"),
    ("launchdarkly_key", "sdk-", _UUID),
    ("posthog_key", "phx_", r"[A-Za-z0-9]{40,}"),
    # money
    ("stripe_live", "sk_live_", r"[A-Za-z0-9]{16,}"),
    ("stripe_live", "rk_live_", r"[A-Za-z0-9]{16,}"),
    ("stripe_test", "sk_test_", r"[A-Za-z0-9]{16,}"),
    ("stripe_test", "rk_test_", r"[A-Za-z0-9]{16,}"),
    ("webhook_secret", "whsec_", r"[A-Za-z0-9+/=_-]{20,}"),
    ("square_token", "sq0", r"[a-z]{3}-[\w-]{22,}"),
    ("square_token", "EAAA", rf"{_WORD}{{60}}{_END}"),
    ("shopify_token", "shp", r"(?:at|ca|pa|ss|tka)_[a-fA-F0-9]{32}"),
    ("braintree_token", "access_token$", r"(?:production|sandbox)\$[a-z0-9]{16}\$[a-f0-9]{32}"),
    ("plaid_token", "access-", rf"(?:sandbox|development|production)-{_UUID}"),
    ("flutterwave_key", "FLWSECK", r"(?:_TEST)?-[A-Za-z0-9]{12,}"),
    ("razorpay_key", "rzp_", rf"(?:live|test)_[A-Za-z0-9]{{14}}{_END}"),
    ("easypost_key", "EZ", r"[AT]K[A-Za-z0-9]{54}"),
    ("duffel_token", "duffel_", r"(?:test|live)_[\w=-]{43}"),
    ("shippo_token", "shippo_", r"(?:live|test)_[a-f0-9]{40}"),
    # talking to people
    ("slack_bot", "xoxb-", r"[A-Za-z0-9-]{10,}"),
    ("slack_user", "xox", r"(?:[aceprso]|e\.xox[bp])-[A-Za-z0-9-]{10,}"),
    ("slack_user", "xoxd-", r"[A-Za-z0-9%+/=-]{20,}"),
    ("slack_app", "xapp-", r"[A-Za-z0-9-]{10,}"),
    ("twilio", "SK", rf"[a-f0-9]{{32}}{_END}"),
    ("sendgrid", "SG.", r"[\w-]{16,64}\.[\w-]{16,}"),
    ("mailgun", "key-", rf"[a-f0-9]{{32}}{_END}"),
    ("mailersend_token", "mlsn.", r"[a-f0-9]{64}"),
    ("brevo_key", "xkeysib-", r"[a-f0-9]{64}-[A-Za-z0-9]{16}"),
    ("resend_key", "re_", rf"[A-Za-z0-9]{{8}}_[A-Za-z0-9]{{24}}{_END}"),
    ("facebook_token", "EAA", r"[A-Za-z0-9]{90,}"),
    ("twitter_bearer", "AAAAAAAAAAAAAAAAAAAAA", r"[A-Za-z0-9]{5,80}%[A-Za-z0-9%]{20,}"),
    ("pinterest_token", "pina_", r"[A-Z0-9]{60,}"),
    # offices
    ("notion_token", "ntn_", r"[A-Za-z0-9]{40,}"),
    ("notion_token", "secret_", rf"[A-Za-z0-9]{{43}}{_END}"),
    ("linear_key", "lin_", r"(?:api|oauth)_[A-Za-z0-9]{30,}"),
    ("airtable_token", "pat", r"[A-Za-z0-9]{14}\.[a-f0-9]{64}"),
    ("figma_token", "fig", r"[dou]r?_[\w-]{35,}"),
    ("hubspot_token", "pat-", rf"(?:na|eu|ap)\d-{_UUID}"),
    ("dropbox_token", "sl.", r"[\w-]{100,}"),
    ("typeform_token", "tfp_", r"[\w.=-]{40,}"),
    ("clickup_token", "pk_", r"\d{5,12}_[A-Z0-9]{32}"),
    ("salesforce_token", "00D", r"[A-Za-z0-9]{12,15}![A-Za-z0-9._]{60,}"),
    ("zoho_token", "1000.", r"[a-f0-9]{32}\.[a-f0-9]{32}"),
)

# A key starts a word, or stands after an escape such as \n or %3D.
_BEGIN = r"(?:(?<![\w-])|(?<=\\[nrt])|(?<=%[0-9A-Fa-f]{2}))"

# label, a literal that must be in the text, the pattern: what has no literal beginning, or could fail after
# a long way, so that it must not be tried again inside of one word.
_SHAPED: tuple[tuple[str, str, str], ...] = (
    ("mapbox_token", "sk.eyJ", rf"{_BEGIN}sk\.eyJ[\w-]{{20,}}\.[\w-]{{16,}}"),
    ("jwt", "eyJ", rf"{_BEGIN}eyJ[\w-]{{8,}}\.[\w-]*\.[\w-]{{8,}}(?:\.[\w-]{{8,}}){{0,2}}"),
    ("telegram_token", ":AA", rf"{_BEGIN}\d{{8,10}}:AA{_WORD}{{32,35}}(?!\w)"),
    ("mailchimp_key", "-us", rf"{_BEGIN}[a-f0-9]{{32}}-us\d{{1,2}}(?!\w)"),
    ("terraform_token", ".atlasv1.", rf"{_BEGIN}[A-Za-z0-9]{{14}}\.atlasv1\.[\w=-]{{60,}}"),
    ("azure_secret", "Q~", rf"{_BEGIN}[\w~.-]{{3}}\dQ~[\w~.-]{{31,34}}"),
    ("azure_devops_token", "AZDO", rf"{_BEGIN}[A-Za-z0-9]{{76}}AZDO[A-Za-z0-9]{{4}}(?!\w)"),
    # A bot's id in base64 begins with a digit's encoding: M, N or O.
    ("discord_token", ".", rf"{_BEGIN}[MNO][A-Za-z0-9]{{23,27}}\.{_WORD}{{6}}\.{_WORD}{{27,40}}(?![\w-])"),
)


def _prefixed(literal: str, rest: str) -> str:
    # Where it may begin is said behind the literal: only a pattern that begins with its literal is searched
    # for at the speed of str.find.
    text = re.escape(literal)
    return rf"{text}(?:(?<!\w{text})|(?<=\\[nrt]{text})|(?<=%[0-9A-Fa-f]{{2}}{text})){rest}"


_FORMATS: tuple[tuple[str, str, str], ...] = (
    *((label, literal, _prefixed(literal, rest)) for label, literal, rest in _PREFIXED),
    *_SHAPED,
)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    # Compiling all of them takes 20 ms, which who imports us should not pay; few are ever needed.
    return re.compile(pattern, re.ASCII)


def find_secrets(text: str) -> Iterator[Found]:
    """Everything in ``text`` that looks like a secret, in no order; finds may overlap.

    Among them, without a label, are values that stand where a secret would and look like none.
    """
    from .secret_contexts import in_context  # as late as possible for the same reason

    for label, hint, pattern in _FORMATS:
        if hint in text:
            for match in _compiled(pattern).finditer(text):
                yield Found(match.start(), match.end(), label)
    yield from in_context(text)
