"""The documentation of the chart: its table is that of values.yaml, and its schema describes everything."""

import json
import os
import re
from collections.abc import Iterator
from typing import Any

import yaml

from tests.charts.rendering import CHART

README = CHART / "README.md"
VALUES = CHART / "values.yaml"
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
_START, _END = "<!-- values -->\n", "<!-- end of values -->"


def described() -> Iterator[tuple[str, str, str]]:
    """Key, default and description of every line of values.yaml that has a key."""
    comment: list[str] = []
    section = ""
    for line in VALUES.read_text().splitlines():
        if match := re.match(r"^ *# (.*)", line):
            comment.append(match[1])
        elif match := re.match(r"^( *)([A-Za-z]+):(?: &\w+)? ?(.*)$", line):
            assert comment, f"{match[2]} has no comment"
            key = f"{section}.{match[2]}" if match[1] else match[2]
            section = section if match[1] else match[2]
            yield key, match[3], " ".join(comment)
            comment = []
        elif not line.strip():
            comment = []


def table() -> str:
    rows = ["| key | default | |", "|---|---|---|"]
    for key, default, text in described():
        shown = "" if not default or default.startswith("*") else f"`{default}`"
        rows.append(f"| `{key}` | {shown} | {text} |".replace("|  |", "| |"))
    return "\n".join(rows) + "\n"


def test_the_table_is_that_of_the_values():
    text = README.read_text()
    before, rest = text.split(_START)
    after = rest.split(_END)[1]
    wanted = f"{before}{_START}{table()}{_END}{after}"
    if os.environ.get("HARDVIEWS_WRITE_GOLDEN"):
        README.write_text(wanted)
        text = wanted
    assert text == wanted


def test_every_value_has_a_line():
    values: dict[str, Any] = yaml.safe_load(VALUES.read_text())
    keys = {key for key, _, _ in described()}
    for name, value in values.items():
        assert name in keys
        same = value is values["knn"] and name != "knn"  # an alias: linear, fewshot, transfer
        for key in value if isinstance(value, dict) and not same else ():
            assert f"{name}.{key}" in keys


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if "type" in schema and isinstance(schema["type"], str | list):
            yield schema
        for value in schema.values():
            yield from nodes(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from nodes(value)


def test_the_schema_is_strict():
    for schema in nodes(SCHEMA):
        if schema["type"] == "object" and schema is not SCHEMA["properties"]["global"]:
            assert "additionalProperties" in schema
            assert schema["additionalProperties"] is False or "type" in schema["additionalProperties"]


def test_the_schema_describes_every_value():
    for name, schema in SCHEMA["properties"].items():
        found = SCHEMA["definitions"][schema["$ref"].split("/")[-1]] if "$ref" in schema else schema
        assert found["description"].endswith("."), name
        for key, inner in found.get("properties", {}).items():
            there = SCHEMA["definitions"][inner["$ref"].split("/")[-1]] if "$ref" in inner else inner
            assert there["description"].endswith("."), f"{name}.{key}"


def test_the_schema_knows_the_keys_of_the_values_and_no_other():
    values = yaml.safe_load(VALUES.read_text())
    assert SCHEMA["properties"].keys() - {"global"} == values.keys()
    own = {"secrets"}  # of a job, beside those of the chart
    for name, value in values.items():
        if isinstance(value, dict) and value:
            schema = SCHEMA["properties"][name]
            found = SCHEMA["definitions"][schema["$ref"].split("/")[-1]] if "$ref" in schema else schema
            known = set(found["properties"])
            assert value.keys() <= known
            if "args" in value:
                assert known - value.keys() == values["pod"].keys() | own
            else:
                assert known == value.keys()
