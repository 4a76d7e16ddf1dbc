"""Harmless objects beside the weights of a checkpoint, read as empty stand-ins.

Many checkpoints hold the options of their training or numbers of NumPy. PyTorch's safe reader refuses these classes.
Here their names stand for empty objects, so that neither their own code nor that of their library runs.
"""

from typing import Any


class StandIn:
    """An empty object that takes the place of another one, without its content."""

    def __new__(cls, *_content: Any) -> "StandIn":
        """Forget the arguments."""
        return super().__new__(cls)

    def __init__(self, *_content: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


class _Table:
    """Stands for a kind of dict: the reader fills a plain one."""

    def __new__(cls, *_content: Any) -> Any:
        return {}


_OBJECTS = (
    "argparse.Namespace",
    "builtins.dict",
    "builtins.float",
    "builtins.int",
    "builtins.list",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "numpy.ndarray",
    "pathlib.PosixPath",
    "pathlib._local.PosixPath",
    "types.SimpleNamespace",
)
_TABLES = (
    "collections.defaultdict",
    "vissl.config.attr_dict.AttrDict",
    "vissl.utils.hydra_config.AttrDict",
)
STAND_INS: list[Any] = [*((StandIn, name) for name in _OBJECTS), *((_Table, name) for name in _TABLES)]
"""What `torch.serialization.safe_globals` takes: an object of ours under the name of another."""
