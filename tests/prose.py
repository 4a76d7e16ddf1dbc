"""Count the words of the project's prose that readers stumble over: `python -m tests.prose`.

The prose of a Python file is its docstrings, its comments, and its messages: texts of at least four words, mostly
errors, help and logs. Blocks of code in a Markdown file are left out. Code in backticks, and one
or two words in quotes, count as one word. A bad example, an item of a list that begins with "not:", is left out.

    python -m tests.prose                                    a table, one line a folder
    python -m tests.prose --worst 20 platform/hardviews/data   the sentences that are hardest to read, the worst first

Heuristics, all without case:

* "where": the word itself. Most of them stand for "if" or "when".
* "what": the word itself, outside of questions: "what a step takes" is the "time of a step".
* "tell": tell, tells, told. Data does not speak.
* "those of": those of, that of. Repeat the noun.
* "manieth": the word itself, which is not English.
* brackets: a bracket that holds a clause, so one with a verb of `VERBS` or with more than 8 words. A bracket that names
  a year, an equation, a section, a table, a figure or an address is a source and does not count.
* long: sentences of more than 25 words. A sentence ends at a full stop, a question mark, or the end of a paragraph, an
  item or a cell.
"""

import argparse
import ast
import re
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[1]

# Each measure with its expression: in "per thousand words", printed under this name.
WORDS = {
    "where": re.compile(r"\bwhere\b", re.IGNORECASE),
    "what": re.compile(r"\bwhat\b", re.IGNORECASE),
    "tell": re.compile(r"\b(tells?|told)\b", re.IGNORECASE),
    "those of": re.compile(r"\b(those|that)\s+of\b", re.IGNORECASE),
    "manieth": re.compile(r"\bmanieth\b", re.IGNORECASE),
}
VERBS = re.compile(
    r"\b(is|are|was|were|has|have|had|does|do|did|can|could|will|would|may|must|which|because|if|when|where|what|that)\b",
    re.IGNORECASE,
)
SOURCE = re.compile(
    r"\b(19|20)\d\d\b|://|arxiv|\b(equations?|sections?|tables?|figures?|appendix|chapter|sec|eq|fig)\b", re.I
)
# An item of a list, or a line of a table that is made with spaces.
STARTS = re.compile(r"\s*([-*+]|\d+[.)]) |\s*\S.*?\S   +\S")
BRACKET = re.compile(r"\(([^()]+)\)")
LONG, VERY_LONG = 25, 32
# A message shorter than this is a name, a key or a format.
MESSAGE_WORDS = 4


@dataclass(frozen=True)
class Sentence:
    """A sentence, and the place it begins at."""

    file: str
    line: int
    text: str

    @cached_property
    def words(self) -> int:
        return len(re.findall(r"[A-Za-z0-9][\w'.-]*", self.text))

    def hits(self) -> dict[str, int]:
        """Occurrences of each measure in this sentence."""
        found = {name: len(word.findall(self.text)) for name, word in WORDS.items()}
        if self.text.endswith("?"):
            found["what"] = 0
        found["brackets"] = sum(clause(bracket) for bracket in BRACKET.findall(self.text))
        found[f">{LONG}"] = self.words > LONG
        found[f">{VERY_LONG}"] = self.words > VERY_LONG
        return found

    def badness(self) -> float:
        """How hard the sentence is to read: its stumbling words, and its words above the limit."""
        found = self.hits()
        stumbles = sum(found[name] for name in WORDS) + 2 * found["manieth"] + found["brackets"]
        return stumbles + max(self.words - LONG, 0) / 4


def clause(bracket: str) -> bool:
    """Whether a bracket's content is a clause, by the heuristic above."""
    if SOURCE.search(bracket):
        return False
    return len(bracket.split()) > 8 or VERBS.search(bracket) is not None


@dataclass
class Block:
    """Lines that belong together, with the number of each."""

    lines: list[tuple[int, str]] = field(default_factory=list)

    def sentences(self, file: str) -> Iterator[Sentence]:
        text, starts = "", []
        for number, line in self.lines:
            starts.append((len(text), number))
            text += line.strip() + " "
        text = re.sub(r"`+[^`]*`+|\"[^\" ]+( [^\" ]+)?\"", lambda match: "X" + " " * (len(match[0]) - 1), text)
        begin = 0
        ends = [match.end(1) for match in re.finditer(r"([.!?])[\"')*_]*\s+(?=[\"'(*_A-Z0-9`]|[a-z_]+: )", text)]
        for end in [*(end for end in ends if not abbreviation(text[:end])), len(text)]:
            part = " ".join(text[begin:end].split())
            if re.search(r"[A-Za-z]{2}", part):
                line = max(number for start, number in starts if start <= begin)
                yield Sentence(file, line, part)
            begin = end


