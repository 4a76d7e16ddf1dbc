"""The documentation holds: its commands and snippets run, its links lead somewhere, its names exist."""

import contextlib
import inspect
import io
import os
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hardviews import cli
from hardviews.arguments import parse
from hardviews.data.address import read_address
from hardviews.data.pack_command import Packing
from hardviews.data.torchvision_options import arguments
from hardviews.foreign.command import Import
from hardviews.foreign.layouts import NAMES
from tests.cluster import guide
from tests.foreign import files
from tests.stores import empty_store
from tests.tracking.servers import free_port

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
DOCUMENTS += [ROOT / "charts" / "hardviews" / "README.md"]

# Commands that another test runs, and the proof in that test's file.
ELSEWHERE = {
    r"\.venv/bin/torchx run -s local_cwd jobs/pretrain\.py --recipe \w+( -- .*)?": (
        "tests/test_demo_command.py",
        "$ torchx run -s local_cwd jobs/{job}",
    ),
}
# Options of `torchx run`, `mlflow server`, `mlflow migrate-filestore` and `helm package`, and of the benchmarks.
OTHERS = {"--dryrun", "--wait", "--allowed-hosts", "--serve-artifacts", "--artifacts-destination"}
OTHERS |= {
    "--source",
    "--target",
    "--cluster",
    "--set",
    "--s3",
    "--latency",
    "--only",
    "--time",
    "--strength",
    "--destination",
    "--packages",
    "--nodes",
    "--out",
    "--minutes",
    "--toy",
    "--carry",
    "--one-process",
    "--to",
}
OTHERS |= {"--signal", "--no-kill", "--container-image"}  # of Slurm's programs
# Outputs, prefixes of metrics, and what a house rule forbids.
NO_PATHS = {"checkpoints/step-XXXXXXXX/", "lives/", "encoder/", "figures/", "pixels/", "untrained/", "utils.py"}
NO_PATHS |= {"online/", "health/projector/"}
# Documents whose commands a test runs in order.
FOLLOWED = ("README.md", "recipes.md", "data.md", "evaluation.md", "export.md", "health.md")
FOLLOWED += ("finetuning.md", "import.md", "own_loop.md", "doctor.md", "first_run.md")
VARIABLES = {"HARDVIEWS_DATA", "HARDVIEWS_OUTPUT", "MLFLOW_TRACKING_URI"}


@dataclass(frozen=True)
class Block:
    """A fenced block of a document."""

    document: Path
    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        return [line.partition("  #")[0].strip() for line in self.text.splitlines() if line.strip()]


def blocks(document: Path) -> list[Block]:
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", document.read_text(), re.MULTILINE | re.DOTALL)
    return [Block(document, language or "sh", text) for language, text in fences]


def commands(program: str) -> list[str]:
    found = [c for d in DOCUMENTS for b in blocks(d) if b.language == "sh" for c in b.commands]
    return list(dict.fromkeys(c for c in found if re.match(rf"(\.venv/bin/)?{program}\b", c)))


