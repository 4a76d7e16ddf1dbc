"""The ring of keys equals a list that drops its oldest, whatever comes in."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardviews.methods.queue import KeyQueue


@settings(deadline=None, max_examples=100)
@given(size=st.integers(1, 12), chunks=st.lists(st.integers(0, 30), max_size=8), seed=st.integers(0, 1000))
def test_equals_a_list(size: int, chunks: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    queue = KeyQueue(size, 3)
    wanted = list(queue.keys.clone())
    for count in chunks:
        keys = torch.randn(count, 3)
        queue.push(keys)
        wanted = (wanted + list(keys))[-size:]
        oldest_first = queue.keys.roll(-int(queue.pointer), 0)
        assert torch.equal(oldest_first, torch.stack(wanted))


def test_the_size_stays_where_the_oldest_lie() -> None:
    """As in the published code where the batch divides the queue: keys go to successive places from the front."""
    queue = KeyQueue(6, 2)
    first, second = torch.ones(2, 2), 2 * torch.ones(2, 2)
    before = queue.keys.clone()
    queue.push(first)
    queue.push(second)
    assert torch.equal(queue.keys, torch.cat([first, second, before[4:]]))
    assert int(queue.pointer) == 4


def test_starts_with_unit_vectors_that_the_seed_decides() -> None:
    def drawn(seed: int) -> KeyQueue:
        torch.manual_seed(seed)
        return KeyQueue(64, 5)

    torch.testing.assert_close(drawn(0).keys.norm(dim=1), torch.ones(64))
    assert torch.equal(drawn(0).keys, drawn(0).keys)
    assert not torch.equal(drawn(0).keys, drawn(1).keys)
    assert drawn(0).keys.mean().abs() < 0.1


def test_all_of_it_is_state() -> None:
    queue, other = KeyQueue(5, 3), KeyQueue(5, 3)
    queue.push(torch.randn(7, 3))
    assert list(queue.state_dict()) == ["keys", "pointer"]
    other.load_state_dict(queue.state_dict())
    keys = torch.randn(2, 3)
    queue.push(keys)
    other.push(keys)
    assert torch.equal(queue.keys, other.keys)


def test_keys_are_copied_and_take_the_rings_precision() -> None:
    queue = KeyQueue(4, 3).double()
    keys = torch.randn(2, 3, dtype=torch.bfloat16)
    queue.push(keys)
    assert queue.keys.dtype == torch.float64
    kept = queue.keys.clone()
    keys.zero_()
    assert torch.equal(queue.keys, kept)
