"""The names of BatchNorm's branches."""

from typing import Literal

Branch = Literal["main", "adversarial"]
