"""Published values, each with its source: recipes are compared with these lines.

Each line names a value of the resolved recipe (`resolved.py`): learning rates as they are at the recipe's
batch, warm-ups in epochs, views as they are drawn. Sources: a repository means the defaults or the script that its
README names for that model; (paper) means the publication.
"""

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Published:
    """Values and their sources."""

    source: str
    values: dict[str, Any]

    def but(self, source: str | None = None, **values: Any) -> "Published":
        """Return the same with other values."""
        return replace(self, source=source or self.source, values=self.values | values)


# A view: number, size, scale, (brightness, contrast, saturation, hue, p), grayscale, blur, solarise, interpolation.
AUG_PLUS = ((0.4, 0.4, 0.4, 0.1, 0.8), 0.2, 0.5, 0.0, "bilinear")
STRONG = ((0.8, 0.8, 0.8, 0.2, 0.8), 0.2, 0.5, 0.0, "bilinear")

SIMSIAM = Published(
    "facebookresearch/simsiam, main_simsiam.py and builder.py; paper, section 4.2 and appendix A",
    {
        "backbone": "resnet50",
        "views": [(2, 224, (0.2, 1.0), *AUG_PLUS)],
        "sigma": (0.1, 2.0),
        "optimizer": "momentum",
        "sgd_momentum": 0.9,
        "weight_decay": 1e-4,
        "final_weight_decay": 1e-4,
        "decay_biases": True,
        "clip": 0.0,
        "batch": 512,
        "rate": 0.1,
        "start_rate": 0.0,
        "final_rate": 0.0,
        "warmup_epochs": 0.0,
        "per": "epoch",
        "candidates": None,
        "width": 2048,
        "layers": 3,
        "bottleneck": 512,
        "fixed_rate": ["predictor"],
    },
)
SIMSIAM_HVS = SIMSIAM.but(
    "automl/hvp, main: configs and run names (ep100-bs256-select_cross-ncrops4-lr0.05-wd0.0001-mom0.9)",
    batch=256,
    rate=0.05,
    candidates=4,
)

SIMCLR = Published(
    "google-research/simclr, README (batch 4096, rate 0.3, wd 1e-6, temperature 0.1), data_util.py (bicubic); paper, "
    "2.2 and appendix B",
    {
        "backbone": "resnet50",
        "views": [(2, 224, (0.08, 1.0), *STRONG[:-1], "bicubic")],
        "sigma": (0.1, 2.0),
        "optimizer": "lars_simclr",
        "sgd_momentum": 0.9,
        "weight_decay": 1e-6,
        "final_weight_decay": 1e-6,
        "decay_biases": False,
        "clip": 0.0,
        "batch": 4096,
        "rate": 4.8,
        "start_rate": 0.0,
        "final_rate": 0.0,
        "warmup_epochs": 10.0,
        "per": "step",
        "candidates": None,
        "hidden": 2048,
        "layers": 2,
        "output": 128,
        "temperature": 0.1,
        "fixed_rate": [],
    },
)

DINO_COLOURS = ((0.4, 0.4, 0.2, 0.1, 0.8), 0.2)
FIRST = (*DINO_COLOURS, 1.0, 0.0, "bicubic")
SECOND = (*DINO_COLOURS, 0.1, 0.2, "bicubic")
LOCAL = (*DINO_COLOURS, 0.5, 0.0, "bicubic")

BYOL = Published(
    "deepmind-research/byol, configs/byol.py (presets) and utils/; paper, section 3.3 and appendix B",
    {
        "backbone": "resnet50",
        "views": [(1, 224, (0.08, 1.0), *FIRST), (1, 224, (0.08, 1.0), *SECOND)],
        "sigma": (0.1, 2.0),
        "optimizer": "lars_byol",
        "sgd_momentum": 0.9,
        "decay_biases": False,
        "clip": 0.0,
        "batch": 4096,
        "start_rate": 0.0,
        "final_rate": 0.0,
        "warmup_epochs": 10.0,
        "per": "step",
        "candidates": None,
        "hidden": 4096,
        "output": 256,
        "fixed_rate": [],
    },
)
BYOL_300 = BYOL.but(epochs=300, rate=4.8, weight_decay=1e-6, final_weight_decay=1e-6, momentum=0.99)
BYOL_1000 = BYOL.but(epochs=1000, rate=3.2, weight_decay=1.5e-6, final_weight_decay=1.5e-6, momentum=0.996)

