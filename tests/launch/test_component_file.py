"""`torchx run` finds components in files, and names the mistake in a file or a name."""

import pytest

from hardviews.errors import UserError
from hardviews.launch.component_file import find_component, name_function

TWO = """
from torchx.specs import AppDef

def first() -> AppDef:
    '''First.'''

def second(a: str = "x") -> AppDef:
    '''Second.'''

def helper() -> int:
    return 1
"""


@pytest.mark.parametrize(
    ("text", "name", "parts"),
    [
        (TWO, "job", ["no component 'job'", "It defines first, second: write ", "job.py:first or another one."]),
        (TWO, "secondd", ["Did you mean second?"]),
        ("def broken(:\n", "job", ["job.py is not valid Python: line 1: invalid syntax"]),
        ("x = 1\nx\0", "job", ["job.py"]),
        ("x = 1\n", "job", ["defines no component", "-> AppDef", "jobs/"]),
        (f"{TWO}\nimport nothing_here\n", "first", ["job.py, line 13 cannot be loaded: ModuleNotFoundError"]),
        (f"{TWO}\n1 / 0\n", "first", ["job.py, line 13 cannot be loaded: ZeroDivisionError"]),
        (TWO.replace("a: str", "a"), "second", ["job.py:second cannot be used", "Arg a missing type annotation"]),
    ],
)
def test_a_file_that_has_no_such_component_is_one_paragraph(tmp_path, text, name, parts):
    (tmp_path / "job.py").write_text(text)
    with pytest.raises(UserError) as error:
        find_component(f"{tmp_path}/job.py:{name}")
    for part in parts:
        assert part in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("jobs/nothing.py:pretrain", "There is no component file jobs/nothing.py"),
        ("a:b:c", "There is no component file a:b"),
        ("jobs/", "There is no component jobs/. "),
        ("dist.dpp", "Did you mean dist.ddp?"),
    ],
)
def test_names_that_are_none_are_refused_with_the_nearest(name, part):
    with pytest.raises(UserError, match="jobs/") as error:
        find_component(name)
    assert part in str(error.value)


def test_each_component_of_a_file_is_found(tmp_path):
    (tmp_path / "two.py").write_text(TWO)
    assert find_component(f"{tmp_path}/two.py:second").__name__ == "second"
    assert find_component("utils.echo").__name__ == "echo"
    assert name_function([f"{tmp_path}/two.py"]) == [f"{tmp_path}/two.py:two"]
