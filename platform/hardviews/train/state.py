"""Everything that a checkpoint holds of the weights and the optimizer, as named tensors.

`model.NAME` is an entry of the module's state dict; `optimizer.NAME/ENTRY` is what the optimizer keeps of a weight,
`optimizer.group.N/ENTRY` what it counts for a group. Numbers become tensors of no dimension, and their key ends in
their type.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hardviews.errors import UserError
from hardviews.optim.optimizer import parameter_names

_MODEL, _OPTIMIZER, _GROUP = "model.", "optimizer.", "group."
_DEVICE = ":device"
_TYPES: dict[str, Callable[[Any], Any]] = {":bool": bool, ":int": int, ":float": float}


def to_tensors(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the whole state."""
    tensors = {_MODEL + name: tensor.detach() for name, tensor in module.state_dict().items()}
    for parameter, name in _named(module, optimizer).items():
        for entry, value in optimizer.state.get(parameter, {}).items():
            if value is not None:
                key, tensor = _encode(value, parameter.device)
                tensors[f"{_OPTIMIZER}{name}/{entry}{key}"] = tensor
    for number, group in enumerate(optimizer.param_groups):
        # What an optimizer counts appears during training; all else in a group is configuration.
        if group.get("step") is not None:
            key, tensor = _encode(group["step"], group["params"][0].device)
            tensors[f"{_OPTIMIZER}{_GROUP}{number}/step{key}"] = tensor
    return tensors


def from_tensors(tensors: Mapping[str, Tensor], module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Load the state that `to_tensors` returned.

    Raises:
        UserError: the tensors are of another network or method.
    """
    model = {name[len(_MODEL) :]: tensor for name, tensor in tensors.items() if name.startswith(_MODEL)}
    try:
        module.load_state_dict(model)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UserError(
            f"The checkpoint was written by another network or method ({reason}) Resume with the recipe that wrote it, "
            "or start anew with another output."
        ) from error
    parameters = {name: parameter for parameter, name in _named(module, optimizer).items()}
    optimizer.state.clear()
    for key, tensor in tensors.items():
        if not key.startswith(_OPTIMIZER):
            continue
        name, entry = key[len(_OPTIMIZER) :].rsplit("/", 1)
        if name.startswith(_GROUP):
            group = optimizer.param_groups[int(name[len(_GROUP) :])]
            entry, value = _decode(entry, tensor, group["params"][0])
            group[entry] = value
        else:
            parameter = parameters[name]
            entry, value = _decode(entry, tensor, parameter)
            optimizer.state[parameter][entry] = value


def first_not_finite(module: nn.Module) -> str | None:
    """Return the name of a weight that is NaN or infinite, None where all are finite."""
    named = list(module.named_parameters())
    # One question to the device for all weights.
    finite = torch.stack([weight.detach().isfinite().all() for _, weight in named]).tolist()
    return next((name for (name, _), good in zip(named, finite, strict=True) if not good), None)


def _named(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[Tensor, str]:
    """Return the optimizer's parameters, in its order, with their names."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return dict(zip(parameters, parameter_names(module, optimizer), strict=True))


def _encode(value: Any, device: torch.device) -> tuple[str, Tensor]:
    """Return what a value's key ends in, and its tensor."""
    if isinstance(value, Tensor):
        # Optimizers insist on where their counters live: beside the weights, or on the CPU.
        return (_DEVICE if value.ndim == 0 and device.type != "cpu" and value.device == device else ""), value.detach()
    kind = f":{type(value).__name__}"
    return kind, torch.tensor(value, dtype=torch.float64 if kind == ":float" else torch.int64)


def _decode(entry: str, tensor: Tensor, parameter: Tensor) -> tuple[str, Any]:
    name, colon, kind = entry.partition(":")
    if colon + kind in _TYPES:
        return name, _TYPES[colon + kind](tensor.item())
    if tensor.shape == parameter.shape:
        # In the weight's memory layout: sums over it, LAMB's say, keep their order.
        return name, torch.empty_like(parameter, dtype=tensor.dtype, requires_grad=False).copy_(tensor)
    return name, tensor.to(parameter.device) if tensor.ndim or colon + kind == _DEVICE else tensor.clone()
