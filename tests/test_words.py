"""Words that no file of the project holds: notes to self, unfinished code, places of one machine."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Spelled in two halves, so that this file does not hold them.
FORBIDDEN = [
    r"\bTO" + r"DO\b",
    r"\bFIX" + r"ME\b",
    r"\bXX" + r"X\b",
    # With a message it is a contract: one of two methods must be written.
    "raise NotImplemented" + r"Error(?!\(f?\")",
    r"(?<![\w.])/wo" + "rk/",
    r"(?<![\w.])/r" + "oot/",
    r"(?<![\w.])/ho" + r"me/[a-z]",
]


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a checkout")
    # The licence and the hashes are others' words; a file may be deleted and not yet committed.
    skipped = {"LICENSE", "requirements/lock.txt", "requirements/uv.txt"}
    return [
        ROOT / name for name in listed.stdout.split("\0") if name and name not in skipped and (ROOT / name).is_file()
    ]


def offences(text: str) -> list[str]:
    return [match[0] for word in FORBIDDEN for match in re.finditer(word, text)]


def test_no_file_holds_a_forbidden_word():
    found = {}
    for file in tracked():
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture or another binary file
        if words := offences(text):
            found[str(file.relative_to(ROOT))] = words
    assert found == {}


def test_source_is_ascii():
    suffixes = {".py", ".toml", ".md", ".yaml", ".cfg"}
    mixed = [file for file in tracked() if file.suffix in suffixes and not file.read_bytes().isascii()]
    assert mixed == []


@pytest.mark.parametrize("line", ["# TO" + "DO: later", "raise NotImplemented" + "Error", "open('/wo" + "rk/x')"])
def test_the_words_are_found(line):
    assert offences(line)


@pytest.mark.parametrize(
    "line", ["https://example.org/ho" + "me/", "a/wo" + "rk/b", "TO" + "DOS", "raise NotImplemented" + 'Error("why")']
)
def test_other_words_are_not(line):
    assert not offences(line)
