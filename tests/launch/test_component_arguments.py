"""Arguments of components as text: each arrives with its type, and an unreadable one is one sentence."""

import inspect
import typing
from pathlib import Path

import pytest
import torchx.specs as specs
from torchx.specs.builders import materialize_appdef
from torchx.util.types import decode_optional

from hardviews.errors import UserError
from hardviews.launch.component_arguments import NoJob, split_readable
from hardviews.launch.kubernetes.mistakes import validate
from hardviews.launch.pod_options import PodOptions
from jobs.classify import classify
from jobs.fewshot import fewshot
from jobs.finetune import finetune
from jobs.knn import knn
from jobs.linear_eval import linear_eval
from jobs.pack import pack
from jobs.pretrain import pretrain
from jobs.transfer_eval import transfer_eval
from tests.launch.kubernetes.jobs import AFFINITY, manifest

JOBS = (classify, fewshot, finetune, knn, linear_eval, pack, pretrain, transfer_eval)
ROOT = Path(__file__).parents[2]

# Text of each argument, and how it shows in the job: the words of the working role, its resources, its pods' settings.
TEXTS = {
    "run": ("s3://b/run", lambda role, pod: role.args[role.args.index("finetune") + 1] == "s3://b/run"),
    "recipe": ("smoke", lambda role, pod: "smoke" in role.args),
    "image": ("registry/x:1", lambda role, pod: role.image == "registry/x:1"),
    "data": ("s3://b/data", lambda role, pod: "s3://b/data" in role.args),
    "output": ("s3://b/out", lambda role, pod: "s3://b/out" in role.args),
    "source": ("digits", lambda role, pod: "digits" in role.args),
    "tracking": ("http://m:5000", lambda role, pod: role.env["MLFLOW_TRACKING_URI"] == "http://m:5000"),
    "wait": ("60", lambda role, pod: role.args[role.args.index("--wait") + 1] == "60"),
    "j": ("2:3x2", lambda role, pod: (role.min_replicas, role.num_replicas) == (2, 3)),
    "cpu": ("3", lambda role, pod: role.resource.cpu == 3),
    "memMB": ("5000", lambda role, pod: role.resource.memMB == 5000),
    "gpu": ("1", lambda role, pod: role.resource.gpu == 1),
    "grace": ("90", lambda role, pod: pod.grace == 90),
    "env": ("A=x,B=y", lambda role, pod: (role.env["A"], role.env["B"]) == ("x", "y")),
    "secret": ("s3,mlflow", lambda role, pod: pod.secrets == ("s3", "mlflow")),
    "mount": ("type=volume,src=c,dst=/d", lambda role, pod: role.mounts == [specs.VolumeMount("c", "/d")]),
    "shm": ("100", lambda role, pod: pod.shm == 100),
    "scratch": ("70000", lambda role, pod: pod.scratch == 70000),
    "toleration": ("a:NoSchedule,b", lambda role, pod: pod.tolerations == ("a:NoSchedule", "b")),
    "node_selector": ("disk=ssd,gpu=h100", lambda role, pod: pod.node_selector == {"disk": "ssd", "gpu": "h100"}),
    "priority": ("high", lambda role, pod: pod.priority_class == "high"),
    "ttl": ("600", lambda role, pod: pod.ttl == 600),
    "affinity": (str(AFFINITY), lambda role, pod: pod.affinity == str(AFFINITY)),
    "spread": (
        "topology.kubernetes.io/zone,kubernetes.io/hostname",
        lambda role, pod: pod.spread == ("topology.kubernetes.io/zone", "kubernetes.io/hostname"),
    ),
    "devices": ("rdma/ib=1,example.org/x=2", lambda role, pod: pod.devices == {"rdma/ib": "1", "example.org/x": "2"}),
    "capabilities": ("IPC_LOCK", lambda role, pod: pod.capabilities == ("IPC_LOCK",)),
}
REQUIRED = {pack: ["--source", "digits"], finetune: ["--run", "s3://b/run"]}


def parameters(job):
    return [
        pytest.param(job, name, parameter, id=f"{job.__name__}-{name}")
        for name, parameter in inspect.signature(job).parameters.items()
        if parameter.kind is not parameter.VAR_POSITIONAL
    ]


@pytest.mark.parametrize(("job", "name", "parameter"), [case for job in JOBS for case in parameters(job)])
def test_every_argument_of_every_job_arrives_from_text(job, name, parameter):
    text, arrived = TEXTS[name]
    others = [] if name == "source" else REQUIRED.get(job, [])
    others = [*others, *(["-j", "1:2x1"] if name == "gpu" and job is pretrain else [])]
    app = materialize_appdef(job, [f"--{name}", text, *others, "--", "--more", "1"])
    role = app.roles[-1]
    pod = PodOptions.of_role(role)
    assert arrived(role, pod)
    assert role.args[-2:] == ["--more", "1"]
    for entry in ("ttl", "shm", "scratch", "grace"):
        assert isinstance(getattr(pod, entry), int | None)
    assert [text for text in validate(app, PodOptions()) if "negative" in text] == []
    manifest(app)  # as TorchX and the scheduler make it