def make_photos(folder: Path, number: int = 330) -> None:
    """Small pictures of two kinds: stripes and dots on random colours."""
    random = np.random.default_rng(0)
    for name in ("dots", "stripes"):
        (folder / name).mkdir(parents=True)
        for i in range(number // 2):
            picture = np.empty((40, 48, 3), np.uint8)
            picture[:] = random.integers(0, 255, 3)
            colour = random.integers(0, 255, 3)
            if name == "stripes":
                picture[:: random.integers(3, 8)] = colour
            else:
                picture[:: random.integers(3, 8), :: random.integers(3, 8)] = colour
            Image.fromarray(picture).save(folder / name / f"{i:03d}.png")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos") / "photos"
    make_photos(folder)
    return folder


def hardviews(words: list[str]) -> str:
    """Run a command as `hardviews` would; return its output."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            cli.main(words)
        except SystemExit as ended:
            assert not ended.code, f"hardviews {shlex.join(words)}: exit code {ended.code}"
    return printed.getvalue()


def follow(document: Path) -> dict[str, str]:
    """Run a document's hardviews commands and snippets in order, in the current folder; return the output of each."""
    printed, names = {}, {"__name__": "__main__"}
    for block in blocks(document):
        if block.language == "python":
            code = compile(block.text, f"snippet of {document.name}", "exec", dont_inherit=True)
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(code, names)
            printed[block.text] = out.getvalue()
        elif block.language == "sh":
            for command in block.commands:
                words = shlex.split(command)
                if words[0] == ".venv/bin/hardviews":
                    printed[command] = hardviews(words[1:])
    return printed


@pytest.fixture
def workplace(photos, tmp_path, monkeypatch):
    """A folder with photographs, and a tracking store that took no time to make."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").symlink_to(photos)
    shutil.copytree(empty_store(), tmp_path / ".hardviews")
    return tmp_path


def test_readme(workplace):
    printed = follow(ROOT / "README.md")
    tables = [text for command, text in printed.items() if "hardviews knn" in command or "hardviews linear" in command]
    assert len(tables) == 2
    for table in tables:
        assert all(row in table for row in ("raw pixels", "untrained encoder", "pretrained encoder"))
    assert any("torch.Size([8, " in text for text in printed.values())


@pytest.mark.walkthrough
@pytest.mark.timeout(1800)  # two trainings of the whole recipe
def test_first_run(workplace):
    printed = follow(ROOT / "docs" / "first_run.md")
    assert "runs/hard: ok" in printed[".venv/bin/hardviews health runs/hard"]
    for run in ("hard", "random"):
        table = printed[f".venv/bin/hardviews knn --run runs/{run} --data shards"]
        scores = re.findall(r"(untrained|pretrained) encoder +([\d.]+)", table)
        assert [name for name, _ in scores] == ["untrained", "pretrained"]
        assert float(scores[1][1]) > float(scores[0][1])
    compared = printed[".venv/bin/hardviews compare runs/hard runs/random"]
    assert re.search(r"knn \S+/test: top-1 on 355 test images", compared)


@pytest.mark.walkthrough
def test_recipes(workplace):
    with contextlib.redirect_stdout(io.StringIO()):
        Packing("photos", "shards").run()
    printed = follow(ROOT / "docs" / "recipes.md")
    assert "digits" in printed[".venv/bin/hardviews recipes"]
    assert (workplace / "runs" / "mine" / "encoder" / "encoder.safetensors").exists()
    table = re.search(r"\| metric \|.*?\n\n", (ROOT / "docs" / "tracking.md").read_text(), re.DOTALL)[0]
    described = set(re.findall(r"`([\w/]+)`", " ".join(row.split("|")[1] for row in table.strip().splitlines())))
    recorded = (workplace / "runs" / "mine" / "history.jsonl").read_text()
    # by evaluations; of labelled data; of data that is not local
    elsewhere = {"knn/top1_k20", "linear/top1"} | {"online/knn_top1_k20", "online/fewshot_top1_k10"}
    elsewhere |= {"data/bytes_fetched", "loss/regulariser"}  # the latter of methods that have one
    assert {name for name in described - elsewhere if f'"{name}"' not in recorded} == set()


def test_data(workplace):
    printed = follow(ROOT / "docs" / "data.md")
    snippet = next(text for text in printed.values() if "images of dots" in text)
    assert "270 images of dots, stripes" in snippet


@pytest.mark.walkthrough
@pytest.mark.timeout(900)  # seven evaluations and three trainings
def test_evaluation(workplace):
    with contextlib.redirect_stdout(io.StringIO()):
        Packing("photos", "shards").run()
    for seed, run in enumerate(("mine", "other")):
        words = ["pretrain", "smoke", "--data", "shards", "--output", f"runs/{run}", "--training.seed", str(seed)]
        hardviews([*words, "--training.epochs", "1"])
    printed = follow(ROOT / "docs" / "evaluation.md")
    compared = printed[".venv/bin/hardviews compare runs/mine runs/other"]
    assert re.search(r"knn \S+/test: top-1 on 60 test images", compared)
    assert "linear" not in compared  # which the other one lacks
    classified = [text for command, text in printed.items() if "hardviews classify" in command]
    assert len(classified) == 2
    assert all("accuracy of the classifier" in text and "stripes" in text for text in classified)


@pytest.mark.walkthrough
def test_export(workplace):
    printed = follow(ROOT / "docs" / "export.md")
    assert any("torch.Size([1, " in text for text in printed.values())
    assert "pretrained=True" in printed[".venv/bin/hardviews export runs/digits --format timm"]
    assert "apache-2.0" in (workplace / "export-huggingface" / "README.md").read_text()
    card = (workplace / "export-card" / "README.md").read_text()
    assert "| dataset | shards |" in card and "| images in the dataset | 1,442 |" in card and "Finished at step" in card


@pytest.mark.walkthrough
def test_health(workplace):
    printed = follow(ROOT / "docs" / "health.md")
    assert "runs/first: ok" in printed[".venv/bin/hardviews health runs/first"]
    recorded = (workplace / "runs" / "first" / "history.jsonl").read_text()
    table = re.search(r"\| figure \|.*?\n\n", (ROOT / "docs" / "health.md").read_text(), re.DOTALL)[0]
    described = set(re.findall(r"`([\w/]+)`", " ".join(row.split("|")[1] for row in table.strip().splitlines())))
    assert len(described) == 10
    assert {name for name in described if f'"{name}"' not in recorded} == set()


@pytest.mark.walkthrough
def test_finetuning(workplace):
    printed = follow(ROOT / "docs" / "finetuning.md")
    assert "0 samples lost, 0 repeated" in printed[".venv/bin/hardviews audit runs/tuned"]
    assert (
        "shards-10/train: 144 images"
        in printed[".venv/bin/hardviews pack --source shards --labels 10% --out shards-10"]
    )


def test_import(workplace):
    (workplace / "downloads").mkdir()
    files.save(files.simsiam(files.resnet()), workplace / "downloads" / "checkpoint_0099.pth.tar")
    files.save(files.dino(files.vit()), workplace / "downloads" / "checkpoint.pth")
    printed = follow(ROOT / "docs" / "import.md")
    compared = printed[".venv/bin/hardviews compare runs/simsiam runs/dino"]
    assert re.search(r"knn \S+/test: top-1 on \d+ test images", compared)
    assert "hardviews did not train it" in (workplace / "export-card" / "README.md").read_text()


def test_doctor(workplace):
    printed = follow(ROOT / "docs" / "doctor.md")
    assert "Nothing that was checked is missing." in printed[".venv/bin/hardviews doctor"]


def test_own_loop(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    plain, lightly, lightning = follow(ROOT / "docs" / "own_loop.md").values()
    assert len(plain.splitlines()) == 3
    theirs, ours = re.search(r"lightly's loss (\S+), .* average (\S+)", lightly).groups()
    assert theirs == ours
    assert "4 steps on hard views" in lightning


def test_commands_of_public_files():
    """No file is here to run them with; the layouts are tested in tests/foreign."""
    text = (ROOT / "docs" / "import.md").read_text()
    found = re.findall(r"`hardviews (import \S+ --.*?)`", text)
    assert len(found) > 15
    configs = [parse(Import, shlex.split(command)[1:], "import") for command in found]
    assert {config.layout for config in configs} == set(NAMES) - {"timm"}
    described = re.search(r"\| `--layout` \|.*?\n\n", text, re.DOTALL)[0]
    assert set(re.findall(r"^\| `(\w+)` \|", described, re.MULTILINE)) == set(NAMES)


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if d.name not in FOLLOWED])
def test_other_documents_hold_no_snippet(document):
    """One that does needs a test like those above."""
    assert [b for b in blocks(document) if b.language == "python"] == []
    assert [c for b in blocks(document) if b.language == "sh" for c in b.commands if "bin/hardviews" in c] == []


def test_every_command_is_run():
    known = r"make |\.venv/bin/(hardviews|mlflow ui|python benchmarks/|python -m pytest) ?"
    for document in DOCUMENTS:
        for block in blocks(document):
            assert block.language in ("sh", "python", "text"), f"{document.name}: {block.text}"
            for command in block.commands if block.language == "sh" else []:
                if document == guide.DOCUMENT and command in guide.commands():
                    continue  # the cluster tests run them, and a test there says whether all of them
                if command.startswith("export "):
                    assert {word.partition("=")[0] for word in command.split()[1:]} <= VARIABLES
                    continue
                found = [place for pattern, place in ELSEWHERE.items() if re.fullmatch(pattern, command)]
                assert found or re.match(known, command), f"no test runs: {command}"
                for file, needle in found:
                    assert needle in (ROOT / file).read_text()


@pytest.mark.parametrize("command", commands("make"))
def test_make_targets(command):
    target, *settings = shlex.split(command)[1:]
    planned = subprocess.run(["make", "-n", target, *settings], cwd=ROOT, capture_output=True, text=True)
    assert planned.returncode == 0, planned.stderr
    if target == "demo":
        assert f"hardviews demo{' --data' if settings else ''}" in planned.stdout


@pytest.mark.parametrize("command", commands("python benchmarks/"))
def test_benchmarks(command, monkeypatch, capsys):
    """They are long; `make bench` runs them. Here each is loaded and explains itself."""
    program, *words = shlex.split(command)[1:]
    monkeypatch.setattr(sys, "argv", [program, *words, "--help"])
    monkeypatch.syspath_prepend(str((ROOT / program).parent))  # as Python does for a program
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / program), run_name="__main__")
    assert ended.value.code == 0
    assert program in capsys.readouterr().out


@pytest.mark.parametrize("command", commands("python -m pytest"))
def test_pytest_paths(command):
    paths = [word for word in shlex.split(command)[3:] if word.startswith("tests/")]
    assert paths
    assert all((ROOT / path).exists() for path in paths)


@pytest.mark.parametrize("command", commands("mlflow ui"))
def test_the_pages_open(command, workplace):
    program, *words = shlex.split(command)
    port = free_port()
    started = [str(Path(sys.executable).parent / Path(program).name), *words, "--port", str(port), "--workers", "1"]
    variables = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with open("server.log", "wb") as log:
        server = subprocess.Popen(started, stdout=log, stderr=log, start_new_session=True, env=variables)
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                page = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < deadline, Path("server.log").read_text()
                time.sleep(0.2)
        assert b"MLflow" in page
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(10)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_links(document):
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path) if path else document
        assert file.exists(), f"{document.name} links to {target}"
        assert file.resolve().is_relative_to(ROOT)
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_paths_in_text(document):
    """A path in `code` lies in the checkout, or in the package as the concepts write it."""
    text = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    bases = (ROOT, ROOT / "platform" / "hardviews", ROOT / "platform" / "hardviews" / "methods")
    bases += (ROOT / "platform" / "hardviews" / "strategies", ROOT / "platform" / "hardviews" / "recipes")
    for path in re.findall(r"`([\w./-]+(?:\.py|\.md|\.toml|/))`", text):
        if "NAME" not in path and path not in NO_PATHS:
            assert any((base / path).exists() for base in bases), f"{document.name}: {path}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_torchvision_options_in_text(document):
    """No archive is here to run these commands and addresses with; torchvision's classes have these options."""
    text = document.read_text()
    for address in re.findall(r"torchvision:[\w?=&.+]+", text):
        if address != "torchvision:NAME?root=FOLDER":
            given = read_address(address)
            assert arguments(str(given.torchvision), None, given.options), address
    for command in re.findall(r"^hardviews (pack .*--torchvision.*)$", text, re.MULTILINE):
        packing = parse(Packing, shlex.split(command)[1:], "pack")
        for options in (packing.given.options, packing.given.test_options):
            assert arguments(str(packing.torchvision), None, options), command


@cache
def help_texts() -> str:
    pages = [
        ["pretrain", "digits"],
        ["pretrain", "photos"],
        ["pretrain", "digits_dino"],
        ["finetune"],
        ["estimate", "digits"],
        ["pack"],
        ["knn"],
        ["linear"],
        ["fewshot"],
        ["transfer"],
        ["classify"],
        ["export"],
        ["health"],
        ["import"],
        ["compare", "a", "b"],
        ["demo"],
        ["launch"],
        ["validate"],
        ["runs"],
        ["doctor"],
        ["bug-report"],
    ]
    return "\n".join(hardviews([*page, "--help"]) for page in pages)


@cache
def job_options() -> set[str]:
    """Arguments of the components."""
    jobs = [runpy.run_path(str(file))[file.stem] for file in sorted((ROOT / "jobs").glob("*.py"))]
    return {f"--{name}" for job in jobs for name in inspect.signature(job).parameters}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_options_in_text(document):
    for code in re.findall(r"`([^`\n]+)`", document.read_text()):
        for option in re.findall(r"(?<!\S)--[a-z][\w.-]*", code):
            known = re.search(rf"{re.escape(option)}\b", help_texts())
            assert known or option in job_options() | OTHERS, f"{document.name}: {option}"


def test_a_wrong_option_and_a_wrong_command_are_found():
    """The tests above can fail."""
    assert not re.search(r"--strategy\.candidate\b", help_texts())
    with pytest.raises(AssertionError, match="exit code 2"):
        hardviews(["pretrain", "nobody"])
