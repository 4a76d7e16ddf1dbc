"""Affinities from files: accepted and refused ones."""

import re
from pathlib import Path

import pytest
import yaml

from hardviews.errors import UserError
from hardviews.launch.affinity import read
from hardviews.launch.kubernetes.mistakes import validate
from hardviews.launch.pod_options import PodOptions
from tests.launch.kubernetes.jobs import AFFINITY, job, manifest

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def test_a_file_is_read_as_it_stands(tmp_path, monkeypatch):
    assert read(str(AFFINITY)) == yaml.safe_load(AFFINITY.read_text())
    (tmp_path / "mine.yaml").write_text(f"podAntiAffinity: {{{REQUIRED}: []}}")
    monkeypatch.chdir(tmp_path)
    assert read("mine.yaml") == {"podAntiAffinity": {REQUIRED: []}}
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read("~/mine.yaml") == {"podAntiAffinity": {REQUIRED: []}}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ["not a mapping", "nodeAffinity"]),
        ("- nodeAffinity", ["not a mapping"]),
        ("affinity: {nodeAffinity: {}}", ["the key affinity", "only the value"]),
        ("nodeaffinity: {}", ["the key nodeaffinity", "nodeAffinity, podAffinity"]),
        ("nodeAffinity: 3", ["nodeAffinity is not a mapping"]),
        ("nodeAffinity: {}", ["nodeAffinity is not a mapping"]),
        ("nodeAffinity: {required: []}", ["the key required", REQUIRED]),
        (f"nodeAffinity: {{{REQUIRED}: []}}", ["nodeSelectorTerms"]),
        (f"podAffinity: {{{REQUIRED}: {{a: b}}}}", ["not a list"]),
        ("podAffinity:\n  - a\n b: [", ["not YAML", "line"]),
        ("a: !!python/object/apply:os.getcwd []", ["not YAML"]),
        ("\x00", ["not YAML"]),
        ("[" * 5000, ["not YAML"]),
        ("# long\n" * 50_000, ["larger than"]),
    ],
    ids=range(14),
)
def test_another_content_is_refused_in_words(tmp_path, content, words):
    file = tmp_path / "affinity.yaml"
    file.write_text(content)
    with pytest.raises(UserError) as caught:
        read(str(file))
    for word in [*words, str(file)]:
        assert word in str(caught.value)
    assert str(caught.value).endswith(".")
    assert validate(job(affinity=str(file)), PodOptions()) == [str(caught.value)]
    with pytest.raises(UserError):
        manifest(job(affinity=str(file)))


def test_what_is_no_text_and_no_file_is_refused_in_words(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xfa")
    for file in (tmp_path / "binary", tmp_path, tmp_path / "nothing"):
        with pytest.raises(UserError, match=str(file)):
            read(str(file))


def test_the_example_of_the_docs_is_read(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text()
    (example,) = re.findall(r"```text\n(nodeAffinity:.*?)```", page, re.DOTALL)
    (tmp_path / "affinity.yaml").write_text(example)
    app = job(affinity=str(tmp_path / "affinity.yaml"))
    assert validate(app, PodOptions()) == []
    labels = manifest(app)["spec"]["tasks"][1]["template"]["metadata"]["labels"]
    (rule,) = read(str(tmp_path / "affinity.yaml"))["podAntiAffinity"][REQUIRED]
    assert rule["labelSelector"]["matchLabels"].items() <= labels.items()


def test_the_jobs_affinity_beats_the_sites(tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text(f"podAffinity: {{{REQUIRED}: []}}")
    for own, expected in ((None, AFFINITY), (str(other), other)):
        made = manifest(job(affinity=own), affinity=str(AFFINITY))
        found = made["spec"]["tasks"][1]["template"]["spec"]["affinity"]
        assert found == yaml.safe_load(expected.read_text())