def test_each_type_of_argument_is_among_them():
    annotations = {decode_optional(p.annotation) for job in JOBS for p in inspect.signature(job).parameters.values()}
    assert {str(annotation) for annotation in annotations} == {
        str(kind)
        for kind in (str, int, typing.Dict[str, str], typing.List[str])  # noqa: UP006
    }


@pytest.mark.parametrize("job", JOBS)
def test_a_text_that_is_no_number_is_one_sentence(job):
    for name, parameter in inspect.signature(job).parameters.items():
        if decode_optional(parameter.annotation) is not int or parameter.kind is parameter.VAR_POSITIONAL:
            continue
        words = [f"--{name}", "soon", *REQUIRED.get(job, [])]
        left, _, (message,) = split_readable(job, words, None)
        assert f"--{name} soon cannot be read: give a whole number." == message
        assert left == REQUIRED.get(job, [])
    for name in ("ttl", "shm", "scratch"):
        with pytest.raises(UserError, match=rf"^--{name} 1\.5 cannot be read: give a whole number\.$"):
            needed = dict(zip(REQUIRED.get(job, [])[::2], REQUIRED.get(job, [])[1::2], strict=True))
            job(**{name: "1.5"}, **{word.removeprefix("--"): value for word, value in needed.items()})


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--recpie", "smoke"], ["--recpie is no argument of pretrain", "Did you mean --recipe?"]),
        (["--memory", "1"], ["--memory is no argument", "Did you mean --memMB?"]),
        (["--outputs=o"], ["--outputs is no argument", "Did you mean --output?"]),
        (["--training.epochs", "3"], ["--training.epochs is no argument", "-- --training.epochs 3"]),
        (["--dryrun"], ["--dryrun is an option of torchx run itself", "before the file: torchx run --dryrun FILE."]),
        (["--wait"], ["torchx run --wait FILE."]),
        (["-s", "kubernetes"], ["torchx run -s NAME FILE."]),
        (["-cfg", "queue=q"], ["torchx run -cfg KEY=VALUE FILE."]),
        (["--workspace=f"], ["torchx run --workspace FOLDER FILE."]),
        (["--dry-run"], ["--dry-run is no argument of pretrain. Did you mean --dryrun?"]),
        (["--cpu"], ["--cpu has no value", "a whole number"]),
        (["--cpu", "0.5"], ["--cpu 0.5", "a whole number"]),
        (["--env", "A"], ["--env A cannot be read", "NAME=VALUE"]),
        (["--env", "A="], ["--env A= cannot be read"]),
        (["--env", "A=x,B="], ["--env A=x,B= cannot be read", "may be empty"]),
        (["--env", "A=b=c"], ["--env A=b=c cannot be read", "cannot hold a '='"]),
        (["--env", "=x"], ["--env =x cannot be read"]),
        (["--node_selector", "gpu"], ["--node_selector gpu cannot be read"]),
        (["--secret", "a,,b"], ["--secret a,,b", "empty entry"]),
    ],
)
def test_an_argument_that_cannot_be_read_is_left_out_and_named(words, parts):
    left, _, (message,) = split_readable(pretrain, [*words, "--gpu", "1", "--", "--x", "="], None)
    for part in parts:
        assert part in message
    assert left == ["--gpu", "1", "--", "--x", "="]
    assert "Traceback" not in message


def test_all_of_them_are_named_at_once_and_the_rest_makes_a_job():
    words = ["--recpie", "smoke", "--cpu", "two", "--memMB", "5000", "--env", "A", "--ttl", "x"]
    left, _, messages = split_readable(pretrain, words, None)
    assert left == ["--memMB", "5000"]
    assert len(messages) == 4
    assert materialize_appdef(pretrain, left).roles[-1].resource.memMB == 5000


def test_an_option_without_a_value_takes_none_of_the_words_after_it():
    left, _, messages = split_readable(pretrain, ["--dryrun", "-s", "kubernetes", "--cpu", "1", "--log", "x"], None)
    assert left == ["--cpu", "1", "x"]
    assert [message.split()[0] for message in messages] == ["--dryrun", "-s", "--log"]


def test_a_default_of_the_file_is_named_as_one():
    _, defaults, (message,) = split_readable(pretrain, [], {"cpu": "many", "memMB": "5000"})
    assert defaults == {"memMB": "5000"}
    assert "--cpu many" in message
    assert ".torchxconfig" in message


def test_a_missing_argument_ends_it_with_all_that_was_found():
    with pytest.raises(NoJob) as caught:
        split_readable(pack, ["--cpu", "x"], None)
    assert len(caught.value.mistakes) == 2
    assert "--source" in caught.value.mistakes[1]


def with_switch(fast: bool = False) -> specs.AppDef:
    """A component of somebody else's.

    Args:
        fast: a switch
    """
    return specs.AppDef("a", [specs.Role("main", "i", args=[str(fast)])])


def test_a_switch_is_true_or_false():
    assert split_readable(with_switch, ["--fast", "True"], None) == (["--fast", "True"], {}, [])
    left, _, (message,) = split_readable(with_switch, ["--fast", "yes"], None)
    assert (left, "true or false" in message) == ([], True)
