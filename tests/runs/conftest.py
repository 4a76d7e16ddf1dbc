"""Fixtures of trained runs, as the tests of training have them."""

from tests.train.conftest import data, untracked  # noqa: F401
