"""How other codes name the weights of an encoder in their files.

Names are written without `module.`, which DataParallel puts before them. The facts come from the codes that are named
beside each layout. `hvp` and `wrapped` have names that other layouts have too.
"""

from dataclasses import dataclass
from typing import Literal

from hardviews.views.augmentation import Normalisation

Name = Literal[
    "torchvision",
    "timm",
    "vissl",
    "moco",
    "pycontrast",
    "mmselfsup",
    "swav",
    "dino",
    "ibot",
    "simsiam",
    "hvp",
    "wrapped",
]


_IMAGENET = Normalisation()


@dataclass(frozen=True)
class Place:
    """The place of an encoder in a file.

    Attributes:
        part: word by which `--part` names it.
        entry: path to its state dict.
        prefix: prefix of the names of its weights there.
    """

    part: str
    entry: tuple[str, ...]
    prefix: str


@dataclass(frozen=True)
class Layout:
    """The form of one code's files.

    Attributes:
        name: as `--layout` takes it.
        places: places of encoders; the first one that is there is taken.
        heads: pairs of a regular expression and its meaning, for weights in the same state dict that are no encoder's.
        sign: regular expression of a name that only this layout has. A name has its entry before it.
        normalisation: normalisation of the pixels in that code's pretraining.
    """

    name: Name
    places: tuple[Place, ...]
    heads: tuple[tuple[str, str], ...] = ()
    sign: str = ""
    normalisation: Normalisation = _IMAGENET


_CLASSIFIER = (r"(fc|head|heads|head_dist|classifier|last_linear|linear)\.", "classifier")
_PROJECTION = "projection head"
_MOMENTUM = "momentum copy"
_QUEUE = (r"queue(_ptr|\d*)?$", "queue of keys")
_MASK = (r"(backbone\.)?(masked_embed|mask_token)$", "embedding of masked patches")
_DISTILLED = tuple(Place(part, (part,), "backbone.") for part in ("teacher", "student"))
_PLAIN = (*(Place("model", entry, "") for entry in ((), ("state_dict",), ("model",), ("model_state_dict",))),)
_BACKBONES = tuple(Place("backbone", entry, "") for entry in ((), ("state_dict",)))

LAYOUTS: tuple[Layout, ...] = (
    # facebookresearch/vissl, vissl/utils/checkpoint.py
    Layout(
        "vissl",
        (Place("trunk", ("classy_state_dict", "base_model", "model", "trunk"), "_feature_blocks."),),
        sign=r"classy_state_dict\.",
    ),
    # bytedance/ibot, main_ibot.py
    Layout(
        "ibot",
        (*_DISTILLED, *_BACKBONES),
        ((r"head\.", _PROJECTION), _MASK),
        sign=r"((student|teacher)\.(backbone\.masked_embed|head\.(last_layer|mlp)2)|ibot_loss|(state_dict\.)?masked_embed$)",
    ),
    # facebookresearch/dino, main_dino.py
    Layout("dino", (*_DISTILLED, *_BACKBONES), ((r"head\.", _PROJECTION),), sign=r"(student|teacher)\.backbone\."),
    # facebookresearch/moco, salesforce/PCL: encoder_q; facebookresearch/moco-v3: base_encoder
    Layout(
        "moco",
        tuple(
            Place(name, ("state_dict",), f"{name}.")
            for name in ("encoder_q", "base_encoder", "encoder_k", "momentum_encoder")
        ),
        (
            (r"(encoder_[qk]|base_encoder|momentum_encoder)\.(fc|head)\.", _PROJECTION),
            (r"predictor\.", "predictor"),
            _QUEUE,
        ),
        sign=r"state_dict\.(encoder_q|base_encoder)\.(?!\d)",
    ),
    # facebookresearch/swav, src/resnet50.py; pixels as in src/multicropdataset.py
    Layout(
        "swav",
        (Place("model", (), ""), Place("model", ("state_dict",), "")),
        ((r"projection_head\.", _PROJECTION), (r"prototypes\.", "prototypes")),
        sign=r"(state_dict\.)?(projection_head|prototypes)\.",
        normalisation=Normalisation(std=(0.228, 0.224, 0.225)),
    ),
    # facebookresearch/simsiam, simsiam/builder.py
    Layout(
        "simsiam",
        (Place("encoder", ("state_dict",), "encoder."),),
        ((r"encoder\.fc\.", _PROJECTION), (r"predictor\.", "predictor")),
        sign=r"state_dict\.encoder\.(?!\d|layers)",
    ),
    # HobbitLong/PyContrast, pycontrast/networks/build_backbone.py
    Layout(
        "pycontrast",
        tuple(Place(name, ("model",), f"{name}.") for name in ("encoder", "encoder1", "encoder2")),
        ((r"head\d?(_jig)?\.", _PROJECTION),),
        sign=r"model\.encoder[12]?\.(?!layers)",
    ),
    # open-mmlab/mmselfsup, mmselfsup/models
    Layout(
        "mmselfsup",
        (Place("backbone", ("state_dict",), "backbone."), Place("backbone", (), "backbone.")),
        (
            (r"(neck|head|prediction|predictor)\w*\.", _PROJECTION),
            (r"(encoder_q|encoder|online_net)\.", "second name of the encoder, and its head"),
            (r"(encoder_k|target_net|momentum_encoder|target_generator)\.", _MOMENTUM),
            (r"(memory_bank|data_preprocessor|target_preprocessor)\b", "memory bank and preprocessing"),
            _QUEUE,
        ),
        sign=r"(state_dict\.)?backbone\.",
    ),
    Layout("torchvision", _PLAIN, (_CLASSIFIER,), sign=r"([\w.]+\.)?(conv1\.weight|class_token)$"),
    Layout("timm", (*_PLAIN, Place("ema", ("state_dict_ema",), "")), (_CLASSIFIER, _MASK), sign="."),
    # facebookresearch/barlowtwins, facebookresearch/vicreg and Lightning modules
    Layout(
        "wrapped",
        tuple(
            Place("model", entry, prefix)
            for entry in ((), ("state_dict",), ("model",))
            for prefix in ("backbone.", "encoder.", "model.")
        ),
        ((r"(\w*head|projector|predictor|bn|(backbone|encoder|model)\.(fc|head))\.", _PROJECTION), _QUEUE),
        sign=".",
    ),
    # automl/hvp: its branches have the names of SimSiam, and of DINO and iBOT
    Layout(
        "hvp",
        (
            *_DISTILLED,
            Place("encoder", ("state_dict",), "encoder."),
            Place("backbone", ("state_dict",), "backbone."),
        ),
        (
            (r"(encoder|backbone)\.fc\.", _PROJECTION),
            (r"(head|projector)\.", _PROJECTION),
            (r"predictor\.", "predictor"),
            _MASK,
        ),
    ),
)
"""In the order in which they are tried; without a sign only by name."""

NAMES: tuple[str, ...] = tuple(layout.name for layout in LAYOUTS)


def layout_named(name: str) -> Layout:
    """Return a layout by its name."""
    return next(layout for layout in LAYOUTS if layout.name == name)
