"""SimSiam with hard views on small pictures, in minutes on two CPU cores.

command   torchx run -s local_cwd jobs/pretrain.py
hardware  2 CPU cores
time      about 2 minutes
expected  benchmarks/demo.py prints it
"""

from hardviews.methods.simclr import SimCLRConfig
from hardviews.models.backbones import Backbone
from hardviews.optim.optimizer import Optimizer
from hardviews.optim.schedule import Schedule
from hardviews.recipes.recipe import Recipe, Training
from hardviews.strategies.hard_views import HardViews
from hardviews.views.augmentation import Augmentation, Jitter


def digits() -> Recipe:
    """SimCLR with HVS (N=4) and a small ResNet on 32-pixel pictures of digits, which must not be flipped."""
    view = Augmentation(
        size=32,
        scale=(0.5, 1.0),
        flip=0.0,
        jitter=Jitter(0.4, 0.4, 0.0, 0.0),
        grayscale=0.0,
        blur=0.0,
    )
    return Recipe(
        "digits",
        SimCLRConfig(hidden=256, output=64, temperature=0.2, view=view),
        Backbone("resnet10t"),
        HardViews(4),
        Training(epochs=30, batch=256, checkpoint_steps=50, log_steps=5),
        Optimizer(learning_rate=0.06, weight_decay=5e-4),
        Schedule(warmup=0.05),
    )
