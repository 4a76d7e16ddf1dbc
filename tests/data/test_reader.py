"""The reader: exactly once at any number of ranks and workers, checked bytes, counted substitution."""

import os
import pickle
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hardviews.data.counters import Counters
from hardviews.data.index import Index
from hardviews.data.pack import pack
from hardviews.data.reader import Reader, ReaderConfig
from hardviews.data.sample import Sample
from hardviews.data.shares import Portion
from hardviews.errors import UserError
from hardviews.views.decode import DecodeError, decode
from tests.data.helpers import Noise, content, flip_bit, web_server, write_dataset

SUBSTITUTE = ReaderConfig(on_corrupt="substitute", most_corrupt=0.1)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> list[Index]:
    random = np.random.default_rng(0)
    shapes = [[200], [1] * 90, [40, 1, 99, 3, 57], random.integers(1, 40, 17).tolist(), [64] * 8]
    return [write_dataset(str(tmp_path_factory.mktemp("data")), counts) for counts in shapes]


def run(reader: Reader, plan: dict, consumed: int, steps: int | None, world: int, workers: int) -> tuple[list, int]:
    """The samples of a job of `world` ranks with `workers` loader processes each, in the order of a loader."""
    accumulate = plan["accumulate"]
    seen: list[tuple[int, int]] = []
    per_rank: list[list[list[tuple[int, int]]]] = []
    for rank in range(world):
        streams = [
            reader.iterate(
                Portion(**plan, consumed=consumed, rank=rank, world=world), worker=worker, workers=max(1, workers)
            )
            for worker in range(max(1, workers))
        ]
        shares, number = [], 0
        while steps is None or number < steps * accumulate:
            share = next(streams[number % len(streams)], None)
            if share is None:
                break
            assert [s.position for s in share.samples] == list(range(share.first, share.last))
            shares.append([(s.position, s.index) for s in share.samples])
            number += 1
        per_rank.append(shares)
    counts = {len(shares) for shares in per_rank}
    assert len(counts) == 1  # every rank has as many steps
    for micro in zip(*per_rank, strict=True):
        seen += [sample for share in micro for sample in share]
    return seen, consumed + len(seen)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_exactly_once_through_any_restarts(datasets: list[Index], data: st.DataObject) -> None:
    index = data.draw(st.sampled_from(datasets))
    group = data.draw(st.sampled_from([1, 2, 4]))
    groups = data.draw(st.integers(1, 8))
    accumulate = data.draw(st.sampled_from([1, 1, 2, 3]))
    global_batch = group * groups * accumulate
    assume(global_batch <= len(index.samples) // group * group)  # a smaller data set has no order: it is refused
    window = data.draw(st.sampled_from([None, 1, 2]))
    streams = data.draw(st.sampled_from([None, *(c for c in (1, 2, 4) if global_batch % c == 0)]))
    plan = {
        "seed": data.draw(st.integers(0, 99)),
        "epoch": data.draw(st.integers(0, 9)),
        "global_batch": global_batch,
        "group": group,
        "accumulate": accumulate,
    }
    reader = Reader(index, ReaderConfig(streams=streams, window=window))
    order = reader.order(plan["seed"], plan["epoch"], global_batch, group)
    expected = order.indices(0, order.length // global_batch * global_batch)

    seen: list[tuple[int, int]] = []
    consumed = 0
    for _ in range(data.draw(st.integers(0, 2))):  # a job stopped so often, each time of another shape
        part, consumed = run(
            pickle.loads(pickle.dumps(reader)),
            plan,
            consumed,
            data.draw(st.integers(0, 4)),
            data.draw(st.integers(1, groups)),
            data.draw(st.integers(0, 3)),
        )
        seen += part
    part, _ = run(reader, plan, consumed, None, data.draw(st.integers(1, groups)), data.draw(st.integers(0, 3)))
    seen += part
    assert [position for position, _ in seen] == list(range(len(expected)))
    assert [index for _, index in seen] == expected.tolist()
    left_out = set(range(len(index))) - set(expected.tolist())
    assert len(left_out) == len(index) - len(expected) < global_batch + order.streams


def test_samples_carry_their_bytes_keys_and_labels(datasets: list[Index]) -> None:
    reader = Reader(datasets[2].url)
    wanted = [150, 0, 41, 0]
    samples = reader.read(wanted, positions=[7, 8, 9, 10])
    assert [(s.index, s.position, s.key, s.data, s.label) for s in samples] == [
        (i, p, f"s{i}", content(i), i % 3) for i, p in zip(wanted, [7, 8, 9, 10], strict=True)
    ]
    assert [s.position for s in reader.read([3, 4])] == [3, 4]
    assert reader.counters.samples == 6
    assert reader.counters.bytes == sum(len(content(i)) for i in [*wanted, 3, 4])


@pytest.mark.parametrize(("world", "workers"), [(1, 1), (2, 1), (3, 2)])
def test_a_sequential_pass_is_shared_out_exactly(datasets: list[Index], world: int, workers: int) -> None:
    parts = [
        [s.index for s in Reader(datasets[3]).iterate_all(rank, world, worker, workers)]
        for rank in range(world)
        for worker in range(workers)
    ]
    assert [i for part in parts for i in part] == list(range(len(datasets[3])))


def test_lists_are_read_in_order_and_hold_the_shards_of_two_lists_at_most(datasets: list[Index]) -> None:
    index = datasets[3]
    shard_of = index.samples["shard"]
    order = np.random.default_rng(0).permutation(len(index))
    lists = [part.tolist() for part in np.array_split(order, 7)] + [[0, 0], []]
    with closing(Reader(index)) as reader:
        found = []
        for sample in reader.iterate_lists(lists):
            found.append(sample.index)
            now = next(i for i in range(len(lists)) if sum(map(len, lists[: i + 1])) >= len(found))
            wanted = {int(shard_of[place]) for part in lists[now : now + 2] for place in part}
            assert set(reader._shards._open) <= wanted
    assert found == [place for part in lists for place in part]


def test_sizes_that_do_not_fit_are_refused(datasets: list[Index]) -> None:
    reader = Reader(datasets[0])
    with pytest.raises(UserError, match="at most 192"):
        next(reader.iterate(Portion(seed=0, epoch=0, global_batch=224)))
    with pytest.raises(UserError, match="nearest possible sizes are 96 or 128"):
        next(reader.iterate(Portion(seed=0, epoch=0, global_batch=100)))
    with pytest.raises(UserError, match="at most 2 processes"):
        next(reader.iterate(Portion(seed=0, epoch=0, global_batch=64, world=3)))


@pytest.fixture
def damaged(tmp_path: Path) -> tuple[Index, list[int]]:
    """Two shards of 30 samples; one bit is flipped in samples 5, 6 and 29."""
    index = write_dataset(str(tmp_path), [30, 30])
    for i in (5, 6, 29):
        row = index.samples[i]
        flip_bit(str(tmp_path / index.shards[int(row["shard"])].name), int(row["offset"]) + 3)
    return index, [5, 6, 29]


def test_a_flipped_bit_is_noticed_and_named(damaged: tuple[Index, list[int]]) -> None:
    with pytest.raises(UserError, match=r"sample 5 \(key 's5', shard shard-000000\.tar\).*checksum") as error:
        Reader(damaged[0]).read(range(30))
    assert "substitute" in str(error.value)


def test_corrupt_samples_are_replaced_by_the_next_of_their_shard(damaged: tuple[Index, list[int]]) -> None:
    reader = Reader(damaged[0], SUBSTITUTE)
    for _ in range(2):
        samples = reader.read([4, 5, 6, 29, 30])
        assert [s.index for s in samples] == [4, 7, 7, 0, 30]  # cyclic: after the shard's last comes its first
        assert [s.position for s in samples] == [4, 5, 6, 29, 30]
        assert [s.data for s in samples] == [content(i) for i in (4, 7, 7, 0, 30)]
    assert (reader.counters.corrupt, reader.counters.substituted) == (3, 6)
    # It does not depend on earlier reads.
    assert Reader(damaged[0], SUBSTITUTE).read([29])[0].index == 0


def test_too_many_corrupt_samples_stop_the_job(damaged: tuple[Index, list[int]]) -> None:
    reader = Reader(damaged[0], ReaderConfig(on_corrupt="substitute", most_corrupt=2 / 60))
    with pytest.raises(UserError, match=r"3 samples of .* are corrupt, more than the 2 allowed") as error:
        reader.read(range(60))
    assert all(f"'s{i}'" in str(error.value) for i in damaged[1])


def test_a_batch_is_never_shrunk(damaged: tuple[Index, list[int]]) -> None:
    reader = Reader(damaged[0], SUBSTITUTE)
    shares = list(reader.iterate(Portion(seed=0, epoch=0, global_batch=8, group=4)))
    assert [len(share.samples) for share in shares] == [8] * 7
    total = Counters()
    for share in shares:
        total = total + share.counters
    assert total.samples == 56
    assert total.corrupt == reader.counters.corrupt > 0


@pytest.mark.parametrize("error", [KeyError(6), SyntaxError(), RecursionError(), MemoryError(), ZeroDivisionError()])
def test_any_error_of_a_decoder_is_a_corrupt_sample(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The policy of the reader decides, whichever type of error a codec raises."""

    def fail(*_: object, **__: object) -> object:
        raise error

    def pixels(sample: Sample) -> int:
        with monkeypatch.context() as broken:
            if sample.index == 3:
                broken.setattr("hardviews.views.decode.simplejpeg.decode_jpeg_header", fail)
                broken.setattr("PIL.Image.open", fail)
            return decode(sample.data).size

    index = pack(Noise(12, extension="jpg"), str(tmp_path), progress=False)
    reader = Reader(index, SUBSTITUTE)
    assert len(reader.read(range(12), fn=pixels)) == 12
    assert list(reader.bad) == [3] and type(error).__name__ in reader.bad[3]
    with pytest.raises(UserError, match=type(error).__name__):
        Reader(index).read(range(12), fn=pixels)


def test_what_cannot_be_decoded_is_replaced_too(datasets: list[Index]) -> None:
    def decode(sample: Sample) -> str:
        if sample.index in (10, 11):
            raise DecodeError("cut short")
        return f"{sample.key}@{sample.position}"

    reader = Reader(datasets[0], SUBSTITUTE)
    assert reader.read([9, 10, 11, 12], fn=decode) == ["s9@9", "s12@10", "s12@11", "s12@12"]
    assert (reader.counters.corrupt, reader.counters.substituted) == (2, 2)
    with pytest.raises(UserError, match=r"'s10'.*cut short"):
        Reader(datasets[0]).read([10], fn=decode)


def test_a_shard_with_nothing_left_is_an_error(datasets: list[Index]) -> None:
    def decode(sample: Sample) -> None:
        raise DecodeError("no")

    reader = Reader(datasets[2], ReaderConfig(on_corrupt="substitute", most_corrupt=1.0))
    with pytest.raises(UserError, match=r"Not one sample of the shard shard-000003\.tar"):
        reader.read([141], fn=decode)


def test_errors_of_the_function_itself_are_not_hidden(datasets: list[Index]) -> None:
    def broken(sample: Sample) -> int:
        return 1 // 0

    with pytest.raises(ZeroDivisionError):
        Reader(datasets[0], SUBSTITUTE).read([0], fn=broken)


@pytest.mark.parametrize("config", [ReaderConfig(), SUBSTITUTE])
def test_a_cut_or_missing_shard_is_an_error_under_any_policy(tmp_path: Path, config: ReaderConfig) -> None:
    index = write_dataset(str(tmp_path), [30, 30])
    path = tmp_path / index.shards[1].name
    raw = path.read_bytes()
    # A cut between two members: plain readers of tars take it for the end.
    path.write_bytes(raw[: int(index.samples["offset"][45]) - 512])
    reader = Reader(index, config)
    assert len(reader.read(range(30))) == 30
    for attempt in (lambda: reader.read([31]), reader.check):
        with pytest.raises(UserError, match=r"shard-000001\.tar holds \d+ bytes, not the \d+"):
            attempt()
    path.unlink()
    for attempt in (lambda: Reader(index, config).read([31]), reader.check, lambda: list(reader.iterate_all())):
        with pytest.raises(UserError, match=r"shard-000001\.tar is missing"):
            attempt()
    path.write_bytes(raw)
    reader.check()


def test_a_remote_dataset_is_read_through_the_cache(
    datasets: list[Index], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARDVIEWS_CACHE", str(tmp_path))
    local = datasets[4]
    plan = {"seed": 0, "epoch": 0, "global_batch": 64, "group": 16}
    expected = [
        s for share in Reader(local, ReaderConfig(window=2, streams=1)).iterate(Portion(**plan)) for s in share.samples
    ]
    with web_server(local.url) as url:
        # Room for a window of 2 and one ahead, of 8 shards.
        config = ReaderConfig(window=2, streams=1, cache_bytes=3 * local.shards[0].size, ahead=1)
        reader = Reader(url, config)
        reader.check()
        found = [s for share in reader.iterate(Portion(**plan)) for s in share.samples]
        assert found == expected
        counters = reader.counters
        assert counters.fetched >= 8
        assert counters.evicted >= 5
        assert sum(f.stat().st_size for f in tmp_path.glob("*.tar")) <= config.cache_bytes
        reader.close()

        # A copy that rots on disk is fetched again; nobody notices.
        row = local.samples[100]
        reader = Reader(url, ReaderConfig())
        reader.read(range(64, 128))
        flip_bit(str(tmp_path / f"{local.shards[int(row['shard'])].sha256}.tar"), int(row["offset"]))
        assert reader.read([100])[0].data == content(100)
        assert reader.counters.corrupt == 0
        reader.close()


def test_a_few_samples_are_read_without_their_shards(
    datasets: list[Index], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARDVIEWS_CACHE", str(tmp_path))
    with web_server(datasets[4].url) as url:
        reader = Reader(url)
        assert [s.data for s in reader.read([3, 100, 300])] == [content(i) for i in (3, 100, 300)]
        assert (reader.counters.direct, reader.counters.fetched) == (3, 0)
        reader.read(range(64))
        assert (reader.counters.direct, reader.counters.fetched) == (3, 1)
        reader.read([3])  # its shard is here by now
        assert reader.counters.direct == 3
        reader.close()


def test_what_the_cache_has_no_room_for_is_read_all_the_same(
    datasets: list[Index], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HARDVIEWS_CACHE", str(tmp_path))
    local = datasets[4]
    plan = {"seed": 0, "epoch": 0, "global_batch": 64, "group": 16}
    config = ReaderConfig(window=2, streams=1)
    expected = [s for share in Reader(local, config).iterate(Portion(**plan)) for s in share.samples]
    with web_server(local.url) as url:
        for room, shuffled in ((0, 2), (0.5, 2), (1.5, 2), (3.5, 8)):  # shards that fit, shards in a window
            config = ReaderConfig(window=shuffled, streams=1, cache_bytes=int(room * local.shards[0].size), ahead=1)
            if shuffled == 8:
                expected = [s for share in Reader(local, config).iterate(Portion(**plan)) for s in share.samples]
            reader = Reader(url, config)
            assert [s for share in reader.iterate(Portion(**plan)) for s in share.samples] == expected
            assert reader.counters.direct > 0
            assert sum(f.stat().st_size for f in tmp_path.glob("*.tar")) <= config.cache_bytes
            reader.close()
    said = [record.getMessage() for record in caplog.records if "one by one" in record.getMessage()]
    assert len(said) == 4  # once a reader
    assert "Raise the reader's cache_bytes, or lower its window" in said[0]


def test_a_reader_works_on_after_a_fork(datasets: list[Index]) -> None:
    reader = Reader(datasets[0])
    iterator: Iterator = reader.iterate(Portion(seed=0, epoch=0, global_batch=64))
    next(iterator)
    expected = reader.read([5])[0]
    pid = os.fork()
    if pid == 0:
        fine = reader.read([5])[0] == expected and reader.counters.samples == 1
        os._exit(0 if fine else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_closing_lets_go_of_every_descriptor(datasets: list[Index]) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    reader = Reader(datasets[1])
    list(reader.iterate(Portion(seed=0, epoch=0, global_batch=32)))
    assert descriptors() > before
    reader.close()
    assert descriptors() == before
    assert reader.read([0])[0].key == "s0"  # opens again
    reader.close()


def test_a_wrong_policy_is_refused() -> None:
    with pytest.raises(UserError, match=r"^loader\.reader\.on_corrupt is 'ignore'; it must be raise or substitute"):
        ReaderConfig(on_corrupt="ignore")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="streams is 0"):
        ReaderConfig(streams=0)
    with pytest.raises(UserError, match=r"^loader\.reader\.most_corrupt is 2\.0"):
        ReaderConfig(most_corrupt=2.0)
    with pytest.raises(UserError, match="cache_bytes is -1"):
        ReaderConfig(cache_bytes=-1)
    with pytest.raises(UserError, match="ahead is -1"):
        ReaderConfig(ahead=-1)
