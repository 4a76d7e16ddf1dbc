"""TorchX's scheduler `ray`, which TorchX 0.7.0 cannot even list if the package ray is not installed."""

import importlib
from typing import Any


def create_scheduler(session_name: str, **options: Any) -> Any:
    """Return the scheduler, for the entry point `torchx.schedulers`.

    Raises:
        ModuleNotFoundError: ray is not installed, which `torchx runopts` knows how to tell.
    """
    try:
        module = importlib.import_module("torchx.schedulers.ray_scheduler")
    except NameError as error:  # the module's own annotations need ray
        raise ModuleNotFoundError("Ray is not installed.") from error
    return module.create_scheduler(session_name, **options)
