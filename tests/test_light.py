"""An installation without extras: what a client needs can be imported, and all else asks for the extra in a sentence.

`tests/package` runs the commands of a client in a real one.
"""

import json
import tomllib
from pathlib import Path

import pytest

import hardviews
from hardviews.cli import _COMMANDS, _WITHOUT_TORCH
from hardviews.extras import PACKAGES, MissingExtra, extra_of, in_one_sentence
from hardviews.recipes import RECIPES, recipe_named
from hardviews.recipes.table import shown, table
from tests.light import ROOT, hidden_modules, light_packages, run_light

SENTENCE = "needs {}, which is not installed here: pip install 'hardviews[train]'"


def python(folder: Path, code: str) -> list[str]:
    done = run_light(folder, "-c", code)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_light_installation_has_no_torch_and_extras_name_what_they_bring():
    assert {"torch", "torchvision", "timm", "mlflow", "scipy"} <= hidden_modules()
    assert not {"torchx", "kubernetes", "numpy", "PIL", "yaml", "hardviews"} & hidden_modules()
    assert "torchx" in light_packages()
    for extra, names in PACKAGES.items():
        assert set(names) <= hidden_modules(), extra
    assert (extra_of("torch.nn"), extra_of("onnx"), extra_of("yaml"), extra_of(None)) == ("train", "export", None, None)


def test_every_module_that_the_package_imports_is_named_by_an_extra_or_comes_with_every_installation():
    """Otherwise its import would end in a traceback."""
    stray = set()
    for file in (ROOT / "platform").rglob("*.py"):
        for line in file.read_text().splitlines():
            words = line.split()
            if words[:1] in (["import"], ["from"]) and len(words) > 1:
                package = words[1].partition(".")[0].rstrip(",")
                if package in hidden_modules() and extra_of(package) is None:
                    stray.add(package)
    assert stray <= {"alembic", "sqlalchemy"}, stray  # mlflow brings them


def test_the_doctor_of_a_client_misses_nothing(tmp_path):
    """A client needs no torch; what it cannot look at without the extra is skipped."""
    done = run_light(tmp_path, "-m", "hardviews.cli", "doctor", "--json", "--tracking-uri", "http://127.0.0.1:9")
    assert done.returncode == 0, done.stdout + done.stderr
    states = {finding["what"]: finding for finding in json.loads(done.stdout)["findings"]}
    for what in ("torch", "MLflow"):
        assert states[what]["state"] == "skipped" and "hardviews[train]" in states[what]["remedy"]


def test_every_command_that_needs_torch_says_so_in_one_sentence(tmp_path):
    needing = sorted(set(_COMMANDS) - set(_WITHOUT_TORCH))
    code = (
        f"import sys\nfrom hardviews.cli import main\nfor name in {needing!r}:\n"
        "    for words in ([name], [name, '--help']):\n"
        "        try:\n            main(words)\n"
        "        except SystemExit as end:\n            print(end.code, file=sys.stderr)\n"
    )
    said = run_light(tmp_path, "-c", code).stderr
    assert said == "".join(f"hardviews: hardviews {name} {SENTENCE.format('torch')}\n2\n" * 2 for name in needing)


def test_every_public_name_that_needs_torch_says_so_when_it_is_used(tmp_path):
    code = (
        "import hardviews\nfor name in hardviews.__all__:\n"
        "    try:\n        print(name, callable(getattr(hardviews, name)))\n"
        "    except ImportError as error:\n        print(error)\n"
    )
    expected = [f"hardviews.{name} {SENTENCE.format('torch')}" for name in hardviews.__all__ if name != "pack"]
    assert python(tmp_path, code) == ["pack True", *expected]


def test_recipes_are_the_same_without_torch(tmp_path):
    code = (
        "import json\nfrom hardviews.settings_only import read_settings_only\nassert read_settings_only()\n"
        "from hardviews.recipes import RECIPES, recipe_named\nfrom hardviews.recipes.table import shown, table\n"
        "print(json.dumps([table(), shown('photos'), {n: recipe_named(n).digest() for n in list(RECIPES)[::8]}]))\n"
    )
    all_of_them, one, digests = json.loads(python(tmp_path, code)[0])
    assert all_of_them == table()
    assert digests == {name: recipe_named(name).digest() for name in list(RECIPES)[::8]}
    other = [line for line in one.splitlines() if not line.startswith("passes ")]
    assert other == [line for line in shown("photos").splitlines() if not line.startswith("passes ")]
    assert "passes         not counted: this needs torch, pip install 'hardviews[train]'" in one


def test_nothing_is_computed_by_what_stands_in_for_torch(tmp_path):
    code = (
        "import sys\nfrom hardviews.settings_only import read_settings_only\nread_settings_only()\n"
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n    @torch.no_grad()\n    def forward(self): return 1\n"
        "def use():\n    return nn.Linear(2, 3)\n"
        "def build():\n    return Net()\n"
        "for attempt in (use, build):\n"
        "    try:\n        attempt()\n    except ImportError as error:\n        print(error)\n"
        "assert Net.forward(None) == 1 and isinstance(nn.Module, type) and not hasattr(torch, '__version__')\n"
    )
    needed = ("torch.nn.Linear", "__main__.Net")
    assert python(tmp_path, code) == [f"This {SENTENCE.format(name)}" for name in needed]


def test_nothing_stands_in_for_what_is_installed():
    from hardviews.settings_only import read_settings_only

    assert read_settings_only() is False


def test_an_unknown_module_that_is_missing_stays_an_error_of_ours():
    with (
        pytest.raises(MissingExtra, match=r"^hardviews export needs onnx, .*\[export\]"),
        in_one_sentence("hardviews export"),
    ):
        raise ModuleNotFoundError(name="onnx")
    with pytest.raises(ModuleNotFoundError), in_one_sentence("hardviews export"):
        raise ModuleNotFoundError(name="hardviews.nothing")


def test_all_entry_points_load_without_torch(tmp_path):
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    places = [place for group in groups.values() for place in group.values() if place.startswith("hardviews.")]
    code = (
        f"import importlib, sys\nfor place in {places!r}:\n    module, _, name = place.partition(':')\n"
        "    loaded = importlib.import_module(module)\n    assert not name or hasattr(loaded, name), place\n"
        "assert 'torch' not in sys.modules\nprint('all')\n"
    )
    assert python(tmp_path, code) == ["all"]
