"""Options and table of `benchmarks/evidence.py`."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def evidence() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import evidence

        yield evidence
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
        for name in [name for name in sys.modules if name.partition(".")[0] in ("comparing", "evidence")]:
            del sys.modules[name]


def words(**changed: object) -> argparse.Namespace:
    defaults = {"images": None, "data": None, "budgets": ("flops", "time"), "first_seed": 0, "seeds": 2}
    return argparse.Namespace(**{**defaults, "methods": ("simclr",), "arms": ("plain", "cheap"), **changed})


def test_the_transfer_is_on_the_other_kind_of_images(evidence: ModuleType, tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    assert evidence.named(words(), parser) == ("emoji", "photographs")
    assert evidence.named(words(images="photographs"), parser) == ("photographs", "emoji")
    own = tmp_path / "mine"
    for part in ("train", "test"):
        (own / part).mkdir(parents=True)
    assert evidence.named(words(data=own), parser) == ("mine", "photographs")
    assert evidence.named(words(data=own, images="emoji"), parser) == ("mine", "emoji")


@pytest.mark.parametrize(
    ("name", "parts", "why"),
    [("mine", ("train",), "has no folder test"), ("emoji", ("train", "test"), "packages ship images that are called")],
)
def test_a_folder_that_cannot_serve_is_refused(
    name: str,
    parts: tuple[str, ...],
    why: str,
    evidence: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for part in parts:
        (tmp_path / name / part).mkdir(parents=True)
    with pytest.raises(SystemExit):
        evidence.named(words(data=tmp_path / name), argparse.ArgumentParser())
    assert why in capsys.readouterr().err


def test_another_folder_of_the_same_name_does_not_get_the_images_of_the_first(
    evidence: ModuleType, tmp_path: Path
) -> None:
    index = tmp_path / "mine" / "test" / "index.json"
    index.parent.mkdir(parents=True)
    index.touch()
    first, second = (tmp_path / name / "mine" for name in ("first", "second"))
    (tmp_path / "mine.source").write_text(str(first))
    evidence.pack("mine", first, None, tmp_path)
    with pytest.raises(SystemExit, match="has the images of"):
        evidence.pack("mine", second, None, tmp_path)


def test_plain_runs_serve_both_budgets_and_seeds_begin_at_the_first(evidence: ModuleType) -> None:
    found = [(job.arm, job.budget, job.seed) for job in evidence.jobs(words(first_seed=3, seeds=2))]
    flops = [(arm, "flops", seed) for seed in (3, 4) for arm in ("plain", "cheap")]
    assert found == [*flops, ("cheap", "time", 3), ("cheap", "time", 4)]


def test_the_name_of_results_tells_another_precision_and_device(evidence: ModuleType) -> None:
    sizes = ("emoji", "photographs", 96, 48, 96, 20)
    assert evidence.Setting(*sizes).name == "emoji-96px-48px-20epochs"
    assert evidence.Setting(*sizes, "bfloat16").name == "emoji-96px-48px-20epochs-bfloat16"
    assert evidence.Setting(*sizes, "float32", "cuda").name == "emoji-96px-48px-20epochs-cuda"
    assert evidence.Setting(*sizes, "bfloat16").recipe("simclr", "plain", 1, 0).precision.compute == "bfloat16"


def test_the_table_pairs_seeds(evidence: ModuleType) -> None:
    def row(arm: str, seed: int, epochs: int, seconds: float | None, knn: float) -> dict[str, object]:
        found = {"method": "simclr", "arm": arm, "budget": "flops", "seed": seed, "epochs": epochs, "share": 1.0}
        found |= {"seconds_per_epoch": seconds, "recovered": None, "knn": knn, "linear": 50.0, "transfer": 80.0}
        return found

    plain = [row("plain", 0, 20, 10.0, 50.0), row("plain", 1, 20, 40.0, 60.0), row("plain", 2, 20, 10.0, 40.0)]
    cheap = [row("cheap", 0, 10, 24.0, 52.0), row("cheap", 1, 10, None, 66.0)]
    lines = evidence.table([*plain, *cheap], "flops").splitlines()
    cells = [cell.strip() for cell in lines[-1].strip("|").split("|")]
    # Time: 10 x 24 over 20 x 10; the second run was stopped in between. Differences: 2 and 6, deviation 2.83.
    assert cells[:5] == ["cheap", "2", "10", "1.00", "1.20"]
    assert cells[6:8] == ["59.0", f"+4.0 +- {12.7062 * 8**0.5 / 2**0.5:.1f}"]
    assert lines[2].count("|") == lines[3].count("|") == lines[-1].count("|")