VICREG = Published(
    "facebookresearch/vicreg, main_vicreg.py (defaults, Projector, adjust_learning_rate) and augmentations.py; README "
    "for epochs, batches and rates; paper, section 4.2 and appendix C",
    {
        "backbone": "resnet50",
        "zero_residual": True,
        "views": [(1, 224, (0.08, 1.0), *FIRST), (1, 224, (0.08, 1.0), *SECOND)],
        "sigma": (0.1, 2.0),
        "optimizer": "lars_byol",
        "sgd_momentum": 0.9,
        "weight_decay": 1e-6,
        "final_weight_decay": 1e-6,
        "decay_biases": False,
        "clip": 0.0,
        "start_rate": 0.0,
        "warmup_epochs": 10.0,
        "per": "step",
        "candidates": None,
        "width": 8192,
        "layers": 3,
        "invariance": 25.0,
        "variance": 25.0,
        "covariance": 1.0,
        "fixed_rate": [],
    },
)
VICREG_100 = VICREG.but(epochs=100, batch=512, rate=0.6, bias_rate=0.6, final_rate=0.0006)
VICREG_1000 = VICREG.but(epochs=1000, batch=2048, rate=1.6, bias_rate=1.6, final_rate=0.0016)

BARLOWTWINS = Published(
    "facebookresearch/barlowtwins, main.py (defaults, BarlowTwins, LARS, adjust_learning_rate, Transform); paper, "
    "section 2.2",
    {
        "backbone": "resnet50",
        "zero_residual": True,
        "views": [(1, 224, (0.08, 1.0), *FIRST), (1, 224, (0.08, 1.0), *SECOND)],
        "sigma": (0.1, 2.0),
        "optimizer": "lars_byol",
        "sgd_momentum": 0.9,
        "weight_decay": 1e-6,
        "final_weight_decay": 1e-6,
        "decay_biases": False,
        "clip": 0.0,
        "batch": 2048,
        "rate": 1.6,
        "bias_rate": 0.0384,
        "start_rate": 0.0,
        "final_rate": 0.0016,
        "warmup_epochs": 10.0,
        "per": "step",
        "candidates": None,
        "width": 8192,
        "layers": 3,
        "redundancy": 0.0051,
        "fixed_rate": [],
    },
)

SWAV = Published(
    "facebookresearch/swav, scripts/swav_*ep_pretrain.sh and main_swav.py",
    {
        "backbone": "resnet50",
        "zero_residual": False,
        "views": [(2, 224, (0.14, 1.0), *STRONG), (6, 96, (0.05, 0.14), *STRONG)],
        "sigma": (0.1, 2.0),
        "optimizer": "lars",
        "sgd_momentum": 0.9,
        "weight_decay": 1e-6,
        "final_weight_decay": 1e-6,
        "decay_biases": True,
        "clip": 0.0,
        "batch": 4096,
        "rate": 4.8,
        "start_rate": 0.3,
        "final_rate": 0.0048,
        "warmup_epochs": 10.0,
        "per": "step",
        "candidates": None,
        "hidden": 2048,
        "output": 128,
        "prototypes": 3000,
        "temperature": 0.1,
        "epsilon": 0.05,
        "iterations": 3,
        "queue": 0,
        "freeze": 313,
        "fixed_rate": [],
    },
)
SWAV_2X224 = SWAV.but(
    "facebookresearch/swav, scripts/swav_400ep_2x224_pretrain.sh", views=[(2, 224, (0.08, 1.0), *STRONG)]
)
SWAV_BS256 = SWAV.but(
    "facebookresearch/swav, scripts/swav_*ep_bs256_pretrain.sh",
    batch=256,
    rate=0.6,
    start_rate=0.0,
    final_rate=0.0006,
    warmup_epochs=0.0,
    queue=3840,
    queue_from=15,
    freeze=5005,
)

