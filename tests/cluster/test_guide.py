"""Checks of the cluster tests without a cluster: they run the document's commands."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.cluster.guide import DOCUMENT, Guide, commands, plain_blocks, torchxconfig

ROOT = Path(__file__).parents[2]
TESTS = "\n".join(file.read_text() for file in Path(__file__).parent.glob("*.py"))


def test_every_command_is_in_a_test_of_the_cluster():
    """Each is run by the words it begins with; `Guide.left` says at the end whether all were."""
    runs = re.findall(r"guide\.run\(\s*f?(?:'([^']*)'|\"([^\"]*)\")", TESTS)
    beginnings = [one or other for one, other in runs]
    wanted = [c for c in commands() if not re.match(r"export \w+=[^$]*$|export POD=", c)]
    assert len(wanted) >= 20
    for command in wanted:
        assert any(command.startswith(beginning) for beginning in beginnings), command


def test_commands_are_found_and_an_unknown_one_is_not():
    guide = Guide({})
    assert guide.left() == [c for c in commands() if not re.match(r"export (\w+=[^$]*|POD=.*)$", c)]
    with pytest.raises(AssertionError, match="0 commands"):
        guide.run("kubectl destroy")


def test_what_a_command_exports_is_there_for_the_next(monkeypatch):
    monkeypatch.setattr("tests.cluster.guide.commands", lambda: ["export A=$(echo one)", "echo $A"])
    guide = Guide({})
    guide.run("export A")
    assert guide.run("echo") == "one\n"
    assert guide.left() == []


def test_every_block_of_several_lines_is_a_command_a_line():
    for command in commands():
        checked = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True)
        assert checked.returncode == 0, f"{command}: {checked.stderr}"


def test_the_configuration_shown_is_the_one_tried():
    made = torchxconfig("mine", "registry/image:2")
    assert "queue = mine\n" in made
    assert "image = registry/image:2\n" in made
    assert "secrets = store\n" in made


def test_a_laptop_s_cluster_is_made_as_the_workflow_makes_it():
    workflow = (ROOT / ".github" / "workflows" / "cluster.yml").read_text()
    (laptop,) = [block for block in plain_blocks() if "kind create cluster" in block]
    for command in laptop.splitlines():
        assert command in re.sub(r"\s+", " ", workflow), f"{DOCUMENT.name} and the workflow differ: {command}"


def test_the_servers_admit_no_root_and_tell_nobody():
    documents = list(yaml.safe_load_all((ROOT / "docs" / "servers.yaml").read_text()))
    pods = [d["spec"]["template"]["spec"] for d in documents if d["kind"] == "Deployment"]
    assert len(pods) == 2
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    text = (ROOT / "docs" / "servers.yaml").read_text()
    assert "-master.telemetry=false" in text
    assert "MLFLOW_DISABLE_TELEMETRY" in text
