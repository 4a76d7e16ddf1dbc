"""Jobs as TorchX applications, and the site's values in them."""

import re
import shlex

import pytest
import torchx.specs as specs
from hypothesis import given
from hypothesis import strategies as st

from hardviews.errors import UserError
from hardviews.launch import component, local, site
from hardviews.launch.gate import awaited
from jobs.classify import classify
from jobs.finetune import finetune
from jobs.knn import knn
from jobs.linear_eval import linear_eval
from jobs.pack import pack
from jobs.pretrain import pretrain

VALUES = (site.IMAGE, site.DATA, site.OUTPUT, site.TRACKING)


@pytest.fixture(autouse=True)
def nobody_has_said_anything(monkeypatch, tmp_path):
    for value in VALUES:
        monkeypatch.delenv(value.variable, raising=False)
    empty = tmp_path / "torchxconfig"
    empty.touch()
    monkeypatch.setenv("TORCHXCONFIG", str(empty))
    return empty


def command_lines(app: specs.AppDef) -> dict[str, str]:
    return {role.name: shlex.join([role.entrypoint, *role.args]) for role in app.roles}


@given(st.integers(1, 99), st.integers(0, 99), st.integers(1, 16))
def test_nodes_are_read_as_torchx_writes_them(least, more, processes):
    most = least + more
    assert component.Nodes.parse(f"{least}:{most}x{processes}") == component.Nodes(least, most, processes)
    assert component.Nodes.parse(f"{most}x{processes}") == component.Nodes(most, most, processes)
    assert component.Nodes.parse(f"{processes}") == component.Nodes(1, 1, processes)
    assert component.Nodes.parse(f"{least}:{most}") == component.Nodes(least, most, 1)
    assert component.Nodes.parse(f"{least}:{most}") == component.Nodes(least, most, 1)


@pytest.mark.parametrize("text", ["", "x", "2x", "0", "0x1", "3:2x1", "3:2", "1:2x0", "-1x1", "1x2x3", " 1"])
def test_nodes_that_make_no_sense_are_refused(text):
    with pytest.raises(UserError, match="-j"):
        component.Nodes.parse(text)


def test_pretraining_has_one_coordinator_first_and_elastic_trainers():
    app = pretrain("--lr", "1", recipe="r", data="d", output="o", j="2:4x8", cpu=16, gpu=8, env={"A": "b"})
    coordinator, trainer = app.roles  # TorchX gives the first role's host to the others
    assert (coordinator.name, coordinator.num_replicas, coordinator.resource.gpu) == ("coordinator", 1, 0)
    assert (trainer.min_replicas, trainer.num_replicas, trainer.resource.gpu) == (2, 4, 8)
    assert trainer.env["A"] == "b"
    line = command_lines(app)["trainer"]
    assert line.endswith("-- hardviews.cli pretrain r --data d --output o --lr 1")
    assert specs.macros.rank0_env in trainer.args
    assert specs.macros.app_id in trainer.args
    assert all("-" not in role.name for role in app.roles)


def test_evaluations_and_packing_call_their_commands():
    lines = [
        command_lines(app)
        for app in (
            knn("--k", "5", data="d", output="o"),
            linear_eval(data="d", output="o", wait=0, gpu=4),
        )
    ]
    assert [line["evaluation"].partition(" -- ")[2] for line in lines] == [
        "hardviews.cli knn --run o --data d --wait 86400 --k 5",
        "hardviews.cli linear --run o --data d --wait 0",
    ]
    assert "--processes 1 " in lines[0]["evaluation"] and "--processes 4 " in lines[1]["evaluation"]
    assert command_lines(pack(source="s", data="d")) == {
        "packer": "python -m hardviews.cli pack --source s --out d",
    }


def test_fine_tuning_names_the_encoder_first():
    app = finetune("--labels", "10%", run="r", recipe="digits_finetune", data="d", output="o")
    line = command_lines(app)["trainer"]
    assert line.endswith(
        "hardviews.cli finetune r --recipe digits_finetune --data d --output o --wait 86400 --labels 10%"
    )


HELD = "python -m hardviews.launch.gate --wait"
COORDINATOR = "--host 0.0.0.0 --port 29500"