def abbreviation(text: str) -> bool:
    return re.search(r"\b(e\.g|i\.e|vs|al|cf|etc|Eq|Fig|Sec|Tab|No|p|pp)\.$", text) is not None


def blocks(lines: Iterator[tuple[int, str]]) -> Iterator[Block]:
    """Paragraphs, items of a list, and entries such as `name: text` of an "Args:" section."""
    block = Block()
    section = False
    for number, line in lines:
        heading = re.fullmatch(r"\s*(Args|Returns|Raises|Yields|Attributes|Example|Examples):", line) is not None
        entry = re.match(r"\s*`?[*\w]+`?( \([^)]*\))?: ", line) or (section and re.match(r"\s+[*\w.\[\], ]+: ", line))
        if not line.strip() or heading or entry or STARTS.match(line):
            yield block
            block = Block()
        section = section or heading
        if line.strip() and not heading and not line.lstrip().startswith((">>>", "...")):
            block.lines.append((number, re.sub(r"^\s*([-*+]|\d+[.)]) ", "", line)))
    yield block


def of_python(text: str) -> Iterator[tuple[str, Block]]:
    """Blocks of a Python file, each with its kind: "prose" (docstring, comment) or "message"."""
    nodes = list(ast.walk(ast.parse(text)))
    strings = {node for node in nodes if isinstance(node, ast.JoinedStr) or is_text(node)}
    # A string alone on its line is a docstring, or documents the field before it: tyro prints it as help.
    docstrings = {node.value for node in nodes if isinstance(node, ast.Expr) and node.value in strings}
    for node in docstrings:
        for block in blocks(enumerate(node.value.splitlines(), node.lineno)):
            yield "prose", block
    for block in comments(text, strings):
        yield "prose", block
    inner = {part for node in nodes if isinstance(node, ast.JoinedStr) for part in ast.walk(node) if part is not node}
    for node in strings - docstrings - inner:
        held = message(node)
        if len(re.findall(r"\b[A-Za-z]{2,}\b", held)) >= MESSAGE_WORDS and " " in held.strip():
            for block in blocks((node.lineno, line) for line in held.splitlines()):
                yield "message", block


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def comments(text: str, strings: set[ast.AST]) -> Iterator[Block]:
    """Blocks of comments: a # outside of all strings begins one. `tokenize` says the same in four times the time."""
    spans = defaultdict(list)
    for node in strings:
        for number in range(node.lineno, node.end_lineno + 1):
            begin = node.col_offset if number == node.lineno else 0
            end = node.end_col_offset if number == node.end_lineno else 10**6
            spans[number].append((begin, end))
    run: list[tuple[int, str]] = []
    run_alone = False
    for number, line in enumerate(text.splitlines(), 1):
        places = [match.start() for match in re.finditer("#", line)] if "#" in line else []
        outside = [place for place in places if not any(begin <= place < end for begin, end in spans[number])]
        alone = bool(outside) and not line[: outside[0]].strip()
        if run and not (alone and run_alone and number == run[-1][0] + 1):
            yield from blocks(iter(run))
            run = []
        if outside and not re.match(r"#\s*(type:|noqa|fmt:|!|%%)", line[outside[0] :]):
            run.append((number, line[outside[0] :].lstrip("#")))
            run_alone = alone
    yield from blocks(iter(run))


def message(node: ast.AST) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "X" for part in node.values)
    return ""


def of_markdown(text: str) -> Iterator[tuple[str, Block]]:
    kept: list[tuple[int, str]] = []
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
            kept.append((number, ""))
        elif line.lstrip().startswith("|"):
            for cell in line.split("|"):
                kept += [(number, ""), (number, re.sub(r"^[\s:-]+$", "", cell))]
        elif line.startswith("#"):
            kept += [(number, ""), (number, line.lstrip("#")), (number, "")]
        elif not fenced and not line.lstrip().startswith('* not: "'):
            kept.append((number, re.sub(r"\]\([^)]*\)", "]", line)))
    yield from (("prose", block) for block in blocks(iter(kept)))