DINO = Published(
    "facebookresearch/dino, README (vanilla run) and the defaults of main_dino.py",
    {
        "backbone": "vit_small_patch16_224",
        "drop_path": 0.1,
        "views": [(1, 224, (0.4, 1.0), *FIRST), (1, 224, (0.4, 1.0), *SECOND), (8, 96, (0.05, 0.4), *LOCAL)],
        "sigma": (0.1, 2.0),
        "optimizer": "adamw",
        "weight_decay": 0.04,
        "final_weight_decay": 0.4,
        "decay_biases": False,
        "clip": 3.0,
        "clip_per": "weight",
        "batch": 512,
        "rate": 1e-3,
        "start_rate": 0.0,
        "final_rate": 1e-6,
        "warmup_epochs": 10.0,
        "per": "step",
        "candidates": None,
        "hidden": 2048,
        "layers": 3,
        "bottleneck": 256,
        "outputs": 65536,
        "norm_last_layer": True,
        "batchnorm": False,
        "freeze": 1,
        "student_temperature": 0.1,
        "teacher_temperature": 0.04,
        "first_teacher_temperature": 0.04,
        "momentum": 0.996,
        "centre_momentum": 0.9,
        "fixed_rate": [],
    },
)
LARGER_CROPS = [(1, 224, (0.25, 1.0), *FIRST), (1, 224, (0.25, 1.0), *SECOND), (10, 96, (0.05, 0.25), *LOCAL)]
DINO_BOOSTED = DINO.but(
    "facebookresearch/dino, README (boosted run, 2 nodes of 8 GPUs)",
    batch=1024,
    rate=2e-3,
    norm_last_layer=False,
    teacher_temperature=0.07,
    warm_up=30,
)
DINO_800 = DINO_BOOSTED.but(
    "facebookresearch/dino, args of the released ViT-S/16; automl/hvp, dino-wds, has the same",
    epochs=800,
    views=LARGER_CROPS,
    clip=0.0,
    final_rate=1e-5,
)
DINO_BASE = DINO_800.but(
    "facebookresearch/dino, args of the released ViT-B/16",
    backbone="vit_base_patch16_224",
    epochs=400,
    clip=0.3,
    rate=3e-3,
    final_rate=2e-6,
    norm_last_layer=True,
    warm_up=50,
    freeze=3,
)
DINO_HVS = DINO.but(
    "automl/hvp, dino (ncrops4, bs512; gradients cut together)", clip_per="all", candidates=4, local_candidates=None
)

IBOT = DINO.but(
    "bytedance/ibot, README (800 epochs, 16 GPUs of 64) and the defaults of main_ibot.py",
    views=LARGER_CROPS,
    batch=1024,
    rate=2e-3,
    outputs=8192,
    norm_last_layer=False,
    teacher_temperature=0.07,
    warm_up=30,
    patch_temperature=0.07,
    first_patch_temperature=0.04,
    shared_head=True,
    class_weight=1.0,
    patch_weight=1.0,
    masked=(0.5, (0.1, 0.5)),
)
IBOT_100 = IBOT.but(
    "bytedance/ibot, the defaults of main_ibot.py (128 a GPU; four of them in automl/hvp, ibot)",
    views=[(1, 224, (0.14, 1.0), *FIRST), (1, 224, (0.14, 1.0), *SECOND)],
    batch=512,
    rate=1e-3,
    norm_last_layer=True,
    shared_head=False,
    shared_head_teacher=True,
    teacher_temperature=0.04,
    masked=(1.0, (0.3, 0.3)),
)

