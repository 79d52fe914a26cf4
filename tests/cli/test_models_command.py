"""``loom models``: what can be asked and what is known of it, without showing a secret or making up a number."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from loom_command import KEY, PATIENCE, environment, loom, loom_here

from loom.assembly.vendors import VENDORS
from loom.cli.models import end_of
from loom.llm.catalog import ModelInfo, known_models
from loom.llm.pricing import list_price
from loom.testing.model_server import ModelServer

NOTHING = {env: "" for vendor in VENDORS.values() for env in (*vendor.key_envs, vendor.base_url_env)}
NOTHING["OLLAMA_BASE_URL"] = "http://127.0.0.1:9"
"""An environment that leads nowhere."""


def providers(project: Path, **env: str) -> dict[str, dict[str, Any]]:
    done = loom_here("models", "--json", cwd=project, env={**NOTHING, **env})
    assert done.returncode == 0, done.stderr
    return {line["provider"]: line for line in json.loads(done.stdout)}


def test_every_provider_is_listed_and_no_value_of_a_variable_is_shown(project: Path) -> None:
    env = {env: f"https://user:{KEY}@127.0.0.1:9/v1" if env.endswith("URL") else KEY for env in NOTHING}
    for words in (["models"], ["models", "--json"], ["models", "openai"]):
        done = loom(*words, cwd=project, env=env | {"OLLAMA_BASE_URL": "http://127.0.0.1:9"})
        assert done.returncode == 0, done.stderr
        for start in range(len(KEY) - 5):
            assert KEY[start : start + 6] not in done.stdout + done.stderr
        assert "\x1b" not in done.stdout
    listed = [line.split()[0] for line in loom_here("models", cwd=project).stdout.splitlines()[1:] if line]
    assert listed == [*VENDORS, "auto"]
    assert os.listdir(project) == ["README.md"], "looking makes nothing"


def test_what_is_configured_and_what_is_missing(project: Path) -> None:
    said = loom_here("models", cwd=project, env={**NOTHING, "GROQ_API_KEY": " ", "XAI_API_KEY": "k"}).stdout
    (groq,) = (line for line in said.splitlines() if line.startswith("groq "))
    assert "https://api.groq.com/openai/v1" in groq
    assert groq.endswith("GROQ_API_KEY missing"), "blanks are no key"
    (xai,) = (line for line in said.splitlines() if line.startswith("xai "))
    assert "XAI_API_KEY set" in xai
    assert xai.endswith("auto")
    assert said.endswith("auto is xai:grok-4.7\n")

    nothing = providers(project)
    configured = [name for name, line in nothing.items() if line["configured"]]
    assert configured == ["ollama", "vllm", "lmstudio"], (
        "servers of one's own have a usual address and no key"
    )
    assert nothing["gemini"]["key_variables"] == ["GEMINI_API_KEY", "GOOGLE_API_KEY"]
    assert nothing["compatible"]["base_url"] is None
    assert providers(project, GOOGLE_API_KEY="k")["gemini"]["configured"]
    assert providers(project, LOOM_BASE_URL="http://box/v1")["compatible"]["configured"]
    half = providers(project, AZURE_OPENAI_API_KEY="k")["azure"]
    assert (half["key_set"], half["base_url_set"], half["configured"]) == (True, False, False)
    whole = providers(project, AZURE_OPENAI_API_KEY="k", AZURE_OPENAI_ENDPOINT="https://me.example")["azure"]
    assert whole["configured"]


@pytest.mark.parametrize(
    ("env", "chosen"),
    [
        ({}, []),
        ({"MISTRAL_API_KEY": "k", "XAI_API_KEY": "k"}, ["mistral"]),
        ({"AZURE_OPENAI_API_KEY": "k"}, []),
    ],
)
def test_at_most_one_provider_is_what_auto_means(
    project: Path, env: dict[str, str], chosen: list[str]
) -> None:
    assert [name for name, line in providers(project, **env).items() if line["auto"]] == chosen
    said = loom_here("models", cwd=project, env={**NOTHING, **env}).stdout
    assert said.endswith(f"auto is {chosen[0] if chosen else 'offline'}:{said.rpartition(':')[2]}")


def test_a_local_ollama_is_what_auto_means_when_there_is_no_key(project: Path) -> None:
    with ModelServer.in_thread(models=["llama3.2"]) as server:
        env = {**NOTHING, "OLLAMA_BASE_URL": server.base_url}
        assert loom_here("models", cwd=project, env=env).stdout.endswith("auto is ollama:llama3.2\n")


def test_the_models_of_a_provider_with_what_is_known_of_them(project: Path) -> None:
    said = loom_here("models", "anthropic", cwd=project).stdout.splitlines()
    assert said[0].split() == ["MODEL", "CONTEXT", "OUTPUT", "$", "PER", "MILLION", "CAPABILITIES", "ENDS"]
    assert [line.split()[0] for line in said[1:]] == [info.name for info in known_models("anthropic")]
    price = list_price("anthropic", "claude-haiku-4-5")
    assert price is not None
    (line,) = (line for line in said if line.startswith("claude-haiku-4-5 "))
    assert "200,000" in line
    assert "64,000" in line
    assert f"{price.input:g} in, {price.output:g} out, {price.cache_read:g} cached" in line
    assert line.endswith("vision, pdf, tools, thinking, schema: native")


def test_review_c_ends_are_shown_with_what_comes_instead(project: Path) -> None:
    said = loom_here("models", "anthropic", cwd=project).stdout
    (line,) = (line for line in said.splitlines() if line.startswith("claude-sonnet-4 "))
    assert line.endswith("ended 2026-06-15, use claude-sonnet-4-6")
    lines = json.loads(loom_here("models", "openai", "--json", cwd=project).stdout)
    by_name = {line["model"]["name"]: line for line in lines}
    assert by_name["o4-mini"]["ended"] is True
    assert by_name["o4-mini"]["model"]["retires"] == "2026-10-23"
    assert by_name["o4-mini"]["model"]["successor"] == "gpt-5.6-terra"
    assert by_name["o4-mini"]["model"]["source"].startswith("https://developers.openai.com/")
    assert by_name["gpt-4o"]["model"]["retires"] == "2027-01-14"
    assert end_of(ModelInfo(provider="p", name="m"), date(2026, 11, 29)) == ""
    soon = ModelInfo(provider="p", name="m", retires=date(2026, 11, 30), successor="n")
    assert end_of(soon, date(2026, 11, 29)) == "2026-11-30, use n"
    assert end_of(soon, date(2026, 11, 30)) == "ended 2026-11-30, use n"


def test_what_is_not_known_is_called_unknown(project: Path) -> None:
    said = loom_here("models", "deepseek", cwd=project).stdout.splitlines()
    (line,) = (line for line in said if line.startswith("deepseek-chat "))
    assert line.split()[1:3] == ["unknown", "unknown"]
    (line,) = (
        line for line in loom_here("models", "qwen", cwd=project).stdout.splitlines() if "qwen-plus" in line
    )
    assert "unknown" in line
    assert "0 in" not in line
    grok = loom_here("models", "xai", cwd=project).stdout
    assert "vision?" in grok


def test_as_json_unknown_is_null(project: Path) -> None:
    lines = json.loads(loom_here("models", "deepseek", "--json", cwd=project).stdout)
    by_name = {line["model"]["name"]: line for line in lines}
    assert by_name["deepseek-chat"]["model"]["context_window"] is None
    assert by_name["deepseek-v4-pro"]["model"]["context_window"] == 1_000_000
    assert by_name["deepseek-v4-pro"]["price"]["input"] > 0
    qwen = json.loads(loom_here("models", "qwen", "--json", cwd=project).stdout)
    assert {line["price"] for line in qwen} == {None}


def test_a_provider_without_rows_and_one_that_is_none(project: Path) -> None:
    done = loom_here("models", "vllm", cwd=project)
    assert (done.returncode, done.stdout) == (0, "")
    assert "no models of vllm" in done.stderr
    assert loom_here("models", "vllm", "--json", cwd=project).stdout == "[]\n"
    done = loom_here("models", "nobody", cwd=project)
    assert done.returncode == 2
    assert "known: anthropic, openai" in done.stderr


def main(before: str, *words: str, after: str = "") -> subprocess.CompletedProcess[str]:
    code = f"import sys\n{before}\nfrom loom.cli.app import command\ncommand({[*words]!r}, standalone_mode=False)\n"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code + after],
        capture_output=True,
        text=True,
        env=environment(NOTHING),
        timeout=PATIENCE,
        check=True,
    )


def test_without_the_extra_prices_are_unknown_and_it_is_named() -> None:
    done = main("sys.modules['genai_prices'] = None", "models", "anthropic")
    assert all("unknown" in line for line in done.stdout.splitlines()[1:])
    assert "with its extra 'pricing'" in done.stderr
    assert "pip install 'loom-agent" not in done.stderr


def test_the_list_of_providers_does_not_wait_for_the_table_of_prices() -> None:
    done = main("", "models", after="print('genai_prices' in sys.modules)")
    assert done.stdout.endswith("False\n")
