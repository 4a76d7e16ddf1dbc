"""The jobs as builtin components of TorchX: `torchx run hardviews.pretrain` works without a checkout.

The entry point `torchx.components` in pyproject.toml names the package `hardviews.launch.jobs`. Its files are links to
the files in `jobs/`. TorchX names a component by its file and its function: `hardviews.pretrain.pretrain`. Our files
have one function each, so `hardviews.pretrain` is enough.
"""

from dataclasses import replace

from torchx.cli.cmd_run import CmdBuiltins
from torchx.specs.finder import _Component, get_builtin_source, get_components

GROUP = "hardviews"


def short(name: str) -> str:
    """Return the name of a component without its function if function and file have the same name."""
    words = name.split(".")
    return ".".join(words[:2]) if words[0] == GROUP and words[1:2] == words[2:] else name


def full(name: str) -> str:
    """Return TorchX's name of a component."""
    words = name.split(".")
    return f"{name}.{words[1]}" if words[0] == GROUP and len(words) == 2 else name


def names() -> list[str]:
    """Return the names of all builtin components, including TorchX's."""
    return [short(name) for name in get_components()]


class Builtins(CmdBuiltins):  # type: ignore[misc]  # torchx 0.7.0 ships no types
    """The subcommand `builtins`."""

    def _builtins(self) -> dict[str, _Component]:
        return {short(name): replace(component, name=short(name)) for name, component in get_components().items()}

    def run(self, args: object) -> None:
        wanted = getattr(args, "print", None)
        if wanted:
            print(get_builtin_source(full(wanted)))
        else:
            super().run(args)