@pytest.mark.parametrize(
    ("app", "held"),
    [
        (lambda: knn(data="s3://d", output="s3://o"), "86400 --run s3://o --data s3://d --parts train,test"),
        (lambda: classify(data="s3://d", output="o"), "86400 --data s3://d --parts test"),
        (lambda: knn(data="s3://d/", output="o", wait=5), "5 --data s3://d/ --parts train,test"),
        (lambda: knn("--encoder", "timm:resnet18", data="s3://d"), "86400 --data s3://d --parts train,test"),
        (lambda: knn("--train=s3://e", output="s3://o"), "86400 --run s3://o"),
        (lambda: knn("--checkpoint", "newest", data="/d", output="s3://o"), "86400 --run s3://o --checkpoint"),
        (lambda: knn(data="s3://d", output="s3://o", wait=0), None),
        (lambda: knn(data="d", output="o"), None),  # folders, which the coordinator does not see
        (lambda: pretrain(data="s3://d", wait=60), "60 --data s3://d"),
        (lambda: pretrain(data="s3://d"), None),
        (lambda: finetune(run="s3://r", data="s3://d", wait=60), "60 --run s3://r --data s3://d"),
        (lambda: finetune(run="r", data="s3://d"), "86400 --data s3://d"),
        (lambda: finetune(run="s3://r", data="s3://d", wait=0), None),
    ],
)
def test_a_job_is_held_back_until_the_things_that_it_needs_are_there(app, held):
    made = app()
    env = {"AWS_REGION": "r", "LANG": "C"}
    line = command_lines(made)["coordinator"]
    if held is None:
        assert line == f"python -m hardviews.elastic.coordinator {COORDINATOR}"
        return
    assert line == f"{HELD} {held} -- {COORDINATOR}"
    things, seconds, rest = awaited(made.roles[0].args[2:])
    assert (len(things), str(int(seconds)), rest) == (
        held.count("--run") + held.count("--data"),
        held.split()[0],
        COORDINATOR.split(),
    )
    # On one machine there are no pods to save: the other processes, which would give up, wait themselves.
    local.localise(made, port=1234)
    assert command_lines(made)["coordinator"] == f"python -m hardviews.elastic.coordinator {COORDINATOR}"
    assert "AWS_REGION" in knn(data="s3://d", output="s3://o", env=env).roles[0].env
    assert not {"AWS_REGION", "LANG"} & knn(data="d", output="o", env=env).roles[0].env.keys()


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value.argument)
def test_a_value_comes_from_the_argument_else_the_environment_else_the_file(
    value, monkeypatch, nobody_has_said_anything
):
    assert value.resolve(None) == value.placeholder
    nobody_has_said_anything.write_text(f"[hardviews:site]\n{value.argument} = from-file\n")
    assert value.resolve(None) == "from-file"
    monkeypatch.setenv(value.variable, "from-environment")
    assert value.resolve(None) == "from-environment"
    assert value.resolve("from-argument") == "from-argument"


def test_a_cluster_needs_every_value_and_this_machine_needs_neither_image_nor_server():
    app = pretrain()
    assert site.missing(app, local=False) == list(VALUES)
    assert site.missing(app, local=True) == [site.DATA, site.OUTPUT]
    (text,) = site.unsaid(app, local=False)
    assert re.search(r"--image.*HARDVIEWS_IMAGE.*--tracking.*MLFLOW_TRACKING_URI", text)
    assert site.unsaid(pretrain(data="d", output="o"), local=True) == []
    # Packing writes no checkpoints and tracks nothing.
    assert site.missing(pack(source="s"), local=False) == [site.IMAGE, site.DATA]


@pytest.mark.parametrize(("text", "value"), [("", "1"), ("yes", "yes")])
def test_no_job_takes_modules_from_its_folder(text, value):
    env = {"PYTHONSAFEPATH": text, "EMPTY": ""}
    pretraining = pretrain("--lr", "1", recipe="r", data="d", output="o", j="1:1x1", cpu=16, env=env)
    for role in (pretraining.roles[1], knn(output="o", data="d", env=env).roles[1]):
        assert role.env["PYTHONSAFEPATH"] == value and role.env["EMPTY"] == ""


def test_only_our_jobs_are_fitted_to_this_machine():
    app = pretrain(data="d", output="o")
    local.localise(app, port=1234)
    for role in app.roles:
        assert role.env["HARDVIEWS_RENDEZVOUS"] == "127.0.0.1:1234"
        assert site.TRACKING.variable not in role.env
    said = pretrain(tracking="t")
    local.localise(said, port=1234)
    assert said.roles[1].env[site.TRACKING.variable] == "t"
    other = specs.AppDef("other", [specs.Role("main", "image", entrypoint="python", args=["-m", "http.server"])])
    local.localise(other, port=1234)
    assert other.roles[0].env == {}
