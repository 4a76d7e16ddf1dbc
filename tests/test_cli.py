"""The command line: its output, its settings, and its answers to mistakes."""

import errno
import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hardviews import interrupts
from hardviews.arguments import paragraph
from hardviews.cli import main
from hardviews.data.index import Index
from hardviews.errors import UserError
from hardviews.models.backbones import Backbone
from hardviews.recipes import RECIPES, recipe_named
from hardviews.recipes.overrides import overridden
from tests.data.helpers import flip_bit
from tests.train.runs import everything, packed

PLACES = ["--data", "d", "--output", "o"]


@pytest.fixture(scope="module")
def packed_once(tmp_path_factory: pytest.TempPathFactory) -> str:
    return packed(tmp_path_factory.mktemp("noise") / "shards")


@pytest.fixture
def data(packed_once: str, tmp_path: Path) -> str:
    return str(shutil.copytree(packed_once, tmp_path / "shards"))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")  # main sets it; undone after each test
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capfd: pytest.CaptureFixture, *words: str) -> str:
    """Run a command that must be refused; return the paragraph."""
    with pytest.raises(SystemExit) as end:
        main(words)
    said = capfd.readouterr().err
    assert end.value.code == 2, said
    mistakes = [line for line in said.splitlines() if line.startswith("hardviews: ")]
    assert len(mistakes) == 1, said
    assert said.endswith(mistakes[0] + "\n") and "Traceback" not in said
    return mistakes[0]


def pretrain(capfd: pytest.CaptureFixture, data: str, *words: str, recipe: str = "digits") -> str:
    """Have a pretraining refused that fits the data but for these words; it leaves nothing."""
    small = ["--training.batch", "16", "--training.group", "4", "--training.epochs", "1", "--method.view.size", "16"]
    said = refused(capfd, "pretrain", recipe, "--data", data, "--output", "run", *small, *words)
    assert not Path("run").exists() and not Path(".hardviews").exists(), said
    return said


# Help


def test_help_starts_at_once_and_names_every_command(here: Path) -> None:
    done = subprocess.run([sys.executable, "-X", "importtime", "-m", "hardviews.cli"], capture_output=True, text=True)
    assert done.returncode == 0
    for name in ("demo", "pack", "pretrain", "knn", "linear", "export", "recipes"):
        assert f"\n  {name} " in done.stdout
    assert "torch" not in done.stderr, "help need not wait for torch"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("pretrain --help", "digits"),
        ("pretrain digits --help", "--method.temperature FLOAT"),
        ("pretrain digits --help", "recipes/digits.py"),
        ("pack --help", "--source"),
        ("knn --help", "--run"),
        ("linear --help", "--run"),
        ("export --help", "--allow-pickle"),
        ("demo --help", "--data"),
        ("recipes", "photos"),
        ("recipes --help", "usage: hardviews recipes"),
        ("recipes show -h", "recipes show NAME"),
        ("launch --help", "--nnodes"),
        ("validate --help", "--cluster"),
        ("launch pretrain --help", "digits_simsiam"),
        ("launch pretrain digits --help", "--method.temperature FLOAT"),
        ("recipes show digits", "method.temperature = 0.2"),
        ("estimate --help", "h100"),
        ("estimate digits --help", "--share"),
        ("doctor --help", "--tracking-uri"),
        ("bug-report --help", "--logs"),
    ],
)
def test_every_command_explains_itself(words: str, said: str, capfd: pytest.CaptureFixture) -> None:
    try:
        main(words.split())
    except SystemExit as end:
        assert not end.code
    assert said in "".join(capfd.readouterr().out.split("\n"))


def test_a_reader_who_leaves_early_gets_no_traceback() -> None:
    command = f"{sys.executable} -m hardviews.cli pretrain digits --help"
    done = subprocess.run(f"{command} | head -1", shell=True, capture_output=True, text=True)
    assert done.stdout.startswith("usage:")
    assert "Traceback" not in done.stderr


