"""Probes that hang, die or fail: the others go on, the report says it, and nothing is left."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hardviews.doctor import isolation
from hardviews.doctor.finding import Finding, mistake
from hardviews.doctor.isolation import look_all
from hardviews.doctor.probes import PROBES
from hardviews.doctor.report import line, show, to_json
from hardviews.doctor.settings import Doctor
from hardviews.elastic.processes import state
from hardviews.errors import UserError
from tests.doctor import strange_child
from tests.proxy import wait_until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def strange(monkeypatch, tmp_path):
    """Run the strange probes, which may take so many seconds."""
    monkeypatch.setattr(isolation, "_CHILD", "tests.doctor.strange_child")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(isolation, "_START", 60.0)

    def run(*names, seconds=60.0, together=None):
        chosen = [one for name in names for one in strange_child.PROBES if one.name == name]
        chosen = [one if together is None else replace(one, together=together) for one in chosen]
        settings = Doctor(output=str(tmp_path / "pid"), timeout=seconds)
        return {probe.name: findings for probe, findings in look_all(chosen, settings)}

    return run


def test_a_probe_that_hangs_ends_with_all_that_it_started(strange, tmp_path, monkeypatch):
    monkeypatch.setattr(isolation, "_START", 0.0)
    found = strange("chatter", "hang", "lack", seconds=8.0)
    assert found["hang"][0].state == "missing" and "no answer within 8 s" in found["hang"][0].text
    assert found["lack"][0].state == "missing"
    if (tmp_path / "pid").exists():  # on a busy machine the time may be over before
        pid = int((tmp_path / "pid").read_text())
        wait_until(lambda: state(pid) in ("", "Z"))


def test_what_shares_a_process_with_one_that_died_is_skipped(strange):
    found = strange("chatter", "die", "hang")
    assert [one.text for one in found["chatter"]] == ["done"]
    assert "SIGSEGV" in found["die"][0].text and "a driver says" in found["die"][0].text
    assert found["hang"] == [Finding("hang", "skipped", "the examination of die did not end")]
    assert "plantedword" not in str(found)


def test_failures_become_findings(strange):
    found = strange("fail", "lack")
    assert found["fail"][0].text == "it could not be examined: RuntimeError: token=***"
    assert found["lack"][0].remedy == "pip install nothing_of_this_name"


def test_results_come_in_order(strange):
    assert list(strange("lack", "chatter", "fail")) == ["lack", "chatter", "fail"]


def test_without_torch_the_report_says_how_to_get_it(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('No module named torch', name='torch')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    chosen = [one for one in PROBES if one.name in ("torch", "Python", "cores")]
    found = {one.what: one for _, findings in look_all(chosen, Doctor(timeout=120)) for one in findings}
    assert found["torch"].state == "missing" and found["torch"].remedy == "pip install 'hardviews[train]'"
    assert found["Python"].state == "ok" and "cores" in found


def test_a_silent_server_and_a_dead_one_do_not_hold_up_the_report():
    """As a user has it: the whole command, with its exit code."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "KUBE"))}
    command = [sys.executable, "-m", "hardviews.cli", "doctor", "--json", "--output", "/proc/x", "--timeout", "100"]
    command += ["--tracking-uri", "http://me:plantedword@127.0.0.1:9"]
    done = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=200)
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert report["ok"] is False and "plantedword" not in done.stdout + done.stderr
    states = {row["what"]: row["state"] for row in report["findings"]}
    assert (states["MLflow"], states["Python"], states["data"]) == ("missing", "ok", "skipped")


# The words of the report


def test_a_mistake_is_split_into_finding_and_remedy():
    found = mistake("x", UserError("It is wrong (a.b: C). Set A to 1.5. Or B."))
    assert (found.text, found.remedy) == ("It is wrong (a.b: C)", "Set A to 1.5. Or B.")
    assert mistake("x", UserError("Only this.")).remedy


def test_lines_have_their_remedy_below_and_are_not_wide():
    text = line(Finding("thing", "missing", "word " * 60, "pip install 'hardviews[train]'"))
    assert max(map(len, text.splitlines())) <= 120
    assert text.splitlines()[-1].strip() == "-> pip install 'hardviews[train]'"


def test_what_is_skipped_for_one_reason_is_one_line(capsys):
    probe = PROBES[0]
    findings = [Finding(name, "skipped", "no server") for name in "abc"] + [Finding("d", "ok", "fine")]
    show([(probe, findings)])
    assert "a, b, c: no server" in capsys.readouterr().out
    assert len(to_json([(probe, findings)])["findings"]) == 4


def test_probes_have_names_of_their_own():
    assert len({probe.name for probe in PROBES}) == len(PROBES)
    sections = [probe.section for probe in PROBES]
    assert sections == sorted(sections, key=sections.index)
