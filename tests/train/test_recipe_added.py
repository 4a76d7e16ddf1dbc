"""Settings that came later: with the value that does as before, runs that were begun without them go on."""

from dataclasses import replace

import pytest

from hardviews.recipes.digits import digits
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.compose import Chain, Sum
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean


@pytest.mark.parametrize("key", ["method.block", "strategy.noise", "strategy.score", "strategy.colours"])
def test_a_setting_that_came_later_is_no_part_of_a_run_that_does_as_before(key: str) -> None:
    assert key not in replace(digits(), strategy=HardViews(4)).settings()


def test_another_value_is_reported_and_is_another_run() -> None:
    plain = replace(digits(), strategy=HardViews(4))
    changed = replace(plain, strategy=HardViews(4, colours=False))
    assert changed.settings()["strategy.colours"] == "False"
    assert changed.digest() != plain.digest()


def test_settings_of_parts_are_found() -> None:
    strategy = Chain(HardViews(4), Sum((1.0, Clean()), (1.0, Adversarial(gradient="clean"))))
    found = replace(digits(), strategy=strategy).settings()
    assert [key for key in found if key.endswith(".gradient")] == ["strategy.links.1.parts.1.strategy.gradient"]
    assert not [key for key in found if key.endswith(".colours")]
