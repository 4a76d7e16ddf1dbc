"""SimCLR with hard views on handwritten digits: shows that everything runs, in about a minute.

command   torchx run -s local_cwd jobs/pretrain.py
hardware  2 CPU cores, two processes
time      under 2 minutes
expected  k-NN above the untrained encoder by many standard deviations: `python benchmarks/demo.py` prints both

Digits say nothing about hard views: raw pixels do almost as well as any encoder.
"""

from hardviews.methods.simclr import SimCLRConfig
from hardviews.models.backbones import Backbone
from hardviews.optim.optimizer import Optimizer
from hardviews.optim.schedule import Schedule
from hardviews.recipes.recipe import Recipe, Training
from hardviews.strategies.hard_views import HardViews
from hardviews.train.loader import LoaderConfig
from hardviews.train.precision import Precision
from hardviews.views.augmentation import Augmentation, Jitter


def digits() -> Recipe:
    """SimCLR with hard views (N=4) and a very small ResNet on 32-pixel digits, which must not be flipped."""
    view = Augmentation(
        size=32,
        scale=(0.3, 1.0),
        flip=0.0,
        jitter=Jitter(0.4, 0.4, 0.0, 0.0),
        grayscale=0.0,
        blur=0.0,
    )
    return Recipe(
        "digits",
        SimCLRConfig(hidden=128, output=64, temperature=0.2, view=view),
        Backbone("test_resnet"),
        HardViews(4),
        Training(epochs=20, batch=256, checkpoint_steps=20, log_steps=5),
        Optimizer(learning_rate=0.3, weight_decay=1e-4),
        Schedule(warmup=0.05),
        LoaderConfig(workers=0),
        # Two processes on one machine: a GPU each is more than most have, and digits need none.
        Precision(device="cpu"),
    )
