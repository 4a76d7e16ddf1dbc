"""An installation without extras: what a client needs works, and all else asks for the extra in one sentence."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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


def test_every_command_that_needs_torch_says_so_in_one_sentence(tmp_path):
    code = (
        "import sys\nfrom hardviews.cli import _COMMANDS, main\n"
        "for name in _COMMANDS:\n"
        "    for words in ([name], [name, '--help']):\n"
        "        try:\n            main(words)\n"
        "        except SystemExit as end:\n            print('end', *words, end.code, file=sys.stderr)\n"
    )
    said = run_light(tmp_path, "-c", code).stderr.splitlines()
    assert not [line for line in said if "Traceback" in line]
    for name in set(_COMMANDS) - set(_WITHOUT_TORCH):
        for words in (name, f"{name} --help"):
            place = said.index(f"end {words} 2")
            assert said[place - 1] == f"hardviews: hardviews {name} {SENTENCE.format('torch')}"
    assert {f"end {name} --help 0" for name in ("pack", "validate")} <= set(said)


def test_every_public_name_that_needs_torch_says_so_when_it_is_used(tmp_path):
    code = (
        "import hardviews\nfor name in hardviews.__all__:\n"
        "    try:\n        print(name, callable(getattr(hardviews, name)))\n"
        "    except ImportError as error:\n        print(error)\n"
    )
    expected = [f"hardviews.{name} {SENTENCE.format('torch')}" for name in hardviews.__all__ if name != "pack"]
    assert python(tmp_path, code) == ["pack True", *expected]


def test_images_are_packed_and_what_is_not_there_to_be_packed_asks_for_the_extra(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(3):
            noise = np.random.default_rng(number).integers(0, 255, (16, 16, 3), np.uint8)
            Image.fromarray(noise).save(tmp_path / "images" / name / f"{number}.png")
    packed = run_light(tmp_path, "-m", "hardviews.cli", "pack", "--source", "images", "--out", "shards")
    assert (packed.returncode, "of 2 classes" in packed.stdout) == (0, True), packed.stderr
    for source in ("digits", "photographs"):
        refused = run_light(tmp_path, "-m", "hardviews.cli", "pack", "--source", source, "--out", "other")
        assert (refused.returncode, refused.stdout) == (2, "")
        assert refused.stderr == f"hardviews: hardviews pack {SENTENCE.format('sklearn')}\n"
    assert not (tmp_path / "other").exists()


def test_recipes_are_the_same_without_torch(tmp_path):
    code = (
        "import json\nfrom hardviews.settings_only import read_settings_only\nassert read_settings_only()\n"
        "from hardviews.recipes import RECIPES, recipe_named\nfrom hardviews.recipes.table import shown, table\n"
        "print(json.dumps([table(), shown('photos'), {n: recipe_named(n).digest() for n in RECIPES}]))\n"
    )
    all_of_them, one, digests = json.loads(python(tmp_path, code)[0])
    assert all_of_them == table()
    assert digests == {name: recipe_named(name).digest() for name in RECIPES}
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


TORCHX = ["-c", "from torchx.cli.main import main; main()", "run"]


def test_a_job_is_shown_for_a_cluster_and_refused_on_this_machine(tmp_path):
    config = tmp_path / ".torchxconfig"
    config.write_text("[kubernetes]\nqueue = default\n")
    job = [f"{ROOT}/jobs/pretrain.py", "--recipe", "smoke", "--data", "s3://b/d", "--output", "s3://b/o"]
    shown = run_light(tmp_path, *TORCHX, "-s", "kubernetes", "--dryrun", *job)
    assert shown.returncode == 0, shown.stderr
    assert "hardviews.elastic.coordinator" in shown.stdout
    wrong = run_light(tmp_path, *TORCHX, "-s", "kubernetes", "--dryrun", *job, "--", "--training.epoch", "3")
    assert (wrong.returncode, "Perhaps you meant: --training.epochs" in wrong.stderr) == (2, True), wrong.stderr
    refused = run_light(tmp_path, *TORCHX, "-s", "local_cwd", *job)
    assert refused.returncode == 2
    assert refused.stderr == f"torchx run: hardviews pretrain {SENTENCE.format('torch')}\n"


def test_a_check_says_what_it_leaves_to_the_job(tmp_path):
    places = ["--image", "i", "--data", "s3://b/d", "--output", "s3://b/o", "--tracking", "http://m"]
    words = ["validate", "--", "-cfg", "queue=q", f"{ROOT}/jobs/pretrain.py", "--recipe", "smoke", *places]
    read = run_light(tmp_path, "-m", "hardviews.cli", *words)
    assert read.returncode == 0, read.stderr
    assert "not checked: the names of network and optimizer, and whether the network can be built" in read.stderr
    assert "Nothing is wrong" in read.stdout
