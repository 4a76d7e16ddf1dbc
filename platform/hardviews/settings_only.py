"""Settings without torch, for a client that reads recipes and commands but computes nothing.

Settings are dataclasses beside the networks that they build, so an import of settings imports torch. If torch is not
installed, `read_settings_only` replaces it and the other packages of the extra `train` by empty modules. Each name in
them is an empty class. That is enough for base classes, annotations and decorators. An attempt to compute raises
 `MissingExtra`. Sphinx's `autodoc_mock_imports` reads modules in the same way.
"""

import sys
from abc import ABCMeta
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from inspect import CO_OPTIMIZED
from types import ModuleType
from typing import Any

from hardviews.extras import STAND_IN, TRAIN, MissingExtra, missing


class _Empty(ABCMeta):
    """The class of each name in a module that is not installed, such as `nn.Module`, and of its attributes."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _empty(f"{cls.__module__}.{cls.__name__}", name)

    def __getitem__(cls, parameters: Any) -> Any:
        return cls

    def __call__(cls, *arguments: Any, **named: Any) -> Any:
        if sys._getframe(1).f_code.co_flags & CO_OPTIMIZED:  # the caller is a function
            raise MissingExtra(TRAIN, f"This needs {cls.__module__}.{cls.__name__}")
        return lambda function: function  # in the body of a module or class: a decorator such as `@torch.no_grad()`


def _empty(module: str, name: str) -> Any:
    return _Empty(name, (), {"__module__": module})


class _EmptyModule(ModuleType):
    """A module in place of one that is not installed; it has every name."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _empty(self.__name__, name)


class _Loader(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _EmptyModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        return


class _Finder(MetaPathFinder):
    """Finds the modules of some packages."""

    def __init__(self, packages: Sequence[str]) -> None:
        self.packages = packages

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] not in self.packages:
            return None
        return ModuleSpec(name, _Loader(), origin=STAND_IN, is_package=True)


def read_settings_only() -> bool:
    """Let this process import settings even if packages of the extra `train` are missing; return whether some are.

    Call this only in a process of its own: other libraries would take the empty modules for the real ones.
    """
    packages = missing(TRAIN)
    if packages:
        sys.meta_path.append(_Finder(packages))
    return bool(packages)
