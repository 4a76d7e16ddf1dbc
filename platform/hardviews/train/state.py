"""Everything that a checkpoint holds: weights, statistics, method state, optimizer; as named tensors."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from hardviews.errors import UserError
from hardviews.optim.optimizer import parameter_names

_MODEL, _OPTIMIZER = "model.", "optimizer."


def to_tensors(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return all state as tensors: `model.NAME`, and `optimizer.NAME/ENTRY` for what is kept of a weight."""
    tensors = {_MODEL + name: tensor.detach() for name, tensor in module.state_dict().items()}
    names = parameter_names(module, optimizer)
    for number, entries in optimizer.state_dict()["state"].items():
        for entry, value in entries.items():
            if value is not None:
                tensors[f"{_OPTIMIZER}{names[number]}/{entry}"] = torch.as_tensor(value)
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
    names = {name: number for number, name in enumerate(parameter_names(module, optimizer))}
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith(_OPTIMIZER):
            name, entry = key[len(_OPTIMIZER) :].rsplit("/", 1)
            state.setdefault(names[name], {})[entry] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