def test_threads_sleep_while_they_wait_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for given, expected in ((None, "PASSIVE"), ("ACTIVE", "ACTIVE")):
        monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
        if given:
            monkeypatch.setenv("OMP_WAIT_POLICY", given)
        main(["--help"])
        assert os.environ["OMP_WAIT_POLICY"] == expected


# Overrides


def test_overrides_reach_nested_values() -> None:
    words = [*PLACES, "--method.temperature", "0.7", "--method.view.scale", "0.1", "0.9", "--strategy.candidates", "6"]
    words += ["--optimizer.name", "adamw", "--backbone.small-stem", "--loader.reader.on-corrupt", "substitute"]
    where, recipe = overridden(recipe_named("digits"), words)
    assert (where.data, where.output, where.accept_changes) == ("d", "o", False)
    base = recipe_named("digits")
    assert recipe == replace(
        base,
        method=replace(base.method, temperature=0.7, view=replace(base.method.view, scale=(0.1, 0.9))),
        strategy=replace(base.strategy, candidates=6),
        optimizer=replace(base.optimizer, name="adamw"),
        backbone=Backbone("test_resnet", small_stem=True),
        loader=replace(base.loader, reader=replace(base.loader.reader, on_corrupt="substitute")),
    )


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_survives_the_command_line(name: str) -> None:
    assert overridden(recipe_named(name), PLACES)[1] == recipe_named(name)


def test_a_composed_strategy_survives_the_command_line() -> None:
    _, recipe = overridden(everything(), [*PLACES, "--training.epochs", "7"])
    assert recipe == everything(7)


def test_settings_that_change_no_weight_do_not_change_the_digest() -> None:
    base = recipe_named("digits")
    free = [*PLACES, "--loader.workers", "3", "--training.checkpoint-steps", "7", "--experiment", "e"]
    free += ["--loader.reader.on-corrupt", "substitute", "--training.log-steps", "1"]
    assert overridden(base, free)[1].digest() == base.digest()
    for words in (["--training.seed", "1"], ["--method.temperature", "0.3"], ["--strategy.candidates", "2"]):
        assert overridden(base, [*PLACES, *words])[1].digest() != base.digest()