MOCO = Published(
    "facebookresearch/moco, main_moco.py with --mlp --moco-t 0.2 --aug-plus --cos; README",
    {
        "backbone": "resnet50",
        "zero_residual": False,
        "views": [(2, 224, (0.2, 1.0), *AUG_PLUS)],
        "sigma": (0.1, 2.0),
        "optimizer": "momentum",
        "sgd_momentum": 0.9,
        "weight_decay": 1e-4,
        "final_weight_decay": 1e-4,
        "decay_biases": True,
        "clip": 0.0,
        "batch": 256,
        "group": 32,
        "rate": 0.03,
        "start_rate": 0.0,
        "final_rate": 0.0,
        "warmup_epochs": 0.0,
        "per": "epoch",
        "candidates": None,
        "hidden": 2048,
        "output": 128,
        "queue": 65536,
        "momentum": 0.999,
        "temperature": 0.2,
        "batchnorm": "group",
        "symmetric": False,
        "fixed_rate": [],
    },
)
# Values that HEXA's publication leaves open are not compared; those of its base are.
HEXA = {"attack": (2 / 255, 1, "adversarial"), "parts": ["Clean", "Adversarial", "CutMix"]}
CHEAP = {"attack": (2 / 255, 1, "main"), "parts": ["Clean", "Adversarial", "CutMix"]}
TURNS = {"attack": (2 / 255, 1, "main"), "parts": ["Clean", "InTurn"]}

_LABELS = {
    "share": True,
    "0.weight": 1.0,
    "1.weight": 1.0,
    "1.begin": 0,
    "1.ramp": 0.0,
    "1.classes": 1000,
    "1.smoothing": 0.0,
}


def _with_labels(base: Published, names: tuple[str, ...]) -> Published:
    """Return a base's values, with the named settings of its method as those of the first part of a sum."""
    values = {f"0.{name}" if name in names else name: value for name, value in base.values.items()}
    return replace(base, source=f"as the base: {base.source}; ours: the label's part", values=values | _LABELS)


JOINT_SIMCLR = _with_labels(SIMCLR, ("hidden", "layers", "output", "temperature"))
JOINT_MOCO = _with_labels(
    MOCO, ("hidden", "output", "queue", "momentum", "temperature", "batchnorm", "symmetric", "mixed_labels")
)

DEEPCLUSTER = Published(
    "facebookresearch/swav, scripts/deepclusterv2_*_pretrain.sh and main_deepclusterv2.py",
    {
        "backbone": "resnet50",
        "zero_residual": False,
        "views": [(2, 224, (0.14, 1.0), *STRONG), (6, 96, (0.05, 0.14), *STRONG)],
        "sigma": (0.1, 2.0),
        "optimizer": "lars",
        "sgd_momentum": 0.9,
        "weight_decay": 1e-6,
        "final_weight_decay": 1e-6,
        "decay_biases": True,
        "clip": 0.0,
        "batch": 4096,
        "rate": 4.8,
        "start_rate": 0.3,
        "final_rate": 0.0048,
        "warmup_epochs": 10.0,
        "per": "step",
        "candidates": None,
        "hidden": 2048,
        "output": 128,
        "heads": 3,
        "clusters": 3000,
        "iterations": 10,
        "temperature": 0.1,
        "fixed_rate": [],
    },
)
DEEPCLUSTER_400 = DEEPCLUSTER.but(
    "facebookresearch/swav, scripts/deepclusterv2_400ep_pretrain.sh",
    epochs=400,
    views=[(2, 160, (0.08, 1.0), *STRONG), (4, 96, (0.05, 0.14), *STRONG)],
)
DEEPCLUSTER_2X224 = DEEPCLUSTER.but(
    "facebookresearch/swav, scripts/deepclusterv2_400ep_2x224_pretrain.sh",
    epochs=400,
    views=[(2, 224, (0.08, 1.0), *STRONG)],
)

