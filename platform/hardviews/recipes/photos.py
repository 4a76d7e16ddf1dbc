"""SimCLR with hard views on a small collection of photographs, on CPU or one GPU.

command   hardviews pretrain photos --data SHARDS --output RUN
hardware  2 CPU cores
time      about a minute for 1,000 images and 10 epochs (shown as ETA)
expected  depends on the images; `hardviews knn --run RUN --data SHARDS --baselines` shows it beside raw pixels

The augmentation is MoCo-v2's at 64 pixels; the crops are milder than ImageNet's, since small collections show whole
objects.
"""

from hardviews.methods.simclr import SimCLRConfig
from hardviews.models.backbones import Backbone
from hardviews.optim.optimizer import Optimizer
from hardviews.optim.schedule import Schedule
from hardviews.recipes.recipe import Recipe, Training
from hardviews.strategies.hard_views import HardViews
from hardviews.train.loader import LoaderConfig
from hardviews.views.augmentation import Augmentation


def photos() -> Recipe:
    """SimCLR with hard views (N=4) and a small ResNet on 64-pixel views of photographs."""
    view = Augmentation(size=64, scale=(0.3, 1.0), sigma=(0.1, 0.6))
    return Recipe(
        "photos",
        SimCLRConfig(hidden=256, output=64, temperature=0.2, view=view),
        Backbone("test_resnet"),
        HardViews(4),
        Training(epochs=20, batch=128, checkpoint_steps=50, log_steps=5),
        Optimizer(learning_rate=0.3, weight_decay=1e-4),
        Schedule(warmup=0.05),
        LoaderConfig(workers=0),
    )
