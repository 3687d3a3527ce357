"""What is a secret among environment variables."""

from __future__ import annotations

import pytest

from llmops_tui.data.masking import is_secret, masked


@pytest.mark.parametrize(
    "name", ["HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "DB_PASS", "MYSQL_PWD", "GITHUB_PAT", "BASIC_AUTH", "SENTRY_DSN", "pass"]
)
def test_a_secret_is_known_by_its_name(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize("name", ["PATH", "PWD", "OLDPWD", "TOKENIZERS_PARALLELISM", "COMPASS", "AUTHOR", "PATTERN", "PASS_RATE"])
def test_what_only_looks_like_one_is_shown(name: str) -> None:
    assert not is_secret(name)


def test_a_login_in_a_url_is_hidden_whole() -> None:
    shown = masked({"PROXY": "http://ada:p@ss@proxy:3128/", "MIRROR": "https://host/a@b", "TWO": "http://a:b@h http://c@h"})
    assert shown == {"PROXY": "http://***@proxy:3128/", "MIRROR": "https://host/a@b", "TWO": "http://***@h http://***@h"}
