"""A method of a few weights, for optimizers."""

from torch import nn

from hardviews.encoded import Encoded
from hardviews.methods.method import Method
from hardviews.views.plan import Plan


class Tiny(Method):
    """A backbone with a norm, and a predictor whose learning rate stays."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(4, width), nn.LayerNorm(width))
        self.predictor = nn.Linear(width, 4)
        for i, parameter in enumerate(self.parameters()):
            nn.init.constant_(parameter, 0.1 * (i + 1))

    def plan(self) -> Plan:
        raise AssertionError("not asked for a plan")

    def pairs(self):
        raise AssertionError("not asked for pairs")

    def encode(self, batch, online, target) -> Encoded:
        raise AssertionError("not asked to encode")

    def fixed_learning_rate(self):
        return (self.predictor,)
