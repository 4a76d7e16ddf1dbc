"""MoCo's queue against a list that keeps the last keys."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardviews.methods.queue import KeyQueue


@settings(deadline=None, max_examples=50)
@given(size=st.integers(1, 12), chunks=st.lists(st.integers(0, 30), max_size=8))
def test_it_holds_the_latest_keys(size: int, chunks: list[int]) -> None:
    queue, said = KeyQueue(size, 2), []
    said = [tuple(key) for key in queue.keys.tolist()]
    count = 0
    for chunk in chunks:
        keys = torch.arange(count, count + chunk).float()[:, None].expand(chunk, 2)
        count += chunk
        queue.push(keys)
        said += [tuple(key) for key in keys.tolist()]
        # From the pointer on, the oldest first.
        held = queue.keys.roll(-int(queue.pointer), 0).tolist()
        assert [tuple(key) for key in held] == said[-size:]


def test_it_starts_with_unit_vectors_and_is_in_a_checkpoint() -> None:
    queue = KeyQueue(5, 3)
    torch.testing.assert_close(queue.keys.norm(dim=1), torch.ones(5))
    queue.push(torch.ones(2, 3))
    other = KeyQueue(5, 3)
    other.load_state_dict(queue.state_dict())
    for one in (queue, other):
        one.push(torch.zeros(1, 3))
    assert torch.equal(queue.keys, other.keys)
    assert int(other.pointer) == 3


def test_keys_are_copied_and_take_the_rings_precision() -> None:
    queue = KeyQueue(4, 3).double()
    keys = torch.randn(2, 3, dtype=torch.bfloat16)
    queue.push(keys)
    assert queue.keys.dtype == torch.float64
    kept = queue.keys.clone()
    keys.zero_()
    assert torch.equal(queue.keys, kept)
