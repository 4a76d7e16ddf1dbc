"""The project's prose: how often it uses the words that readers stumble over, and how long its sentences are."""

import tokenize

import pytest

from tests import prose

# The most that is allowed, by area: per thousand words, and for ">" per hundred sentences. `tests/prose.py` defines the
# measures. `python -m tests.prose` prints today's values, and `--worst 20 FOLDER` the sentences to begin with.
LIMITS = {
    "platform": {
        "where": 0.3,
        "what": 0.4,
        "tell": 0.1,
        "those of": 0.4,
        "manieth": 0.0,
        "brackets": 0.6,
        ">25": 1.7,
        ">32": 0.5,
    },
    "messages": {
        "where": 0.4,
        "what": 0.8,
        "tell": 0.2,
        "those of": 0.8,
        "manieth": 0.0,
        "brackets": 1.1,
        ">25": 1.6,
        ">32": 0.3,
    },
    "charts": {
        "where": 0.0,
        "what": 0.0,
        "tell": 0.0,
        "those of": 0.6,
        "manieth": 0.0,
        "brackets": 0.0,
        ">25": 0.7,
        ">32": 0.0,
    },
    "tests": {
        "where": 0.1,
        "what": 1.0,
        "tell": 0.3,
        "those of": 2.0,
        "manieth": 0.0,
        "brackets": 0.2,
        ">25": 0.8,
        ">32": 0.1,
    },
    "docs": {
        "where": 0.2,
        "what": 0.7,
        "tell": 0.1,
        "those of": 0.8,
        "manieth": 0.0,
        "brackets": 0.5,
        ">25": 1.2,
        ">32": 0.2,
    },
}


@pytest.fixture(scope="module")
def counts():
    return prose.counted(prose.sentences())


@pytest.mark.parametrize("place", LIMITS)
def test_the_prose_keeps_its_limits(counts, place):
    rates = counts[place].rates()
    assert rates.keys() == LIMITS[place].keys()
    above = {name: round(rate, 2) for name, rate in rates.items() if rate > LIMITS[place][name]}
    assert above == {}, f"python -m tests.prose --worst 20 shows where ({place})"


def of(text, read=prose.of_python):
    return [sentence for _, block in read(text) for sentence in block.sentences("file")]


def hits(text):
    return {name: number for name, number in prose.Sentence("file", 1, text).hits().items() if number}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("None where there is none.", {"where": 1}),
        ("What a step takes.", {"what": 1}),
        ("What does a step take?", {}),
        ("The server told the pod.", {"tell": 1}),
        ("Its rows and those of the others.", {"those of": 1}),
        ("Runs in every so manieth step.", {"manieth": 1}),
        ("The rate (if it is set) rises.", {"brackets": 1}),
        ("The rate (Grill et al. 2020, if it is set) rises to 0.3 (per step).", {}),
        ("A word " * 13, {">25": True}),
        ("A word " * 17, {">25": True, ">32": True}),
    ],
)
def test_a_measure_counts_its_words(text, expected):
    assert hits(text) == expected


def test_python_yields_docstrings_comments_and_messages_with_their_lines():
    text = '''"""A module. It has two sentences."""
x = 1  # a trailing comment
# first line
# and second line
y = "no # comment, but a message of some words"
raise Error(f"the file {x} has no end")
class A:
    z: int
    """help of a field"""
'''
    found = {(sentence.line, sentence.text) for sentence in of(text)}
    assert found == {
        (1, "A module."),
        (1, "It has two sentences."),
        (2, "a trailing comment"),
        (3, "first line and second line"),
        (5, "no # comment, but a message of some words"),
        (6, "the file X has no end"),
        (9, "help of a field"),
    }


def test_entries_of_arguments_are_sentences_of_their_own():
    text = 'def f():\n    """Do.\n\n    Args:\n        a: the first\n        b: of two,\n            lines\n    """'
    assert [sentence.text for sentence in of(text)] == ["Do.", "a: the first", "b: of two, lines"]


def test_markdown_leaves_out_code():
    text = (
        "# Title here\n\n```\nwhere what told\n```\nRun `what is it` now. Then\nstop.\n\n| a cell | what |\n|---|---|\n"
    )
    assert [sentence.text for sentence in of(text, prose.of_markdown)] == [
        "Title here",
        "Run X now.",
        "Then stop.",
        "a cell",
        "what",
    ]


def test_comments_are_those_of_the_tokenizer():
    for file in sorted((prose.ROOT / "platform" / "hardviews" / "data").glob("*.py")):
        with tokenize.open(file) as stream:
            tokens = list(tokenize.generate_tokens(stream.readline))
        expected = {
            token.start[0]
            for token in tokens
            if token.type == tokenize.COMMENT and not token.string.startswith(("# type:", "# noqa", "# fmt"))
        }
        text = file.read_text()
        strings = {node for node in prose.ast.walk(prose.ast.parse(text)) if isinstance(node, prose.ast.JoinedStr)}
        strings |= {node for node in prose.ast.walk(prose.ast.parse(text)) if prose.is_text(node)}
        found = {number for block in prose.comments(text, strings) for number, _ in block.lines}
        assert found == expected, file