PLAIN = ((0, 0, 0, 0, 0), 0, 0, 0.0, "bilinear")
SUPERVISED = Published(
    "Goyal et al. 2017 (arXiv 1706.02677), sections 5.1 and 5.2",
    {
        "backbone": "resnet50",
        "views": [(1, 224, (0.08, 1.0), *PLAIN)],
        "optimizer": "sgd",
        "sgd_momentum": 0.9,
        "weight_decay": 1e-4,
        "final_weight_decay": 1e-4,
        "decay_biases": True,
        "clip": 0.0,
        "batch": 256,
        "rate": 0.1,
        "start_rate": 0.0,
        "warmup_epochs": 5.0,
        "per": "epoch",
        "drops": [30, 60, 80],
        "final_rate": 1e-4,
        "candidates": None,
        "classes": 1000,
        "smoothing": 0.0,
    },
)
CUTMIX = SUPERVISED.but(
    "clovaai/CutMix-PyTorch, README (--epochs 300 --lr 0.1 --beta 1.0 --cutmix_prob 1.0) and train.py",
    epochs=300,
    warmup_epochs=0.0,
    drops=[75, 150, 225],
)

FINETUNE = Published(
    "Chen et al. 2020 (SimCLR), appendix B.5",
    {
        "backbone": "resnet50",
        "views": [(1, 224, (0.08, 1.0), *PLAIN)],
        "optimizer": "sgd",
        "sgd_momentum": 0.9,
        "weight_decay": 0.0,
        "clip": 0.0,
        "batch": 4096,
        "rate": 0.8,
        "head_rate": 0.8,
        "final_rate": 0.0,
        "warmup_epochs": 0.0,
        "drops": [],
        "candidates": None,
        "smoothing": 0.0,
    },
)
FINETUNE_SWAV = FINETUNE.but(
    "facebookresearch/swav, README and eval_semisup.py",
    optimizer="momentum",
    batch=256,
    epochs=20,
    drops=[12, 16],
    per="epoch",
)

