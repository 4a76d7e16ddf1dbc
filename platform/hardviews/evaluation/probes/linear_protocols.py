"""The published protocols of linear evaluation, as data: one instance each, with its source."""

from collections.abc import Mapping
from typing import Literal

from hardviews.evaluation.linear_protocol import Crops, LinearProtocol, Reading

Name = Literal["cached", "simsiam", "moco", "swav", "simclr", "byol", "dino", "dinov2", "mae"]


CACHED = LinearProtocol(
    name="cached",
    version=1,
    source="ours: features of the central crop, computed once; no published protocol",
    rates=(0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
    batch=256,
    epochs=100,
    crops=None,
    test="bicubic",
    decays_bias=False,
    per="epoch",
)

SIMSIAM = LinearProtocol(
    name="simsiam",
    version=1,
    source="Chen & He 2021, arXiv 2011.10566; facebookresearch/simsiam main_lincls.py --lars",
    rates=(0.1,),  # 1.6 at 4096; the paper's 0.02 is for its TensorFlow code, the authors say (issue 13)
    batch=4096,
    epochs=90,
    optimizer="larc",
    per="epoch",
)

MOCO = LinearProtocol(
    name="moco",
    version=1,
    source="He et al. 2020, arXiv 1911.05722, section 4.1; facebookresearch/moco main_lincls.py",
    rates=(30.0,),
    scaled=False,
    batch=256,
    epochs=100,
    schedule="milestones",
    milestones=(0.6, 0.8),
    per="epoch",
)

SWAV = LinearProtocol(
    name="swav",
    version=1,
    source="Caron et al. 2020, arXiv 2006.09882, appendix A; facebookresearch/swav eval_linear.py",
    rates=(0.3,),
    scaled=False,
    batch=256,  # 32 on each of 8 GPUs
    epochs=100,
    weight_decays=(1e-6,),
    per="epoch",
)

SIMCLR = LinearProtocol(
    name="simclr",
    version=1,
    source="Chen et al. 2020, arXiv 2002.05709, appendix B.6; google-research/simclr README",
    rates=(0.1,),
    batch=4096,
    epochs=90,
    crops=Crops(interpolation="bicubic"),
    test="bicubic",
    optimizer="nesterov",
    weight_decays=(1e-6,),  # the code's; the paper has none
    partial="joined",
)

BYOL = LinearProtocol(
    name="byol",
    version=1,
    source="Grill et al. 2020, arXiv 2006.07733, appendix C.1; deepmind-research/byol configs/eval.py",
    rates=(0.05, 0.1, 0.2, 0.3, 0.4),  # the paper chose among five on held-out images; the code has 0.2
    batch=1024,
    epochs=80,
    crops=Crops(interpolation="bicubic"),
    test="bicubic",
    optimizer="nesterov",
    first="haiku",
    partial="joined",
)

DINO = LinearProtocol(
    name="dino",
    version=1,
    source="Caron et al. 2021, arXiv 2104.14294, appendix F.2; facebookresearch/dino eval_linear.py",
    rates=(1e-3,),
    batch=1024,  # 128 on each of 8 GPUs
    epochs=100,
    test="bicubic",
    readings=(Reading(4),),  # ViT-S
    wide_readings=(Reading(1, patches=True),),  # ViT-B
    pooled_rates=(0.075,),  # 0.3 at 1024: ResNet-50's log begins so; the script's default gives 30 % (issue 131)
    per="epoch",
)

DINOV2 = LinearProtocol(
    name="dinov2",
    version=1,
    source="Oquab et al. 2023, arXiv 2304.07193, appendix B.3; facebookresearch/dinov2 eval/linear.py",
    rates=(1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1),  # of the code
    batch=1024,  # 128 on each of 8 GPUs; another one changes the result (issue 232)
    epochs=10,
    steps=12_500,  # 10 epochs of 1,250 steps, whatever the number of images
    crops=Crops(interpolation="bicubic"),
    test="bicubic",
    readings=(Reading(1), Reading(1, patches=True), Reading(4), Reading(4, patches=True)),
    partial="joined",
)

MAE = LinearProtocol(
    name="mae",
    version=1,
    source="He et al. 2022, arXiv 2111.06377, appendix A.1; facebookresearch/mae main_linprobe.py",
    rates=(0.1,),  # 6.4 at 16384
    batch=16_384,
    epochs=90,
    crops=Crops(interpolation="bicubic"),
    test="bicubic",
    readings=(Reading(1),),
    optimizer="lars",
    warmup=10 / 90,
    batchnorm=True,
    partial="dropped",
)

PROTOCOLS: Mapping[str, LinearProtocol] = {
    protocol.name: protocol for protocol in (CACHED, SIMSIAM, MOCO, SWAV, SIMCLR, BYOL, DINO, DINOV2, MAE)
}
"""By name: the one place where `--protocol` looks."""
