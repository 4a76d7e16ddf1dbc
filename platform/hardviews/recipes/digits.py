"""Every method with hard views on handwritten digits: shows that everything runs, and that it learns.

command   hardviews pretrain NAME --data SHARDS --output RUN
data      hardviews pack --source digits (1,442 digits to train on)
hardware  2 CPU cores
time      2 to 4 minutes
expected  k-NN well above the untrained encoder: `python benchmarks/learning.py` prints both, over several seeds

Digits say nothing about hard views: raw pixels do almost as well as any encoder.
"""

from dataclasses import replace

from hardviews.recipes.small import Small, with_hexa
from hardviews.train.precision import Precision
from hardviews.train.recipe import Recipe, Training
from hardviews.views.augmentation import Augmentation, Jitter

# Digits must not be flipped, and have no colours.
_VIEW = Augmentation(
    size=32,
    scale=(0.3, 1.0),
    flip=0.0,
    jitter=Jitter(0.4, 0.4, 0.0, 0.0),
    grayscale=0.0,
    blur=0.0,
)
_DIGITS = Small(
    view=_VIEW,
    local=replace(_VIEW, size=16, scale=(0.1, 0.4)),
    patch=8,
    epochs=10,
    batch=64,
    # Two processes on one machine: a GPU each is more than most have, and digits need none.
    precision=Precision(device="cpu"),
)


def digits() -> Recipe:
    """SimCLR with hard views (N=4) and a very small ResNet on 32-pixel digits, which must not be flipped.

    command   torchx run -s local_cwd jobs/pretrain.py
    hardware  2 CPU cores, two processes
    time      under 2 minutes
    expected  k-NN above the untrained encoder by many standard deviations: `python benchmarks/demo.py` prints both
    """
    recipe = _DIGITS.convolutional("digits", _DIGITS.simclr(), 0.3)
    return replace(recipe, training=Training(epochs=20, batch=256, checkpoint_steps=20, log_steps=5))


def digits_simsiam() -> Recipe:
    """SimSiam with hard views (N=4) and a very small ResNet on digits."""
    return _DIGITS.convolutional("digits_simsiam", _DIGITS.simsiam(), 0.2)


def digits_byol() -> Recipe:
    """BYOL with hard views (N=4) and a very small ResNet on digits."""
    return _DIGITS.convolutional("digits_byol", _DIGITS.byol(), 0.2)


def digits_moco() -> Recipe:
    """MoCo-v2 with hard views (N=4) and a very small ResNet on digits."""
    return _DIGITS.convolutional("digits_moco", _DIGITS.moco(), 0.2)


def digits_vicreg() -> Recipe:
    """VICReg with hard views (N=4) and a very small ResNet on digits."""
    return _DIGITS.convolutional("digits_vicreg", _DIGITS.vicreg(), 0.05)


def digits_barlowtwins() -> Recipe:
    """Barlow Twins with hard views (N=4) and a very small ResNet on digits."""
    return replace(_DIGITS, epochs=20).convolutional("digits_barlowtwins", _DIGITS.barlowtwins(), 0.003)


def digits_swav() -> Recipe:
    """SwAV with hard views (N=4) and a very small ResNet on digits."""
    # Sinkhorn deals a batch out to all prototypes: it takes more images than there are of these. With codes as soft as
    # those of ImageNet (0.05) the loss stays at ln K.
    config = replace(_DIGITS.swav(), epsilon=0.02)
    return replace(_DIGITS, epochs=20, batch=128).convolutional("digits_swav", config, 0.2)


def digits_deepcluster() -> Recipe:
    """DeepCluster-v2 with hard views (N=4) and a very small ResNet on digits."""
    return replace(_DIGITS, epochs=20).convolutional("digits_deepcluster", _DIGITS.deepcluster(), 0.4)


def digits_dino() -> Recipe:
    """DINO with hard views (N=4) and a very small ResNet on digits."""
    return _DIGITS.self_distilled("digits_dino", _DIGITS.dino(), 6e-3)


def digits_ibot() -> Recipe:
    """IBOT with hard views (N=4) and a very small transformer on digits."""
    return replace(_DIGITS, epochs=20).transformer("digits_ibot", _DIGITS.ibot(), 1e-3)


def digits_supervised() -> Recipe:
    """Classifier of ten classes, trained by labels on the hardest of four crops, with a very small ResNet on digits.

    expected  a classifier that is right on nearly all digits that it has not seen
    """
    return _DIGITS.convolutional("digits_supervised", _DIGITS.supervised(10), 0.1)


def digits_hexa_moco() -> Recipe:
    """HEXA_MoCo on hard views (N=4) of digits: each also attacked and cut-mixed."""
    return with_hexa(_DIGITS.convolutional("digits_hexa_moco", _DIGITS.moco(), 0.2))


def digits_hexa_dcluster() -> Recipe:
    """HEXA_DCluster on hard views (N=4) of digits: each also attacked and cut-mixed."""
    small = replace(_DIGITS, epochs=20).convolutional("digits_hexa_dcluster", _DIGITS.deepcluster(), 0.4)
    return with_hexa(small)
