"""Finds the component that `torchx run` names; a mistake is one paragraph with the existing names."""

import ast
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from torchx.specs import AppDef
from torchx.specs.finder import ComponentNotFoundException, ComponentValidationException, get_component

from hardviews.errors import UserError, did_you_mean
from hardviews.launch import builtin


def name_function(words: Sequence[str]) -> list[str]:
    """Complete the component of a command line: `jobs/knn.py` becomes `jobs/knn.py:knn`.

    Args:
        words: the words after the options of `torchx run`; a leading `--` is TorchX's separator.

    Raises:
        UserError: the file does not exist.
    """
    completed = list(words)
    place = 1 if completed[:1] == ["--"] else 0
    if len(completed) > place and completed[place].endswith(".py") and ":" not in completed[place]:
        file = Path(completed[place])
        _check_exists(file)
        completed[place] = f"{file}:{file.stem.replace('-', '_')}"
    return completed


def find_component(name: str) -> Callable[..., AppDef]:
    """Return the component of a name: `FILE.py:FUNCTION`, or a builtin, such as `hardviews.pretrain` or `dist.ddp`.

    Raises:
        UserError: it does not exist, its file cannot be loaded, or TorchX cannot read its arguments.
    """
    file, colon, function = name.rpartition(":")
    if colon:
        _check_file(Path(file), function)
    try:
        found: Callable[..., AppDef] = get_component(builtin.full(name)).fn
        return found
    except ComponentValidationException as error:
        reason = " ".join(str(error).split())
        raise UserError(f"The component {name} cannot be used: {reason}. Mend its signature.") from error
    except ComponentNotFoundException as error:
        raise UserError(
            f"There is no component {name}.{did_you_mean(name, builtin.names())} `torchx builtins` lists them; in a "
            "checkout the jobs of this project are files in jobs/ too, for example jobs/pretrain.py."
        ) from error
    except Exception as error:
        if not colon:
            raise
        # TorchX runs the file's text, so its lines have no file name.
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "<string>"]
        place = f", line {lines[-1]}" if lines else ""
        raise UserError(
            f"The component file {file}{place} cannot be loaded: {type(error).__name__}: {error}. Mend the file."
        ) from error


def _check_exists(file: Path) -> None:
    if not file.is_file():
        raise UserError(
            f"There is no component file {file} in {Path.cwd()}. Give the path from where you are; this project's "
            "jobs are in the folder jobs/ of the checkout. Without one, name a builtin such as hardviews.pretrain."
        )


def _check_file(file: Path, function: str) -> None:
    """Refuse a file that Python cannot read, or that does not define the component."""
    _check_exists(file)
    try:
        text = file.read_text(encoding="utf-8")
        module = ast.parse(text)
    except SyntaxError as error:
        raise UserError(
            f"The component file {file} is not valid Python: line {error.lineno}: {error.msg}. Mend the file."
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(f"The component file {file} cannot be read: {error}. Give a file of Python.") from error
    functions = [node for node in module.body if isinstance(node, ast.FunctionDef)]
    if function in [node.name for node in functions]:
        return
    names = [node.name for node in functions if node.returns and ast.unparse(node.returns).endswith("AppDef")]
    if not names:
        raise UserError(
            f"The file {file} defines no component: a component is a function with the annotation -> AppDef. This "
            "project's jobs are in the folder jobs/ of the checkout."
        )
    near = did_you_mean(function, names)
    raise UserError(
        f"The file {file} defines no component {function!r}.{near} It defines {', '.join(names)}: write "
        f"{file}:{names[0]}{' or another one' if len(names) > 1 else ''}."
    )
