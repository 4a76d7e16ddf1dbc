"""Files of weights as other codes write them: random networks in each code's names, with the entries beside them."""

import argparse
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torchvision
from torch import Tensor, nn

State = dict[str, Tensor]


def resnet(depth: int = 18, seed: int = 0) -> nn.Module:
    """Return torchvision's ResNet without a classifier, in which no number is the one that it begins with."""
    torch.manual_seed(seed)
    network = getattr(torchvision.models, f"resnet{depth}")()
    network.fc = nn.Identity()
    return disturbed(network)


def cifar_resnet(depth: int = 18, seed: int = 0) -> nn.Module:
    """Return torchvision's ResNet as codes for CIFAR change it: a first layer of 3 x 3 at stride 1, and no pooling."""
    network = resnet(depth, seed)
    network.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    network.maxpool = nn.Identity()
    return network.eval()


def with_shortcuts(network: nn.Module) -> State:
    """Return the weights as kuangliu/pytorch-cifar and SupContrast name them."""
    return {name.replace("downsample", "shortcut"): value for name, value in network.state_dict().items()}


def vit(name: str = "vit_tiny_patch16_224", seed: int = 0, **options: Any) -> nn.Module:
    """Return timm's vision transformer without a classifier, whose names DINO, iBOT and MoCo v3 have too."""
    torch.manual_seed(seed)
    return disturbed(timm.create_model(name, num_classes=0, dynamic_img_size=True, **options))


def disturbed(network: nn.Module) -> nn.Module:
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
        elif value.is_floating_point() and value.ndim == 1:
            value.add_(0.3 * torch.randn_like(value))
        elif name.endswith("num_batches_tracked"):
            value.fill_(7)
    return network.eval()


def under(prefix: str, network: nn.Module | State) -> State:
    state = network if isinstance(network, dict) else network.state_dict()
    return {f"{prefix}{name}": value for name, value in state.items()}


def linear(prefix: str, *sizes: int) -> State:
    return {f"{prefix}weight": torch.zeros(sizes or (4, 8)), f"{prefix}bias": torch.zeros(4)}


def optimizer(network: nn.Module) -> dict[str, Any]:
    """Return the state of an optimizer after a step."""
    parameters = list(network.parameters())[:3]
    sgd = torch.optim.SGD(parameters, 0.1, momentum=0.9)
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    sgd.step()
    return sgd.state_dict()


def options() -> argparse.Namespace:
    return argparse.Namespace(arch="resnet18", lr=0.1, best=np.float64(0.5), sizes=[224, 96], folder=Path("/data"))


def vissl(network: nn.Module) -> dict[str, Any]:
    model = {"trunk": under("_feature_blocks.", network), "heads": linear("0.clf.0.")}
    state = {"train": True, "base_model": {"model": model}, "optimizer": optimizer(network), "phase_idx": 3}
    return {"phase_idx": 3, "loss": 0.1, "type": "consolidated", "classy_state_dict": {**state, "losses": {}}}


def moco(network: nn.Module) -> dict[str, Any]:
    state = under("module.encoder_q.", network) | linear("module.encoder_q.fc.0.")
    state |= under("module.encoder_k.", resnet(seed=9)) | linear("module.encoder_k.fc.0.")
    state |= {"module.queue": torch.zeros(4, 16), "module.queue_ptr": torch.zeros(1, dtype=torch.long)}
    return {"epoch": 200, "arch": "resnet18", "state_dict": OrderedDict(state), "optimizer": optimizer(network)}


def moco_v3(network: nn.Module) -> dict[str, Any]:
    state = under("module.base_encoder.", network) | linear("module.base_encoder.head.0.")
    state |= under("module.momentum_encoder.", network) | linear("module.predictor.0.")
    held = {"state_dict": state, "optimizer": optimizer(network), "scaler": {"scale": 65536.0}}
    return {"epoch": 300, "arch": "vit_tiny", **held}


def pycontrast(network: nn.Module) -> dict[str, Any]:
    state = under("module.encoder.", network) | linear("module.head.0.") | linear("module.head_jig.fc1.0.")
    contrast = {"memory": torch.zeros(8, 4), "params": torch.zeros(5)}
    return {"model": state, "contrast": contrast, "optimizer": optimizer(network), "epoch": 200, "opt": options()}


def mmselfsup(network: nn.Module) -> dict[str, Any]:
    state = under("backbone.", network) | linear("head.fc_cls.") | linear("neck.fc0.")
    state |= under("encoder_q.0.", network) | {"queue": torch.zeros(4, 16)}
    return {"meta": {"epoch": 200, "mmselfsup_version": "0.3.0"}, "state_dict": state, "optimizer": {"state": {}}}


def swav(network: nn.Module) -> State:
    return under("module.", network) | linear("module.projection_head.0.") | {
        "module.prototypes.weight": torch.zeros(30, 4)
    }  # fmt: skip


def swav_checkpoint(network: nn.Module) -> dict[str, Any]:
    held = {"optimizer": optimizer(network), "amp": {"loss_scaler0": {"loss_scale": 1.0}}}
    return {"epoch": 800, "state_dict": swav(network), **held}


def dino(network: nn.Module, student: nn.Module | None = None) -> dict[str, Any]:
    student = vit(seed=5) if student is None else student
    return {
        "student": under("module.backbone.", student) | linear("module.head.mlp.0."),
        "teacher": under("backbone.", network) | linear("head.mlp.0."),
        "optimizer": optimizer(network),
        "epoch": 100,
        "args": options(),
        "dino_loss": {"center": torch.zeros(1, 8)},
        "fp16_scaler": {"scale": 65536.0},
    }


def ibot(network: nn.Module) -> dict[str, Any]:
    held = dino(network)
    held["ibot_loss"] = held.pop("dino_loss")
    held["student"]["module.backbone.masked_embed"] = torch.zeros(1, 192)
    held["teacher"] |= linear("head.last_layer2.")
    return held


def simsiam(network: nn.Module) -> dict[str, Any]:
    state = under("module.encoder.", network) | linear("module.encoder.fc.0.") | linear("module.predictor.0.")
    return {"epoch": 100, "arch": "resnet18", "state_dict": state, "optimizer": optimizer(network)}


def barlow_twins(network: nn.Module) -> dict[str, Any]:
    state = under("module.backbone.", network) | linear("module.projector.0.") | linear("module.bn.")
    return {"epoch": 1000, "model": state, "optimizer": optimizer(network)}


def torchvision_vit() -> tuple[nn.Module, State]:
    """Return torchvision's vision transformer of the size of ViT-Ti, and its state dict with a classifier."""
    torch.manual_seed(0)
    network = torchvision.models.VisionTransformer(224, 16, 12, 3, 192, 768, num_classes=10)
    state = disturbed(network).state_dict()
    network.heads = nn.Identity()
    return network.eval(), state


def save(content: Any, path: Path) -> str:
    torch.save(content, path)
    return str(path)
