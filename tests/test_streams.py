"""Any text can be written, whatever the locale, and whoever reads it may leave."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hardviews import streams

HARDVIEWS = str(Path(sys.executable).parent / "hardviews")
NAME = os.fsencode("d\u00e4t\u00e4-\u65e5\u672c-") + b"\xe9"  # the last character is no UTF-8
LOCALES = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "without UTF-8": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


def run(words: str) -> "subprocess.CompletedProcess[str]":
    """Run a shell command; `hardviews` in it is ours."""
    path = f"{Path(HARDVIEWS).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", words],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=200,
    )


@pytest.mark.parametrize("locale", LOCALES)
def test_a_path_of_any_bytes_is_printed_with_escapes(locale: str, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/" + NAME
    words = [HARDVIEWS, "pack", "--source", "digits", "--out", folder]
    done = subprocess.run(words, env={**os.environ, **LOCALES[locale]}, capture_output=True, timeout=200)
    assert done.returncode == 0 and not done.stderr, done.stderr
    lines = done.stdout.decode("ascii" if locale == "ascii" else "utf-8").splitlines()
    assert len(lines) == 2 and all("images of 10 classes" in line and "\\xe9/" in line for line in lines)
    assert sorted(os.listdir(folder)) == [b"test", b"train"]


@pytest.mark.parametrize("module", ["agent", "coordinator"])
def test_an_address_that_is_none_is_refused_in_any_encoding(module: str) -> None:
    words = ["--job", "j", "--nodes", "1", "hardviews.cli"] if module == "agent" else []
    variables = {**os.environ, "HARDVIEWS_RENDEZVOUS": "d\u00e4t\u00e4", "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", f"hardviews.elastic.{module}", *words]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=200)
    assert done.returncode == (2 if module == "agent" else 3)
    assert "HARDVIEWS_RENDEZVOUS is 'd\\xe4t\\xe4', not an address" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", ["recipes", "pretrain digits --help"])
def test_a_reader_may_leave(words: str) -> None:
    done = run(f"hardviews {words} 2>&1 | head -c 1 >/dev/null; exit ${{PIPESTATUS[0]}}")
    assert done.returncode in (0, 141) and not done.stderr


def test_streams_may_be_closed() -> None:
    assert run("hardviews recipes 2>&- >&- <&-").returncode == 0


def test_streams_of_another_kind_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = io.StringIO()
    monkeypatch.setattr(sys, "stdout", notebook)
    monkeypatch.setattr(sys, "stderr", None)
    streams.prepare()
    assert sys.stdout is notebook
    print("written to nothing", file=sys.stderr)
