"""The package that has a character is named by its block."""

import pytest

from hardviews.tracking.fonts import packages


@pytest.mark.parametrize(
    ("chars", "names"),
    [
        ("\u732b", ["fonts-noto-cjk"]),
        ("\ub098\u306d\u30cd", ["fonts-noto-cjk"]),
        ("\U00020000", ["fonts-noto-cjk"]),
        ("\U0001f431", ["fonts-symbola"]),
        ("\u2708\U0001f680", ["fonts-symbola"]),
        ("\u0928\u1230", ["fonts-noto-core"]),
        ("\U0001f431\u732b\u0928", ["fonts-noto-cjk", "fonts-noto-core", "fonts-symbola"]),
        ("", []),
    ],
)
def test_each_block_has_its_package(chars, names):
    assert packages(chars) == names