def of_comments(text: str) -> Iterator[tuple[str, Block]]:
    """Blocks of a file whose comments begin with #: YAML, Makefile, Dockerfile."""
    lines = (
        (number, match[1] if (match := re.match(r"\s*#(.*)", line)) else "")
        for number, line in enumerate(text.splitlines(), 1)
    )
    yield from (("prose", block) for block in blocks(lines))


def reader(name: str) -> Callable[[str], Iterator[tuple[str, Block]]] | None:
    path = Path(name)
    if path.suffix == ".py":
        return of_python
    if path.suffix == ".md":
        return of_markdown
    if path.suffix in {".yaml", ".tpl", ".Dockerfile"} or path.name in {"Makefile", "Dockerfile"}:
        return of_comments
    return None


def tracked() -> list[str]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def area(name: str, kind: str) -> str | None:
    """The part of the project whose limits hold for a file; None if none do."""
    top = name.partition("/")[0]
    if top in {"platform", "jobs"}:
        return "messages" if kind == "message" else "platform"
    if top in {"tests", "benchmarks"}:
        return "tests" if kind == "prose" else None
    if name.endswith(".md"):
        return "docs" if top in {"docs", "README.md", "CONTRIBUTING.md"} else None
    return "charts" if top in {"charts", "docker", "Makefile"} else None


def sentences(names: list[str] | None = None) -> Iterator[tuple[str, Sentence]]:
    """All sentences with their area; `names` limits them to files, or to files below folders."""
    for name in tracked():
        if names and not any(name == wanted or name.startswith(wanted.rstrip("/") + "/") for wanted in names):
            continue
        if read := reader(name):
            for kind, block in read((ROOT / name).read_text(encoding="utf-8")):
                if place := area(name, kind):
                    yield from ((place, sentence) for sentence in block.sentences(name))


@dataclass
class Count:
    """Sums over sentences."""

    words: int = 0
    sentences: int = 0
    hits: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, sentence: Sentence) -> None:
        self.words += sentence.words
        self.sentences += 1
        for name, number in sentence.hits().items():
            self.hits[name] += number

    def rates(self) -> dict[str, float]:
        """Per thousand words; of long sentences, per hundred sentences."""
        return {
            name: (100 * number / self.sentences) if name.startswith(">") else (1000 * number / self.words)
            for name, number in self.hits.items()
        }


def counted(pairs: Iterator[tuple[str, Sentence]]) -> dict[str, Count]:
    counts: dict[str, Count] = defaultdict(Count)
    for name, sentence in pairs:
        counts[name].add(sentence)
    return counts


def folder(place: str, sentence: Sentence) -> str:
    parts = Path(sentence.file).parts
    depth = 3 if parts[0] == "platform" else 2
    name = "/".join(parts[:depth] if len(parts) > depth else parts[:-1]) or parts[0]
    return f"{name} ({place})" if place == "messages" else name


def print_table(pairs: list[tuple[str, Sentence]]) -> None:
    columns = list(Sentence("", 0, "").hits())
    print(f"{'per 1000 words; > in % of sentences':44}{'words':>8}" + "".join(f"{name:>10}" for name in columns))
    by_folder = counted((folder(place, sentence), sentence) for place, sentence in pairs)
    for title, counts in [("folders", by_folder), ("areas", counted(iter(pairs)))]:
        print(f"\n{title}")
        for name, count in sorted(counts.items()):
            rates = count.rates()
            print(f"{name:44}{count.words:8}" + "".join(f"{rates[column]:10.1f}" for column in columns))


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the project's prose.")
    parser.add_argument("paths", nargs="*", help="files or folders, relative to the checkout; default: all")
    parser.add_argument("--worst", type=int, metavar="N", help="print the N sentences that are hardest to read")
    arguments = parser.parse_args()
    pairs = list(sentences(arguments.paths))
    if arguments.worst is None:
        print_table(pairs)
        return
    ranked = sorted((sentence for _, sentence in pairs), key=lambda sentence: -sentence.badness())
    for sentence in ranked[: arguments.worst]:
        if sentence.badness() > 0:
            print(f"{sentence.file}:{sentence.line}: ({sentence.badness():.1f}) {sentence.text}")


if __name__ == "__main__":
    main()
