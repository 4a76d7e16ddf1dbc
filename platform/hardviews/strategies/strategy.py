"""The contract of a strategy: it turns a batch into terms of the objective.

`hardviews.strategies.compose` adds and chains strategies.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import IntEnum

from hardviews.batch import Batch, Term
from hardviews.methods.method import Method
from hardviews.strategies.passes import Passes, trained
from hardviews.strategies.scorer import Scorer
from hardviews.strategies.scout import Scout
from hardviews.views.plan import Plan


class Stage(IntEnum):
    """Kinds of change to views, in the only order that makes sense."""

    SELECT = 0
    MIX = 1
    ATTACK = 2


class Strategy(ABC):
    """Turns a batch into terms; strategies are frozen dataclasses and hold no state (`Scout` is the objective's)."""

    @property
    def stages(self) -> frozenset[Stage]:
        """Return the kinds of change that the strategy makes to views."""
        return frozenset()

    @property
    def adversarial_branch(self) -> bool:
        """Return whether the strategy needs the auxiliary BatchNorm."""
        return False

    @property
    def several(self) -> bool:
        """Return whether a term trains on several views of a slot at once."""
        return False

    @property
    def parts_in_use(self) -> tuple["Strategy", ...]:
        """Return the strategies in this composition, without parts of weight zero; empty for a plain strategy."""
        return ()

    @property
    def hardened_kinds(self) -> frozenset[tuple[str, ...] | None]:
        """Return the kinds of pairs of each mixture and attack in the strategy; None stands for all kinds."""
        return frozenset[tuple[str, ...] | None]().union(*(part.hardened_kinds for part in self.parts_in_use))

    @property
    def reads_clean_gradient(self) -> bool:
        """Return whether the strategy reads the pixel gradient of the clean loss, so that its views must be clean."""
        return any(part.reads_clean_gradient for part in self.parts_in_use)

    def plan(self, plan: Plan) -> Plan:
        """Return the plan with the candidates that the strategy asks for."""
        return plan

    def refuses(self, method: Method) -> str | None:
        """Return why the strategy does not fit a method, and the remedy; None if it fits. Called once, at the start."""
        return None

    def advises(self, method: Method) -> str | None:
        """Return a remark on settings that can train but are probably a mistake; None if there is none."""
        return None

    def refuses_group(self, size: int) -> str | None:
        """Return why groups of `size` samples (`training.group`) do not fit, and the remedy; None if they fit."""
        return None

    def scout(self) -> Scout | None:
        """Return the initial state of a strategy that learns from the losses of a run; parts share the first one."""
        return next((scout for part in self.parts_in_use if (scout := part.scout()) is not None), None)

    def passes(self, method: Method) -> Passes:
        """Return the forward passes of a step, on average over steps.

        Every selection and every control of one counts its own passes. tests/strategies/test_cost.py compares them with
        the real passes.

        Raises:
            TypeError: the strategy is neither.
        """
        raise TypeError(f"The passes of {type(self).__name__} are not counted: it is no selection.")

    @abstractmethod
    def __call__(self, batch: Batch, objective: Scorer) -> list[Term]:
        """Return the terms to train on."""


@dataclass(frozen=True)
class Clean(Strategy):
    """The method as published: its unchanged first views."""

    def passes(self, method: Method) -> Passes:
        """Count the method's own passes."""
        return trained(method, method.plan())

    def __call__(self, batch: Batch, objective: Scorer) -> list[Term]:
        """Return the batch as the only term."""
        return [Term(batch)]