# Mistakes that need no data


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("pretrai", "There is no command 'pretrai'. Did you mean pretrain?"),
        ("pretrain", "Say which recipe"),
        ("pretrain digit", "Did you mean digits?"),
        ("--data d pretrain digits", "The command comes first, before --data: hardviews COMMAND --data"),
        ("pretrain --data d digits", "The recipe comes first, before --data: pretrain digits --data"),
        ("recipes show nothing", "There is no recipe 'nothing'"),
        ("recipes list", "Say `hardviews recipes`"),
        ("pretrain digits", "--data"),
        ("pretrain digits --training.epoch 3", "Perhaps you meant: --training.epochs,"),
        (
            "pretrain digits --strategy.sizes 16",
            "Perhaps you meant: --strategy.size, --strategy.noise, --strategy.score. F",
        ),
        ("pretrain digits --strategy.colors", "Perhaps you meant: --strategy.colours, --strategy.choose, --strategy.s"),
        ("pretrain digits --training.no-compil", "Perhaps you meant: --training.compile. For full"),
        ("knn --runn r", "Perhaps you meant: --run"),
        ("pretrain digits --strategy", "--strategy: a recipe chooses the strategy, the command line does not. Copy "),
        ("pretrain digits --method=SimSiam", "--method SimSiam: a recipe chooses the method"),
        ("estimate digits --strategy --images 9", "--strategy: a recipe chooses the strategy"),
        (
            "finetune r --recipe digits_finetune --data d --output o --method X",
            "hardviews finetune r --recipe digits_finetune --help lists them",
        ),
        ("pretrain digits --training.epochs many", "--training.epochs: invalid literal"),
        ("pretrain digits --training.epochs", "Missing value"),
        ("pretrain digits --strategy.choose worst", "'hardest', 'easiest'"),
        ("pretrain digits --training.epochs 0", "training.epochs is 0"),
        ("pretrain digits --training.keep 0", "training.keep is 0"),
        ("pretrain digits --training.seed -1", "training.seed is -1"),
        ("pretrain digits --experiment=", "experiment is empty"),
        ("pretrain digits --method.temperature inf", "method.temperature is inf; it must be a finite number"),
        ("pretrain digits --optimizer.weight-decay nan", "optimizer.weight_decay is nan; it must be a finite number"),
        ("pretrain digits --loader.workers -1", "loader.workers is -1; it must be 0 or more"),
        ("pretrain digits --loader.reader.ahead -1", "loader.reader.ahead is -1"),
        ("pretrain digits --loader.reader.cache-bytes -1", "loader.reader.cache_bytes is -1"),
        (
            "knn --run r --data d --neighbours",
            "--neighbours is (); it must be one finite number or more, each 1",
        ),
        ("knn --run r --data d --neighbours -3", "--neighbours is (-3,)"),
        ("knn --run r --data d --temperature nan", "--temperature is nan"),
        ("knn --run r --data d --batch-size 0", "--batch-size is 0; it must be 1 or more"),
        ("linear --run r --data d --momentum 1", "--momentum is 1.0; it must be 0 or more and below 1"),
        ("linear --run r --data d --rates", "--rates is ()"),
        ("linear --run r --data d --crop 0", "--crop is 0"),
        ("linear --run r --data d --experiment=", "Evaluation: experiment is empty"),
        ("pretrain digits --backbone.name resnet5", "Close: resnet50"),
        ("pretrain digits --optimizer.name adamww", "Close: adamw"),
        ("pretrain digits --schedule.warmup 3", "schedule.warmup is 3.0; it must be 0 or more and below 1"),
    ],
)
def test_a_mistake_in_the_words_is_one_paragraph(words: str, said: str, capfd: pytest.CaptureFixture) -> None:
    given = words.split()
    if given[:2] == ["pretrain", "digits"] and len(given) > 2:
        given += PLACES
    assert said in refused(capfd, *given)
    assert not list(Path().iterdir())


@pytest.mark.parametrize("nothing", ["", " "])
@pytest.mark.parametrize(
    "words",
    [
        "pretrain digits --data d --output",
        "pretrain digits --output o --data",
        "pretrain digits --data d --output o --project",
        "pretrain digits --data d --output o --loader.reader.cache-folder",
        "pack --source digits --out",
        "pack --out o --source",
        "knn --data d --run",
        "knn --run r --data",
        "linear --run r --data d --test",
        "linear --run r --data d --project",
        "audit r --data",
        "demo --folder",
        "demo --data",
    ],
)
def test_a_place_without_a_name_is_refused(words: str, nothing: str, capfd: pytest.CaptureFixture) -> None:
    given = [*words.split(), nothing]
    assert f"{given[-2]} is empty" in refused(capfd, *given)
    assert not list(Path().iterdir())


@pytest.mark.parametrize("typed", ["s3:/bucket/x", "s3:bucket", "file:/x", "http:/x", "s3//bucket/x", "C:\\\\data"])
@pytest.mark.parametrize(
    "words",
    [
        "pretrain digits --data d --output",
        "pretrain digits --output o --data",
        "pretrain digits --data d --output o --project",
        "pretrain digits --data d --output o --loader.reader.cache-folder",
        "pack --source digits --out",
        "pack --out o --source",
        "knn --data d --run",
        "knn --run r --data",
        "linear --run r --data d --train",
        "linear --run r --data d --project",
        "audit r --data",
        "demo --folder",
        "demo --data",
        "launch pretrain digits --data d --output",
    ],
)
def test_a_mistyped_address_is_refused(words: str, typed: str, capfd: pytest.CaptureFixture) -> None:
    """It would be a folder of this machine, made and filled."""
    given = [*words.split(), typed]
    assert f"{given[-2]} {typed} " in refused(capfd, *given)
    assert not list(Path().iterdir())


