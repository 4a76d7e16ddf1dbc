"""Every method with hard views on a small collection of photographs, on CPU or one GPU.

command   hardviews pretrain NAME --data SHARDS --output RUN
hardware  2 CPU cores
time      about a minute for 10,000 images in all, as 1,000 images and 10 epochs (shown as ETA)
expected  depends on the images; `hardviews knn --run RUN --data SHARDS` shows it beside raw pixels

Views are of 64 pixels. The augmentation is MoCo-v2's for every method; the crops are milder than ImageNet's, since
small collections show whole objects. Heads, queues and tables are small, and momentum encoders quick: runs are
short (`recipes/small.py`). With two candidates a recipe trains on random views: `--strategy.candidates 2`, in HEXA's
`--strategy.links.0.candidates 2`.
"""

from dataclasses import replace

from hardviews.recipes.small import Small, with_hexa
from hardviews.train.recipe import Recipe
from hardviews.views.augmentation import Augmentation

_PHOTOS = Small(
    view=Augmentation(size=64, scale=(0.3, 1.0), sigma=(0.1, 0.6)),
    local=Augmentation(size=32, scale=(0.1, 0.3), sigma=(0.1, 0.6)),
    patch=8,
    epochs=10,
    batch=128,
)


def photos() -> Recipe:
    """SimCLR with hard views (N=4) and a small ResNet on 64-pixel views of photographs."""
    return replace(_PHOTOS, epochs=20).convolutional("photos", replace(_PHOTOS.simclr(), hidden=256), 0.3)


def photos_simsiam() -> Recipe:
    """SimSiam with hard views (N=4) and a small ResNet on photographs."""
    return _PHOTOS.convolutional("photos_simsiam", _PHOTOS.simsiam(), 0.1)


def photos_byol() -> Recipe:
    """BYOL with hard views (N=4) and a small ResNet on photographs."""
    return _PHOTOS.convolutional("photos_byol", _PHOTOS.byol(), 0.1)


def photos_moco() -> Recipe:
    """MoCo-v2 with hard views (N=4) and a small ResNet on photographs."""
    return _PHOTOS.convolutional("photos_moco", _PHOTOS.moco(), 0.1)


def photos_vicreg() -> Recipe:
    """VICReg with hard views (N=4) and a small ResNet on photographs."""
    return _PHOTOS.convolutional("photos_vicreg", _PHOTOS.vicreg(), 0.05)


def photos_barlowtwins() -> Recipe:
    """Barlow Twins with hard views (N=4) and a small ResNet on photographs."""
    return _PHOTOS.convolutional("photos_barlowtwins", _PHOTOS.barlowtwins(), 0.003)


def photos_supervised() -> Recipe:
    """Classifier of photographs, trained by labels on the hardest of four crops, with a small ResNet.

    open      the number of classes: `--method.classes`; more than the data has do no harm
    """
    return _PHOTOS.convolutional("photos_supervised", _PHOTOS.supervised(1000), 0.1)


def photos_swav() -> Recipe:
    """SwAV with hard views (N=4) and a small ResNet on photographs."""
    return _PHOTOS.convolutional("photos_swav", _PHOTOS.swav(), 0.2)


def photos_deepcluster() -> Recipe:
    """DeepCluster-v2 with hard views (N=4) and a small ResNet on photographs."""
    return _PHOTOS.convolutional("photos_deepcluster", _PHOTOS.deepcluster(), 0.2)


def photos_dino() -> Recipe:
    """DINO with hard views (N=4) and a small ResNet on photographs."""
    return _PHOTOS.self_distilled("photos_dino", _PHOTOS.dino(), 3e-3)


def photos_ibot() -> Recipe:
    """IBOT with hard views (N=4) and a small transformer on photographs."""
    return _PHOTOS.transformer("photos_ibot", _PHOTOS.ibot(), 1e-3)


def photos_hexa_moco() -> Recipe:
    """HEXA_MoCo on hard views (N=4): each also attacked and cut-mixed, with a small ResNet on photographs."""
    return with_hexa(_PHOTOS.convolutional("photos_hexa_moco", _PHOTOS.moco(), 0.1))


def photos_hexa_dcluster() -> Recipe:
    """HEXA_DCluster on hard views (N=4): each also attacked and cut-mixed, with a small ResNet on photographs."""
    return with_hexa(_PHOTOS.convolutional("photos_hexa_dcluster", _PHOTOS.deepcluster(), 0.2))
