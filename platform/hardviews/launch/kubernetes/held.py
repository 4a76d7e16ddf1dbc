"""The things of other jobs that a job still waits for. Pure."""

from collections.abc import Sequence

from torchx.specs import ReplicaState

from hardviews.launch.component import GATE
from hardviews.launch.kubernetes.liveness import coordinator
from hardviews.launch.kubernetes.observed import Object, Replica


def held(job: Object, there: Sequence[Replica]) -> str:
    """Return a sentence about the things that a job waits for before its working pods; empty if there are none."""
    _, head = coordinator(job, there)
    if head is None or head.state != ReplicaState.RUNNING or head.container.get("ready") or len(there) > 1:
        return ""
    words = _command(head.pod["spec"])
    if GATE not in words:
        return ""
    things = []
    if "--run" in words:
        what = "a checkpoint" if "--checkpoint" in words else "the encoder"
        things.append(f"{what} of {words[words.index('--run') + 1]}")
    if "--data" in words:
        things.append(f"the packed dataset at {words[words.index('--data') + 1]}")
    hours = int(words[words.index("--wait") + 1]) / 3600
    return (
        f"The job waits for {' and '.join(things)}, {hours:.3g} h at most; until then it has no other pods, and no "
        f"GPU. The log of {head} says how far they are."
    )


def _command(pod: Object) -> list[str]:
    return [str(word) for word in pod["containers"][0].get("command") or []]