@pytest.mark.parametrize("words", ["pretrain digits --data d --output o --project", "demo --data"])
def test_a_folder_of_this_machine_is_no_address(words: str, capfd: pytest.CaptureFixture) -> None:
    assert "takes the path of a folder of this machine" in refused(capfd, *words.split(), "s3://bucket/folder")
    assert "Write /some/folder" in refused(capfd, *words.split(), "file:///some/folder")
    assert not list(Path().iterdir())


def test_a_failing_disk_is_one_paragraph(capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if only the library that writes knows of it."""

    def fail(self: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/full/file")

    monkeypatch.setattr("hardviews.data.pack_command.Packing.run", fail)
    assert "/full/file: the disk is full" in refused(capfd, "pack", "--source", "digits", "--out", "o")


def test_frames_become_sentences() -> None:
    drawn = """
        +- Title ------------+
        | No --a, 3          |
        | ------------------ |
        | Perhaps you meant: |
        |     --b INT        |
        |     --c INT        |
        +--------------------+
    """
    box = drawn.replace("        ", "").translate({43: 0x256D, 124: 0x2502}).replace("---", 3 * "\u2500")
    assert paragraph(box) == "No --a, 3. Perhaps you meant: --b, --c."


def test_frames_without_a_box_become_the_same_sentences() -> None:
    """As tyro writes if the encoding of stdout is not UTF-8."""
    drawn = """
 Title
 ----------------------
  No --a, 3
  --------------------
  Perhaps you meant:
      --b INT
      --c INT

"""
    assert paragraph(drawn) == "No --a, 3. Perhaps you meant: --b, --c."


def test_a_strategy_on_the_command_line_is_answered_shortly(capfd: pytest.CaptureFixture) -> None:
    answer = refused(capfd, "pretrain", "digits", *PLACES, "--strategy", "RandomViews")
    assert answer.startswith("hardviews: --strategy RandomViews: a recipe chooses the strategy")
    assert 'docs/recipes.md, "Your own"' in answer and len(answer) < 600
    file = Path(answer.partition("Copy ")[2].partition(",")[0])
    assert "def digits(" in file.read_text() and (file.parent / "__init__.py").exists()


@pytest.mark.parametrize("words", ["--training.epochs x", "--nope 3", ""])
def test_a_mistake_reads_the_same_in_every_encoding(
    words: str, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = set()
    for encoding in ("utf-8", "UTF-8", "ascii", "latin-1"):
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding))
        said.add(refused(capfd, "pretrain", "digits", *(PLACES if words else ["--data", "d"]), *words.split()))
    assert len(said) == 1 and "---" not in said.pop()


@pytest.mark.parametrize(("given", "value"), [(None, "1"), ("", "1"), ("yes", "yes")])
def test_files_of_the_current_folder_stand_in_for_no_module(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture, given: str | None, value: str
) -> None:
    monkeypatch.setenv("PYTHONSAFEPATH", given or "")
    if given is None:
        monkeypatch.delenv("PYTHONSAFEPATH")
    monkeypatch.setattr(sys, "argv", ["hardviews"])
    main()
    assert os.environ["PYTHONSAFEPATH"] == value


# Mistakes beside data


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--training.batch 18", "training.batch is 18; it must be a multiple of 4"),
        ("--training.batch 18", "nearest possible sizes are 16 or 20"),
        ("--training.accumulate 1000", "Set training.accumulate to 4."),
        ("--training.batch 18 --training.accumulate 1000", "Set training.accumulate to 4 and training.batch to 16."),
        ("--training.epochs 99999999999999999999999", "it must be from 1 to 1000000000"),
        ("--training.batch 96", "at most 88"),
        ("--training.accumulate 3", "must be a multiple of 12"),
        ("--strategy.candidates 1", "choose 2 or more"),
        ("--output gopher://bucket/run", "--output: No way to open addresses that begin with 'gopher://'"),
        ("--output shards/index.json/run", "cannot be written"),
        ("--project shards/index.json", "--project"),
        ("--output shards", "--output shards lies in the packed dataset"),
        ("--output shards/run", "--output shards/run lies in the packed dataset"),
        ("--optimizer.name bnbadamw", "on this machine"),
        ("--backbone.image-size 32", "no vision transformer"),
    ],
)
def test_a_training_that_cannot_begin_leaves_nothing(words: str, said: str, data: str, capfd) -> None:
    assert said in pretrain(capfd, data, *words.split())


def test_an_output_in_either_part_of_the_data_is_refused(data: str, capfd: pytest.CaptureFixture) -> None:
    shutil.copytree(data, "both/train")
    shutil.copytree(data, "both/test")
    Path("link").symlink_to("both")
    shutil.copytree(data, "both/more")
    for output in ("both/train", "link/train/run", "both/test/run", "both/more", "both/more/a/run"):
        assert f"--output {output} lies in" in pretrain(capfd, "both", "--output", output)
        assert not Path(output, "run.json").exists()
    assert "--output both/train/run lies in" in pretrain(capfd, "both/test", "--output", "both/train/run")


@pytest.mark.skipif("__import__('torch').cuda.is_available()")
def test_a_gpu_where_there_is_none(data: str, capfd: pytest.CaptureFixture) -> None:
    assert "--precision.device cpu" in pretrain(capfd, data, "--precision.device", "cuda")


def test_more_processes_than_groups(data: str) -> None:
    from hardviews.data.shares import check_sizes

    with pytest.raises(UserError, match="too few for 5 processes"):
        check_sizes(16, 4, 1, 5)


def first_shard(data: str) -> Path:
    return Path(data, Index.load(data).shards[0].name)


BREAKS: dict[str, tuple[Callable[[str], object], str]] = {
    "no data": (shutil.rmtree, "no packed dataset"),
    "a shard is missing": (lambda data: first_shard(data).unlink(), "shard-000000.tar"),
    "a shard is cut": (lambda data: os.truncate(first_shard(data), 1000), "shard-000000.tar"),
    "the index is cut": (lambda data: os.truncate(f"{data}/index.json", 100), "index.json is cut"),
    "the table is altered": (lambda data: flip_bit(f"{data}/samples.npy", 300), "samples.npy"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_damaged_data_leaves_nothing(name: str, data: str, capfd: pytest.CaptureFixture) -> None:
    damage, said = BREAKS[name]
    for path in Path(data).iterdir():
        path.chmod(0o644)
    damage(data)
    assert said in pretrain(capfd, data)


def test_a_server_that_does_not_answer(data: str, capfd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9 cannot be used" in pretrain(capfd, data)


def test_the_first_process_of_a_container_leaves_on_sigterm(monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(os, "getpid", lambda: 1)
    try:
        main(["recipes"])
        with pytest.raises(SystemExit) as caught:
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
        interrupts._requests.forget()  # this process goes on
    assert caught.value.code == 128 + signal.SIGTERM


def test_every_command_ends_in_order_though_ctrl_c_is_pressed_again(monkeypatch, capfd):
    ended = []

    def command(words):
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGINT)
            ended.append(words)

    monkeypatch.setattr("hardviews.cli._run", command)
    with pytest.raises(SystemExit) as caught:
        main(["audit"])
    assert caught.value.code == 130 and ended == [["audit"]]
    said = capfd.readouterr().err
    assert "press Ctrl-C again to give up" in said and said.endswith("hardviews: interrupted\n")
