"""The GPU benchmark on a CPU, with toys: every part works, and a part that fails is reported."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hardviews.train.trainer import without_numbers

ROOT = Path(__file__).parents[1]
BENCHMARKS = str(ROOT / "benchmarks")
CARRIED = ("opencv-python-headless", "scipy", "simplejpeg")
# Runs the program as if only the packages of docs/development.md were installed, and those that come with torch,
# torchvision, timm and numpy.
LEAN = f'''
import sys
from importlib import metadata
sys.path[:0] = [{BENCHMARKS!r}, {str(ROOT / "platform")!r}]
from on_gpu.carrying import carried, with_needs

allowed = with_needs(("torch", "torchvision", "timm", "numpy")) | {set(CARRIED)!r}
tops = metadata.packages_distributions()
refused = {{top for top, names in tops.items() if not {{name.lower().replace("_", "-") for name in names}} & allowed}}
refused -= {{"hardviews"}}
assert {{"mlflow", "s3fs", "torchx", "kubernetes", "tyro", "pynvml"}} <= refused, refused

class Lean:
    """A finder that does not find some packages."""

    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in refused else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Lean(finder) for finder in sys.meta_path]
import gpu

sys.argv = ["gpu.py", "--toy", "--minutes", "60", "--out", sys.argv[1]]
ended = gpu.main()
assert set(carried()) == {set(CARRIED)!r}, carried()
sys.exit(ended)
'''
WAYS = ("plain", "exact HVS", "cheap HVS")


def test_every_part_works_with_few_packages(tmp_path):
    out = tmp_path / "gpu.json"
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", LEAN, str(out)], cwd=tmp_path, capture_output=True, text=True, env=variables
    )
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads(out.read_text())
    assert content["complete"]
    found = {(row["part"], row["what"]): row for row in content["results"]}
    expected = [
        ("renderer", f"{view} px") for view in ("MoCo v2 view, 32", "DINO second view, 32", "DINO local view, 16")
    ]
    expected += [("steps", f"{method}, {way}") for method in ("SimSiam", "DINO", "MoCo") for way in WAYS]
    expected += [("steps", f"MoCo, {way}") for way in ("HEXA", "HEXA cheap", "HEXA turns")]
    expected += [("steps", f"SimSiam, {way}, rendered") for way in WAYS]
    expected += [("one rank", "collectives by gloo"), ("one rank", "step by gloo against none")]
    expected += [("resume", f"{method}, exact HVS") for method in ("SimSiam", "DINO")]
    expected += [("compile", f"{method}, compiled") for method in ("SimSiam", "DINO")]
    expected += [("pretrain", "by the command line")]
    assert list(found) == expected
    status = {name: row["status"] for name, row in found.items()}
    assert status.pop(("pretrain", "by the command line")) == "needs a GPU"
    assert set(status.values()) == {"ok"}
    # A CPU computes the same sums twice: nothing may differ here.
    for method in ("SimSiam", "DINO"):
        resumed = found["resume", f"{method}, exact HVS"]["numbers"]
        assert resumed["went_on"] == resumed["resumed"]
        assert resumed["weights"] == 0
    flops = {way: found["steps", f"MoCo, {way}"]["numbers"]["flops"] for way in (*WAYS, "HEXA", "HEXA cheap")}
    assert flops["plain"] < flops["cheap HVS"] < flops["exact HVS"]
    assert flops["plain"] < flops["HEXA cheap"] < flops["HEXA"]
    table = done.stdout.rpartition("\n\npart ")[2].splitlines()
    for part, what in expected:
        assert [line for line in table if part in line and what in line]


@pytest.fixture
def course(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from on_gpu import apart, case, course, scale, table

    yield apart, case, course, scale, table
    for name in [name for name in sys.modules if name.partition(".")[0] in ("on_gpu", "stepping")]:
        del sys.modules[name]


def test_a_case_that_fails_is_reported_and_the_rest_goes_on(course, tmp_path):
    _, case, course, scale, table = course

    def raising(scale):
        yield case.Row("before")
        raise ValueError("the sum is wrong\nand more")

    def dying(scale):
        os._exit(3)
        yield

    cases = [
        case.Case("first", "raising", raising, 0, 100),
        case.Case("first", "dying", dying, 0, 100),
        case.Case("second", "works", lambda scale: iter([case.Row("works", ms=1.5, ratio=2.0)]), 0, 100),
        case.Case("second", "card", dying, 0, 100, gpu=True),
        case.Case("second", "long", dying, 10_000, 10_000),
    ]
    results = list(course.course(cases, scale.toy(), time.monotonic() + 1000))
    assert [(one.row.what, one.row.status, one.row.text) for one in results] == [
        ("before", "ok", ""),
        ("raising", "failed", "ValueError: the sum is wrong"),
        ("dying", "failed", "its process ended with exit code 3"),
        ("works", "ok", ""),
        ("card", "needs a GPU", ""),
        ("long", "left out", "no time"),
    ]
    assert [one.row.bad for one in results] == [False, True, True, False, False, False]
    assert "in raising" in results[1].row.numbers["traceback"]
    text = table.table(results)
    assert "first: raising: failed; ValueError: the sum is wrong" in text
    table.write(tmp_path / "out.json", {}, results, whole=True)
    written = json.loads((tmp_path / "out.json").read_text())["results"]
    assert written[3] == {"part": "second", "what": "works", "status": "ok", "ms": 1.5, "ratio": 2.0}


def test_the_same_in_one_process(course):
    apart, case, course, scale, _ = course

    def raising(scale):
        yield case.Row(str(os.getpid()))
        raise ValueError("the sum is wrong")

    cases = [case.Case("first", "raising", raising, 0, 100)]
    full = scale.Scale(False, scale.torch.device("cpu"))
    results = list(course.course(cases, full, time.monotonic() + 1000, apart.together))
    assert [(one.row.what, one.row.text) for one in results] == [
        (str(os.getpid()), ""),
        ("raising", "ValueError: the sum is wrong"),
    ]


def test_work_that_hangs_is_stopped(course):
    apart, *_ = course

    def hanging():
        yield os.getpid()
        while True:
            time.sleep(60)

    with pytest.raises(apart.Broken, match="stopped after 0 s"):
        next(apart.apart(hanging, 0.0))
    work = apart.apart(hanging, 1000.0)
    process = next(work)
    work.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_peaks_are_those_of_the_card(course):
    from on_gpu.machine import peak_of

    assert peak_of("NVIDIA H200") == peak_of("NVIDIA H100 80GB HBM3") == 989e12
    assert peak_of("NVIDIA A100-SXM4-80GB") == 312e12
    assert peak_of("NVIDIA H100 PCIe") is None
    assert peak_of("NVIDIA GeForce RTX 4090") is None
    assert peak_of(None) is None


def test_the_batch_of_one_gpu_is_the_published_one(course):
    scale = course[3]
    full = scale.Scale(False, scale.torch.device("cuda", 0))
    batches = {subject.title: subject.recipe.training.batch for subject in (full.simsiam(), full.dino(), full.moco())}
    assert batches == {"SimSiam R50": 64, "DINO ViT-S/16": 64, "MoCo-v2 R50": 32}
    for subject in (full.simsiam(), full.dino(), full.moco()):
        for way in subject.ways:
            assert without_numbers(subject.under(way)) is not None
