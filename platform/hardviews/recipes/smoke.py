"""Everything at once, very small: hard views, attacks and cut-mix on photographs, to try out a cluster.

command   torchx run -s kubernetes jobs/pretrain.py --recipe smoke
data      hardviews pack --source photographs (4,442 tiles to train on)
hardware  2 CPU cores, one to three processes
time      about 2 minutes
expected  the run's losses are those of an undisturbed one within 1e-3, whatever was killed on the way:
          `make test-cluster` shows it

Sums depend in their last digits on how many processes share a batch, and training may make large differences of small
ones. Here it does not, for four reasons. Numbers are double precision. Attacks start from noise: where an image is
flat, max-pooling has ties, which the last digit decides, and with them which pixel an attack moves. The learning rate
is below the one at which steps overshoot. And the images have content everywhere. Crops of mostly black images, such as
the digits, are nearly the same image, and hard views prefer them. To separate them multiplies a difference by more than
ten in every step.
"""

from hardviews.methods.simclr import SimCLRConfig
from hardviews.models.backbones import Backbone
from hardviews.optim.optimizer import Optimizer
from hardviews.optim.schedule import Schedule
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.compose import Chain, Sum
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean
from hardviews.train.loader import LoaderConfig
from hardviews.train.precision import Precision
from hardviews.train.recipe import Recipe, Training
from hardviews.views.augmentation import Augmentation


def smoke() -> Recipe:
    """SimCLR on hard views (N=4), each pair also attacked and cut-mixed, on tiles of photographs."""
    view = Augmentation(size=32, scale=(0.3, 1.0), sigma=(0.1, 0.6))
    hexa = Sum(
        (1.0, Clean()),
        (0.5, Adversarial(epsilon=2 / 255, step_size=2 / 255, start="uniform")),
        (0.5, CutMix()),
        average=True,
    )
    return Recipe(
        "smoke",
        SimCLRConfig(hidden=64, output=32, temperature=0.2, view=view),
        Backbone("test_resnet"),
        Chain(HardViews(4), hexa),
        Training(epochs=2, batch=192, checkpoint_steps=3, log_steps=1),
        Optimizer(learning_rate=0.02, weight_decay=1e-4),
        Schedule(warmup=0.05),
        LoaderConfig(workers=0),
        Precision(device="cpu", compute="float64"),
    )
