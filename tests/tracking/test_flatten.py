import enum
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardviews.tracking.flatten import flatten
from hardviews.tracking.scrub import scrub, scrub_item


class Kind(enum.Enum):
    FAST = 1


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1
    parts: tuple[float, ...] = (0.2, 1.0)


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    chain: tuple[Inner, ...] = (Inner(), Inner(0.5))
    where: Path = Path("a/b")
    kind: Kind = Kind.FAST
    nothing: None = None
    aws_secret_access_key: str = "do not show"


def test_nested_configuration_becomes_flat_text():
    assert flatten(Outer()) == {
        "inner": "Inner",
        "inner.rate": "0.1",
        "inner.parts": "[0.2, 1.0]",
        "chain.0": "Inner",
        "chain.0.rate": "0.1",
        "chain.0.parts": "[0.2, 1.0]",
        "chain.1": "Inner",
        "chain.1.rate": "0.5",
        "chain.1.parts": "[0.2, 1.0]",
        "where": "a/b",
        "kind": "FAST",
        "nothing": "None",
        "aws_secret_access_key": "***",
    }


def test_mlflows_limits_are_kept():
    flat = flatten({"k" * 300: "v" * 7000})
    assert [(len(key), len(value)) for key, value in flat.items()] == [(250, 6000)]


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("postgresql://user:pass@host/db", "postgresql://***@host/db"),
        ("see https://u:p@ss@h/x and s3://b/k", "see https://***@h/x and s3://b/k"),
        ("https://ghp_token@h/x", "https://***@h/x"),
        ("https://h/x?X-Amz-Signature=abc&y=1", "https://h/x?X-Amz-Signature=***&y=1"),
        ("id AKIAABCDEFGHIJKLMNOP.", "id ***."),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("s3://bucket/key@1", "s3://bucket/key@1"),
    ],
)
def test_secrets_in_text_are_hidden(text, clean):
    assert scrub(text) == clean


@pytest.mark.parametrize(
    ("key", "hidden"),
    [
        ("AWS_SESSION_TOKEN", True),
        ("store.password", True),
        ("hub.api_key", True),
        ("auth_token", True),
        ("num_tokens", False),
        ("method.temperature", False),
        ("key", False),
    ],
)
def test_secret_names_hide_their_values(key, hidden):
    assert (scrub_item(key, "value") == "***") == hidden


@given(st.text(st.characters(codec="utf-8", exclude_characters="/", exclude_categories=["Z", "C"]), min_size=9))
def test_no_password_survives(password):
    assert scrub(f"to https://user:{password}@host/path") == "to https://***@host/path"
