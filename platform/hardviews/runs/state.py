"""The state of the weights and the optimizer in a checkpoint, as named tensors.

`model.NAME` is an entry of the module's state dict. `optimizer.NAME/ENTRY` is an entry of the optimizer's state for a
weight, and `optimizer.group.N/ENTRY` a counter of a group. Numbers become tensors without dimensions, and their key
ends in their type.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hardviews.errors import UserError
from hardviews.optim.optimizer import parameter_names

MODEL = "model."
"""Prefix of the names of weights."""
_OPTIMIZER, _GROUP = "optimizer.", "group."
_DEVICE = ":device"
_TYPES: dict[str, Callable[[Any], Any]] = {":bool": bool, ":int": int, ":float": float}


def to_tensors(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the whole state."""
    tensors = {MODEL + name: tensor.detach() for name, tensor in module.state_dict().items()}
    for parameter, name in _named(module, optimizer).items():
        for entry, value in optimizer.state.get(parameter, {}).items():
            if value is not None:
                key, tensor = _encode(value, parameter.device)
                tensors[f"{_OPTIMIZER}{name}/{entry}{key}"] = tensor
    for number, group in enumerate(optimizer.param_groups):
        # Counters of an optimizer appear during training; all other entries of a group are configuration.
        if group.get("step") is not None:
            key, tensor = _encode(group["step"], group["params"][0].device)
            tensors[f"{_OPTIMIZER}{_GROUP}{number}/step{key}"] = tensor
    return tensors


def from_tensors(tensors: Mapping[str, Tensor], module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Load the state that `to_tensors` returned.

    Raises:
        UserError: the tensors belong to another network or method.
    """
    other = _other_network(tensors, module)
    if other is not None:
        raise UserError(
            f"The checkpoint was written by {other}. Resume with the recipe that wrote it, or start anew with another "
            "output."
        )
    module.load_state_dict({name[len(MODEL) :]: tensor for name, tensor in tensors.items() if name.startswith(MODEL)})
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


def misfit(tensors: Mapping[str, Tensor], module: nn.Module, optimizer: torch.optim.Optimizer) -> str | None:
    """Return in words who wrote a state, if these settings cannot go on from it; None if they can.

    Weights may change: the optimizer takes a step, which shows the entries that it keeps. Load the state afterwards.
    """
    other = _other_network(tensors, module)
    if other is not None:
        return other
    found: dict[str, set[str]] = {}
    for key in tensors:
        if key.startswith(_OPTIMIZER):
            name, entry = key[len(_OPTIMIZER) :].rsplit("/", 1)
            found.setdefault(name, set()).add(entry.partition(":")[0])
    counted = {name for name in found if name.startswith(_GROUP)}
    groups = len(optimizer.param_groups)
    if counted and counted != {f"{_GROUP}{number}" for number in range(groups)}:
        return f"an optimizer that counts steps for {len(counted)} groups of weights, and these settings make {groups}"
    needed = _entries(module, optimizer)
    for name in found.keys() - counted:
        if name not in needed:
            return f"an optimizer that trained {name}, which these settings freeze"
        # An optimizer makes a missing state in the next step, but it cannot complete a partial one.
        missing = needed[name] - found[name]
        if missing:
            kept, lacking = (", ".join(sorted(names)) for names in (found[name], missing))
            return f"another optimizer, which has kept {kept} of each weight and not {lacking}"
    return None


def first_not_finite(module: nn.Module) -> str | None:
    """Return the name of a weight that is NaN or infinite, None if all are finite."""
    named = list(module.named_parameters())
    # One synchronisation with the device for all weights.
    finite = torch.stack([weight.detach().isfinite().all() for _, weight in named]).tolist()
    return next((name for (name, _), good in zip(named, finite, strict=True) if not good), None)


def _other_network(tensors: Mapping[str, Tensor], module: nn.Module) -> str | None:
    """Return the weights that belong to another network or method, in words; None if there are none."""
    theirs = {name[len(MODEL) :]: tensor.shape for name, tensor in tensors.items() if name.startswith(MODEL)}
    ours = {name: tensor.shape for name, tensor in module.state_dict().items()}
    sentences = [
        f"{verb} {next(iter(names))}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
        for verb, names in (
            ("it has no", [name for name in ours if name not in theirs]),
            ("this one has no", [name for name in theirs if name not in ours]),
            ("the shapes differ of", [name for name in ours if theirs.get(name, ours[name]) != ours[name]]),
        )
        if names
    ]
    return f"another network or method ({'; '.join(sentences)})" if sentences else None


def _entries(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, set[str]]:
    """Return the entries that the optimizer keeps for each weight, by name; the optimizer is left without state."""
    before = [dict(group) for group in optimizer.param_groups]
    named = _named(module, optimizer)
    for parameter in named:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    entries = {
        name: {entry for entry, value in optimizer.state.get(parameter, {}).items() if value is not None}
        for parameter, name in named.items()
    }
    optimizer.state.clear()
    optimizer.zero_grad()
    for group, values in zip(optimizer.param_groups, before, strict=True):
        group.clear()
        group.update(values)
    return entries


def _named(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[Tensor, str]:
    """Return the optimizer's parameters, in its order, with their names."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return dict(zip(parameters, parameter_names(module, optimizer), strict=True))


def _encode(value: Any, device: torch.device) -> tuple[str, Tensor]:
    """Return the end of a value's key, and its tensor."""
    if isinstance(value, Tensor):
        # Optimizers require their counters on a certain device: the weights' device, or the CPU.
        return (_DEVICE if value.ndim == 0 and device.type != "cpu" and value.device == device else ""), value.detach()
    kind = f":{type(value).__name__}"
    return kind, torch.tensor(value, dtype=torch.float64 if kind == ":float" else torch.int64)


def _decode(entry: str, tensor: Tensor, parameter: Tensor) -> tuple[str, Any]:
    name, colon, kind = entry.partition(":")
    if colon + kind in _TYPES:
        return name, _TYPES[colon + kind](tensor.item())
    if tensor.shape == parameter.shape:
        # In the weight's memory layout: sums over it keep their order, for example in LAMB.
        return name, torch.empty_like(parameter, dtype=tensor.dtype, requires_grad=False).copy_(tensor)
    return name, tensor.to(parameter.device) if tensor.ndim or colon + kind == _DEVICE else tensor.clone()
