"""DINO and iBOT refuse settings that distil nothing."""

from typing import Any

import pytest

from hardviews.errors import UserError
from hardviews.methods.dino import DINOConfig
from hardviews.methods.ibot import IBOTConfig


@pytest.mark.parametrize("config", [DINOConfig, IBOTConfig])
@pytest.mark.parametrize(
    "wrong", [{"outputs": 1}, {"hidden": 0}, {"teacher_temperature": 0.0}, {"locals": -1}, {"momentum": 1.5}]
)
def test_settings_that_distil_nothing_are_refused(config: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=rf"^method\.{next(iter(wrong))} is "):
        config(**wrong)


def test_losses_without_a_weight_are_refused() -> None:
    with pytest.raises(UserError, match="class_weight=0 and patch_weight=0"):
        IBOTConfig(class_weight=0.0, patch_weight=0.0)
    IBOTConfig(class_weight=0.0)