PUBLISHED: dict[str, Published] = {
    "finetune_simclr_r50_60": FINETUNE.but(epochs=60),
    "finetune_simclr_r50_30": FINETUNE.but(epochs=30),
    "finetune_swav_r50_20_1pct": FINETUNE_SWAV.but(rate=0.02, head_rate=5.0, final_rate=0.02 * 0.04),
    "finetune_swav_r50_20_10pct": FINETUNE_SWAV.but(rate=0.01, head_rate=0.2, final_rate=0.01 * 0.04),
    "finetune_byol_r50_50": FINETUNE.but(
        "Grill et al. 2020, appendix C", batch=1024, epochs=50, rate=0.02, head_rate=0.02
    ),
    "finetune_hexa_r50_20": FINETUNE_SWAV.but(
        "Li et al. (arXiv 2012.13493): epochs", rate=0.01, head_rate=0.2, final_rate=0.01 * 0.04
    ),
    "finetune_dino_vits16_200": Published(
        "Zhou et al. 2022 (arXiv 2111.07832), fine-tuning of ViT-S/16",
        {
            "backbone": "vit_small_patch16_224",
            "drop_path": 0.1,
            "optimizer": "adamw",
            "weight_decay": 0.05,
            "decay_biases": False,
            "layer_decay": 0.75,
            "batch": 1024,
            "epochs": 200,
            "rate": 1e-3,
            "start_rate": 0.0,
            "final_rate": 1e-6,
            "warmup_epochs": 20.0,
            "smoothing": 0.1,
            "mixtures": {"MixUp": 0.8, "CutMix": 1.0},
        },
    ),
    "finetune_mae_vitb16_100": Published(
        "facebookresearch/mae, FINETUNE.md",
        {
            "backbone": "vit_base_patch16_224",
            "drop_path": 0.1,
            "optimizer": "adamw",
            "weight_decay": 0.05,
            "decay_biases": False,
            "layer_decay": 0.65,
            "batch": 1024,
            "epochs": 100,
            "rate": 2e-3,
            "start_rate": 0.0,
            "final_rate": 1e-6,
            "warmup_epochs": 5.0,
            "smoothing": 0.1,
            "mixtures": {"MixUp": 0.8, "CutMix": 1.0},
        },
    ),
    "supervised_r50_90": SUPERVISED.but(epochs=90),
    "supervised_r50_300": CUTMIX.but(strategy=["Clean"]),
    "supervised_r50_300_cutmix": CUTMIX.but(strategy=["CutMix"]),
    "supervised_r50_90_hvs": SUPERVISED.but(
        "as without hard views; larger crops", epochs=90, candidates=4, views=[(1, 224, (0.25, 1.0), *PLAIN)]
    ),
    "supervised_r50_90_advprop": SUPERVISED.but(
        epochs=90, attack=(4 / 255, 1, "adversarial"), parts=["Clean", "Adversarial"]
    ),
    "joint_simclr_r50_100": JOINT_SIMCLR.but(epochs=100),
    "joint_simclr_r50_100_hvs": JOINT_SIMCLR.but(
        epochs=100, weight_decay=1e-4, final_weight_decay=1e-4, final_rate=1e-6, candidates=4
    ),
    "joint_moco_hexa_r50_200": JOINT_MOCO.but(epochs=200, **HEXA),
    "simsiam_r50_100": SIMSIAM.but(epochs=100),
    "simsiam_r50_200": SIMSIAM.but(epochs=200),
    "simsiam_r50_100_hvs": SIMSIAM_HVS.but(epochs=100),
    "simsiam_r50_200_hvs": SIMSIAM_HVS.but(epochs=200),
    "simclr_r50_100": SIMCLR.but(epochs=100),
    "simclr_r50_1000": SIMCLR.but(epochs=1000),
    "simclr_r50_100_hvs": SIMCLR.but(
        "automl/hvp, simclr", epochs=100, weight_decay=1e-4, final_weight_decay=1e-4, final_rate=1e-6, candidates=4
    ),
    "simclr_r50_1000_hvs": SIMCLR.but(
        "as for 100 epochs", epochs=1000, weight_decay=1e-4, final_weight_decay=1e-4, final_rate=1e-6, candidates=4
    ),
    "byol_r50_300": BYOL_300,
    "byol_r50_1000": BYOL_1000,
    "byol_r50_300_hvs": BYOL_300.but(candidates=4),
    "byol_r50_1000_hvs": BYOL_1000.but(candidates=4),
    "swav_r50_100": SWAV.but(epochs=100),
    "swav_r50_200": SWAV.but(epochs=200),
    "swav_r50_400": SWAV.but(epochs=400),
    "swav_r50_800": SWAV.but(epochs=800),
    "vicreg_r50_100": VICREG_100,
    "vicreg_r50_1000": VICREG_1000,
    "vicreg_r50_100_hvs": VICREG_100.but(candidates=4),
    "vicreg_r50_1000_hvs": VICREG_1000.but(candidates=4),
    "barlowtwins_r50_300": BARLOWTWINS.but(epochs=300),
    "barlowtwins_r50_1000": BARLOWTWINS.but(epochs=1000),
    "barlowtwins_r50_300_hvs": BARLOWTWINS.but(epochs=300, candidates=4),
    "barlowtwins_r50_1000_hvs": BARLOWTWINS.but(epochs=1000, candidates=4),
    "swav_r50_400_2x224": SWAV_2X224.but(epochs=400),
    "swav_r50_200_bs256": SWAV_BS256.but(epochs=200),
    "swav_r50_400_bs256": SWAV_BS256.but(epochs=400),
    "swav_r50_100_hvs": SWAV.but(epochs=100, candidates=4),
    "swav_r50_200_hvs": SWAV.but(epochs=200, candidates=4),
    "swav_r50_400_hvs": SWAV.but(epochs=400, candidates=4),
    "swav_r50_800_hvs": SWAV.but(epochs=800, candidates=4),
    "swav_r50_400_2x224_hvs": SWAV_2X224.but(epochs=400, candidates=4),
    "swav_r50_200_bs256_hvs": SWAV_BS256.but(epochs=200, candidates=4),
    "swav_r50_400_bs256_hvs": SWAV_BS256.but(epochs=400, candidates=4),
    "dino_vits16_100": DINO.but(epochs=100),
    "dino_vits16_300": DINO.but(epochs=300),
    "dino_vits16_300_boosted": DINO_BOOSTED.but(epochs=300),
    "dino_vits16_800": DINO_800,
    "dino_vitb16_400": DINO_BASE,
    "dino_vits16_100_hvs": DINO_HVS.but(epochs=100),
    "dino_vits16_300_hvs": DINO_HVS.but(epochs=300),
    "dino_vits16_300_boosted_hvs": DINO_BOOSTED.but(
        "facebookresearch/dino, README (boosted run); automl/hvp, dino", epochs=300, clip_per="all", candidates=4
    ),
    "dino_vits16_800_hvs": DINO_800.but("automl/hvp, dino-wds", candidates=4, local_candidates=16, limit=64),
    "dino_vitb16_400_hvs": DINO_BASE.but(candidates=4),
    "ibot_vits16_100": IBOT_100.but(epochs=100),
    "ibot_vits16_800": IBOT.but(epochs=800),
    "ibot_vits16_100_hvs": IBOT_100.but("automl/hvp, ibot", epochs=100, candidates=4, clip_per="all"),
    "ibot_vits16_800_hvs": IBOT.but(
        "rapanti/ibot, wds: the job of 800 epochs (64 for each of 8 GPUs)",
        epochs=800,
        batch=512,
        rate=1e-3,
        clip_per="all",
        candidates=4,
        local_candidates=20,
        limit=128,
    ),
    "mocov2_r50_200": MOCO.but(epochs=200),
    "mocov2_r50_800": MOCO.but(epochs=800),
    "mocov2_r50_200_hvs": MOCO.but(epochs=200, candidates=4),
    "mocov2_r50_800_hvs": MOCO.but(epochs=800, candidates=4),
    "deepclusterv2_r50_200": DEEPCLUSTER.but(epochs=200),
    "deepclusterv2_r50_400": DEEPCLUSTER_400,
    "deepclusterv2_r50_400_2x224": DEEPCLUSTER_2X224,
    "deepclusterv2_r50_800": DEEPCLUSTER.but(epochs=800),
    "deepclusterv2_r50_200_hvs": DEEPCLUSTER.but(epochs=200, candidates=4),
    "deepclusterv2_r50_400_hvs": DEEPCLUSTER_400.but(candidates=4),
    "deepclusterv2_r50_400_2x224_hvs": DEEPCLUSTER_2X224.but(candidates=4),
    "deepclusterv2_r50_800_hvs": DEEPCLUSTER.but(epochs=800, candidates=4),
    "hexa_moco_r50_200": MOCO.but(epochs=200, **HEXA),
    "hexa_moco_r50_800": MOCO.but(epochs=800, **HEXA),
    "hexa_moco_r50_200_hvs": MOCO.but(epochs=200, candidates=4, **HEXA),
    "hexa_moco_r50_800_hvs": MOCO.but(epochs=800, candidates=4, **HEXA),
    "hexa_moco_r50_200_cheap": MOCO.but(epochs=200, **CHEAP),
    "hexa_moco_r50_800_cheap": MOCO.but(epochs=800, **CHEAP),
    "hexa_moco_r50_200_turns": MOCO.but(epochs=200, **TURNS),
    "hexa_moco_r50_800_turns": MOCO.but(epochs=800, **TURNS),
    "hexa_dcluster_r50_200": DEEPCLUSTER.but(epochs=200, **HEXA),
    "hexa_dcluster_r50_800": DEEPCLUSTER.but(epochs=800, **HEXA),
    "hexa_dcluster_r50_200_hvs": DEEPCLUSTER.but(epochs=200, candidates=4, **HEXA),
    "hexa_dcluster_r50_800_hvs": DEEPCLUSTER.but(epochs=800, candidates=4, **HEXA),
}
