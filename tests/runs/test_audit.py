"""The audit believes a run that is as it should be, through deaths and other worlds, and no other."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

import pytest

from hardviews.data.index import Index
from hardviews.data.reader import Reader, ReaderConfig
from hardviews.errors import UserError
from hardviews.runs.audit import Audit, Report, audit, run_audit
from hardviews.runs.checkpoint import Checkpoints
from hardviews.runs.manifest import MANIFEST, Manifest
from hardviews.storage.store import open_store
from hardviews.train.feed import Feed
from hardviews.train.loader import LoaderConfig, RawBatch
from tests.data.helpers import flip_bit
from tests.train.runs import BATCH, SAMPLES, STEPS, packed, simclr, train


@pytest.fixture
def run(data: str, untracked: Path) -> Path:
    return train(simclr(2, checkpoint_steps=2), data, untracked / "run", dies=(3, STEPS + 2))


def test_a_run_that_died_twice_lost_and_repeated_nothing(data: str, run: Path) -> None:
    report = audit(str(run))
    assert not report.problems and (report.lost, report.repeated) == (0, 0)
    assert report.step == 2 * STEPS and report.verdict.startswith("0 samples lost, 0 repeated: ")
    assert [(epoch.expected, len(epoch.left_out)) for epoch in report.epochs] == [(STEPS * BATCH, 10)] * 2
    # The samples that an epoch leaves out and those that it trained on are all samples.
    order = Reader(data).order(0, 1, BATCH, 4)
    used = set(order.indices(0, STEPS * BATCH).tolist())
    assert used | set(report.epochs[1].left_out) == set(range(SAMPLES)) and len(used) == STEPS * BATCH
    # Step 4 was under way at the first death, with three taken and two saved; likewise at the second.
    assert [(life.number, life.resumed, life.end) for life in report.lives] == [
        (1, 0, "interrupted"),
        (2, 2, "interrupted"),
        (3, 6, "finished"),
    ]
    assert [life.rolled_back for life in report.lives] == [0, 1, 1] and report.rolled_back == 2


def test_a_run_under_way_is_whole_as_far_as_it_came(data: str, untracked: Path) -> None:
    output = untracked / "run"
    with pytest.raises(AssertionError, match="not reached"):
        train(simclr(1, checkpoint_steps=2), data, output, dies=(4, 99))
    for name in Checkpoints(str(output)).names()[:1]:
        open_store(str(output)).remove_folder(f"checkpoints/{name}")
    report = audit(str(output), data)
    assert not report.problems and report.step < STEPS
    assert report.epochs[0].expected == report.step * BATCH and report.epochs[0].left_out == ()


def test_stand_ins_are_counted_and_their_positions_are_used(untracked: Path) -> None:
    shards = packed(untracked / "shards")
    index = Index.load(shards)
    for position in (BATCH, 3 * BATCH + 1):
        row = index.samples[int(Reader(index).order(0, 0, BATCH, 4).indices(position, position + 1)[0])]
        flip_bit(f"{shards}/{index.shards[int(row['shard'])].name}", int(row["offset"]) + 30)
    recipe = replace(simclr(1), loader=LoaderConfig(ReaderConfig("substitute", most_corrupt=0.1), workers=0))
    report = audit(str(train(recipe, shards, untracked / "run")), shards)
    assert not report.problems and report.epochs[0].substituted == 2


# Planted faults


def faulty(change: Callable[[list[RawBatch]], Iterator[RawBatch]]) -> Callable[..., Iterator[RawBatch]]:
    """Return a `Feed.batches` whose batches are changed on their way to the step."""
    original = Feed.batches

    def batches(self: Feed, progress: int, epochs: int) -> Iterator[RawBatch]:
        made = original(self, progress, epochs)
        yield from chain(change(list(islice(made, STEPS))), made)

    return batches


def skipped(made: list[RawBatch]) -> Iterator[RawBatch]:
    # The one after is trained on in its place, so that the counters do not show it.
    yield from [*made[:2], *made[3:], made[4]]


def repeated(made: list[RawBatch]) -> Iterator[RawBatch]:
    yield from [*made[:3], made[2], made[4]]


def swapped(made: list[RawBatch]) -> Iterator[RawBatch]:
    for number, raw in enumerate(made):
        if number == 1:
            raw.named[[0, 1]] = raw.named[[1, 0]]
        yield raw


@pytest.mark.parametrize("fault", [skipped, repeated, swapped])
def test_a_fault_on_the_way_to_the_step_is_found(
    data: str,
    untracked: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    fault: Callable,
) -> None:
    monkeypatch.setattr(Feed, "batches", faulty(fault))
    output = str(train(simclr(1), data, untracked / "run"))
    assert "other samples than the order names" in audit(output, data).verdict
    with pytest.raises(SystemExit) as end:
        run_audit(Audit(output, data))
    assert end.value.code == 1 and "NOT exactly once" in capsys.readouterr().out


def test_a_sample_read_for_another_is_found(data: str, untracked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Reader.read

    def read(self: Reader, indices, positions=None, **options) -> list:
        wanted = [int(i) for i in indices]
        return original(self, [wanted[0], *wanted[:-1]], positions, **options)

    monkeypatch.setattr(Reader, "read", read)
    output = str(train(simclr(1), data, untracked / "run"))
    assert "other samples than the order names" in audit(output, data).verdict


def tampered(output: Path, change: Callable[[dict], None], sealed: bool) -> None:
    """Change the newest manifest; sealed: with the checksum that fits."""
    checkpoints = Checkpoints(str(output))
    file = f"{checkpoints.names()[0]}/{MANIFEST}"
    content = json.loads(checkpoints.store.read(file))
    change(content)
    data = json.dumps(content).encode()
    if sealed:
        from hardviews.runs.manifest import _own_checksum

        del content["crc32"]
        data = json.dumps(content | {"crc32": _own_checksum(content)}).encode()
        Manifest.decode(data, file)
    checkpoints.store.write(file, data)


def shorten(content: dict) -> None:
    content["ledger"][0]["stop"] -= BATCH


def drop(content: dict) -> None:
    del content["ledger"][0]


def double(content: dict) -> None:
    content["ledger"].append(content["ledger"][0])


def relabel(content: dict) -> None:
    content["ledger"][-1]["epoch"] = 0


def advance(content: dict) -> None:
    content["progress"]["step"] += 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (shorten, f"{BATCH} positions were not trained on"),
        (drop, "positions were not trained on"),
        (double, "more than once"),
        (relabel, "other samples"),
        (advance, "the checkpoint stands at step 11"),
    ],
)
def test_a_manifest_that_was_tampered_with_is_found(data: str, run: Path, change: Callable, said: str) -> None:
    tampered(run, change, sealed=True)
    assert said in audit(str(run), data).verdict


def test_a_damaged_checkpoint_is_reported(data: str, run: Path) -> None:
    tampered(run, advance, sealed=False)
    report: Report = audit(str(run), data)
    assert "step-00000010 is damaged: manifest.json contradicts its own checksum" in report.verdict
    assert report.step == 8 and (report.lost, report.repeated) == (0, 0)


# As a command


def test_the_table_and_the_json_say_the_same(data: str, run: Path, capsys: pytest.CaptureFixture) -> None:
    run_audit(Audit(str(run), data))
    told = capsys.readouterr().out
    assert "0 samples lost, 0 repeated" in told and "steps rolled back and run again: " in told
    run_audit(Audit(str(run), data, json=True))
    content = json.loads(capsys.readouterr().out)
    assert content["exactly_once"] and content["lost"] == content["repeated"] == 0
    assert len(content["epochs"][0]["left_out"]) == 10 and len(content["lives"]) == 3


def test_what_is_no_run_or_another_dataset_is_refused(data: str, run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no run\.json"):
        audit(str(tmp_path / "nowhere"), data)
    with pytest.raises(UserError, match="another dataset"):
        audit(str(run), packed(tmp_path / "other", 60))
    open_store(str(run)).remove_folder("checkpoints")
    with pytest.raises(UserError, match="no whole checkpoint"):
        audit(str(run), data)
