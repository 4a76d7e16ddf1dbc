"""Variables that describe one of several processes are read in one place, and a mistake in them is a plain message."""

import pytest

from hardviews.elastic.environment import Launched, launched
from hardviews.errors import UserError

PLACE = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
TWO = {"RANK": "1", "WORLD_SIZE": "2", **PLACE}
NODE = {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}


def test_a_process_alone() -> None:
    alone = Launched()
    assert launched({}) == alone
    assert launched({"WORLD_SIZE": "1", "RANK": "0", **PLACE}) == alone
    # Left over of another start, or set and empty.
    assert launched({"RANK": "0", **PLACE, "LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "8", "SLURM_PROCID": "x"}) == alone
    empty = dict.fromkeys((*TWO, *NODE, "TORCHELASTIC_RESTART_COUNT", "HARDVIEWS_ROUND"), "")
    assert launched(empty) == alone and launched({**empty, "WORLD_SIZE": " "}) == alone


def test_one_of_several() -> None:
    assert launched(TWO) == Launched(1, 2, host="127.0.0.1", port=29500)
    torchrun = {**TWO, **NODE, "TORCHELASTIC_RESTART_COUNT": "3", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    assert launched(torchrun) == Launched(1, 2, 1, 2, "127.0.0.1", 29500, restarts=3, agent_store=True)
    assert launched({**TWO, "HARDVIEWS_ROUND": "4"}).ours


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (
            {"WORLD_SIZE": "2", "RANK": "0"},
            r"MASTER_ADDR and MASTER_PORT are not set \(set are: RANK=0, WORLD_SIZE=2\)",
        ),
        ({"WORLD_SIZE": "2", **PLACE}, "RANK is not set"),
        ({"WORLD_SIZE": "2", "RANK": "", **PLACE}, "RANK is not set"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE must be a whole number, 1 or more"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE must be"),
        ({"WORLD_SIZE": "-2"}, "WORLD_SIZE must be"),
        ({"WORLD_SIZE": "2.0"}, "WORLD_SIZE must be"),
        ({"WORLD_SIZE": "\u0662"}, "WORLD_SIZE must be"),
        ({"RANK": "1"}, "WORLD_SIZE, the number of processes, is not set"),
        ({"RANK": "one"}, "RANK must be a whole number, 0 or more"),
        ({**TWO, "RANK": "2"}, "RANK must be below WORLD_SIZE, 2"),
        ({"WORLD_SIZE": "1", "RANK": "1"}, "RANK must be below WORLD_SIZE, 1"),
        ({**TWO, "MASTER_PORT": "http"}, "MASTER_PORT must be a whole number, from 1 to 65535"),
        ({**TWO, "MASTER_PORT": "0"}, "MASTER_PORT must be"),
        ({**TWO, "MASTER_PORT": "70000"}, "MASTER_PORT must be"),
        ({**TWO, "LOCAL_RANK": "gpu0"}, "LOCAL_RANK must be a whole number"),
        ({**TWO, "LOCAL_WORLD_SIZE": "0"}, "LOCAL_WORLD_SIZE must be"),
        ({**TWO, "LOCAL_WORLD_SIZE": "4"}, "LOCAL_WORLD_SIZE, the processes of one node, must be at most WORLD_SIZE"),
        ({**TWO, **NODE, "LOCAL_RANK": "2"}, "LOCAL_RANK must be below LOCAL_WORLD_SIZE, 2"),
        ({"TORCHELASTIC_RESTART_COUNT": "often"}, "TORCHELASTIC_RESTART_COUNT must be a whole number"),
    ],
)
def test_variables_that_do_not_fit_are_refused(variables: dict[str, str], words: str) -> None:
    with pytest.raises(UserError, match=rf"describes one of several processes, but {words}.*unset them: unset \w"):
        launched(variables)
