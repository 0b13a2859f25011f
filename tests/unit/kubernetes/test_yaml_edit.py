"""Edits of text: whatever the layout, what is not changed keeps its bytes."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from exporter.kubernetes.inject import inject, remove
from exporter.kubernetes.yaml_edit import edited
from exporter.kubernetes.yaml_values import load_yaml, same
from tests.unit.kubernetes.manifests import deployment, make_settings, service

WRAPPED = 'l: &l {a: 1}\nm: {<<: [*l], b: "x"} # x\n'


@pytest.mark.parametrize(
    ("text", "new", "expected"),
    [
        ("a: 1 # x\nb: 2\n", {"a": 5, "b": 2}, "a: 5 # x\nb: 2\n"),
        ("a: 'x' # x\n", {"a": "y's"}, "a: 'y''s' # x\n"),
        ('a: "x"\n', {"a": 'y"'}, 'a: "y\\""\n'),
        ("a: x\n", {"a": "yes"}, 'a: "yes"\n'),
        ("a: 1\n\n# end\n", {"a": 1, "b": [1]}, "a: 1\nb:\n- 1\n\n# end\n"),
        ("a:\n  - 1\nb: 2", {"a": [1, 2], "b": 2}, "a:\n  - 1\n  - 2\nb: 2"),
        ("a:\n- 1\n- 2 # two\n- 3\n", {"a": [1, 3]}, "a:\n- 1\n- 3\n"),
        ("- name: x\n  port: 1\n- name: z\n", [{"name": "x"}, {"name": "z"}], "- name: x\n- name: z\n"),
        ("- port: 1\n  name: x\n", [{"name": "x"}], "- name: x\n"),
        ("a: # nothing\nb: 1\n", {"a": {"x": 1}, "b": 1}, "a: # nothing\n  x: 1\nb: 1\n"),
        ("a: null\nb: 1\n", {"a": {"x": 1}, "b": 1}, "a:\n  x: 1\nb: 1\n"),
        ("a:\n  x: 1\nb: 1\n", {"a": None, "b": 1}, "a:\nb: 1\n"),
        ("a: {}\n", {"a": {"x": 1}}, "a: {x: 1}\n"),
        ("a: {x: 1}\n", {"a": {}}, "a: {}\n"),
        ("{a: 1, b: 2, c: 3}\n", {"c": 3}, "{c: 3}\n"),
        ("{a: 1, b: 2, c: 3}\n", {"a": 1, "d": 4}, "{a: 1, d: 4}\n"),
        ("a: |\n  text\n\n# end\n", {"a": "text\n", "b": 1}, "a: |\n  text\n\nb: 1\n# end\n"),
        ("a: 1\r\nb: 2\r\n", {"a": 1, "b": 2, "c": 3}, "a: 1\r\nb: 2\r\nc: 3\r\n"),
        (
            '{\n   "a": [\n      1\n   ]\n}',
            {"a": [1], "b": {"c": 2}},
            '{\n   "a": [\n      1\n   ],\n   "b": {\n      "c": 2\n   }\n}',
        ),
        ('{"a":1}', {"a": 1, "b": "x"}, '{"a":1,"b":"x"}'),
        ("l: &l {a: 1}\nm: *l # x\n", {"l": {"a": 1}, "m": {"a": 1, "b": "x"}}, WRAPPED),
        (WRAPPED, {"l": {"a": 1}, "m": {"a": 1}}, "l: &l {a: 1}\nm: *l # x\n"),
        (
            "l: &l {a: 1}\nm:\n  <<: *l\n  b: 2\n",
            {"l": {"a": 1}, "m": {"a": 1, "b": 2, "c": 3}},
            "l: &l {a: 1}\nm:\n  <<: *l\n  b: 2\n  c: 3\n",
        ),
        (
            "l: &l {a: 1}\nm: {<<: *l, b: 2}\n",
            {"l": {"a": 1}, "m": {"a": 1}},
            "l: &l {a: 1}\nm: {<<: *l}\n",
        ),
    ],
)
def test_an_edit_changes_only_its_place(text: str, new: Any, expected: str) -> None:
    """Comments, quotes, indentation, line breaks around a change stay; the result holds the wanted value."""
    assert edited(text, load_yaml(text), new, is_json=text.startswith(('{"', "{\n"))) == expected


@pytest.mark.parametrize(
    "text",
    [
        "a: &x {k: 1}\nb: *x\n",
        "a: {k: 1}\nb: {<<: {m: 1}}\n",
        "a: !!map {k: 1}\n? [b]\n: 1\n",
        "x: &x {k: 1}\na: *x\n",
    ],
    ids=["alias", "merge", "complex key", "value of an alias"],
)
def test_what_cannot_be_edited_is_given_up(text: str) -> None:
    """Where an edit in place would change something else too, there is no edit."""
    old = load_yaml(text)
    new = {**old, "a": {"k": 2}}
    if "<<" in text:
        new["b"] = {"m": 2}
    assert edited(text, old, new, is_json=False) is None


def test_equality_tells_types_apart() -> None:
    """true is not 1 and 1 is not 1.0: a manifest would change its meaning."""
    assert not same(True, 1)
    assert not same([1], [1.0])
    assert same({"a": [None]}, {"a": [None]})


def layout(value: Any, seed: int) -> str:
    """A value as YAML or JSON in one of many layouts, sprinkled with comments and blank lines."""
    choose = random.Random(seed)
    if choose.random() < 0.3:
        text = json.dumps(value, indent=choose.choice([None, 1, 2, 4]))
        return text + choose.choice(["", "\n"])
    yaml = YAML()
    offset = choose.choice([0, 2])
    yaml.indent(mapping=choose.choice([2, 3, 4]), sequence=offset + 2, offset=offset)
    yaml.default_flow_style = choose.choice([False, False, None])
    yaml.width = choose.choice([60, 4096])
    out = io.StringIO()
    yaml.dump(value, out)
    lines = []
    for line in out.getvalue().splitlines():
        if choose.random() < 0.1:
            lines.append(" " * choose.randrange(8) + "# comment")
        if choose.random() < 0.05:
            lines.append("")
        ends = line.endswith((":", "'", "t", "0"))
        lines.append(line + "  # beside" if ends and choose.random() < 0.2 else line)
    newline = choose.choice(["\n", "\n", "\r\n"])
    return newline.join(lines) + choose.choice([newline, newline, ""])


def loads_as(text: str, value: Any) -> bool:
    """Whether the layout is right: long plain scalars with colons are beyond the emitter used to make it."""
    try:
        return same(load_yaml(text), value)
    except YAMLError:
        return False


apps = st.fixed_dictionaries(
    {},
    optional={
        "lifecycle": st.sampled_from(
            [
                {},
                {"postStart": {"httpGet": {"port": "http", "path": "/x"}}},
                {"preStop": {"exec": {"command": ["x"]}}},
            ]
        ),
        "readinessProbe": st.sampled_from([{"httpGet": {"port": "http"}}, {"tcpSocket": {"port": 8080}}]),
        "env": st.lists(
            st.fixed_dictionaries({"name": st.sampled_from("AB"), "value": st.text("ab #:-'\"", max_size=6)}),
            max_size=2,
        ),
    },
)
templates = st.fixed_dictionaries(
    {},
    optional={
        "terminationGracePeriodSeconds": st.sampled_from([0, 30, 600]),
        "initContainers": st.sampled_from([[], [{"name": "first", "image": "x"}]]),
        "volumes": st.sampled_from([[], [{"name": "tmp", "emptyDir": {}}]]),
    },
)
notes = st.sampled_from([None, {}, {"a": "b"}, "absent"])


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(apps, templates, notes, st.integers(0, 10**6), st.booleans())
def test_inject_then_remove_is_nothing(app: Any, template: Any, annotations: Any, seed: int, native: bool) -> None:
    """For any layout: remove gives back the bytes, a second inject changes none, and no document is written
    anew.
    """
    obj = deployment(**app)
    obj["spec"]["template"]["spec"].update(template)
    if annotations != "absent":
        obj["spec"]["template"]["metadata"]["annotations"] = annotations
    text = layout(obj, seed)
    assume(loads_as(text, obj))
    if not text.startswith("{"):
        text += "\n---\n" + layout(service(targetPort=8080), seed + 1)
    said: list[str] = []
    wish = make_settings(native=native)
    (once,) = inject([("x", text)], wish, said.append)
    assert not [line for line in said if "rewritten" in line]
    assert inject([("x", once)], wish, said.append) == [once]
    assert remove([("x", once)], said.append) == [text]


def test_what_follows_an_alias_goes_behind_it() -> None:
    """The node of an alias stands elsewhere in the text: what is added comes where the alias is."""
    text = "x: &x [1]\na:\n  b: *x # same\nc: 1\n"
    old = load_yaml(text)
    new = {**old, "a": {**old["a"], "new": 2}}
    assert edited(text, old, new, is_json=False) == "x: &x [1]\na:\n  b: *x # same\n  new: 2\nc: 1\n"


LAYOUTS = sorted((Path(__file__).parent / "layouts").iterdir())


@pytest.mark.parametrize("path", LAYOUTS, ids=[path.stem for path in LAYOUTS])
@pytest.mark.parametrize("native", [True, False], ids=["native", "classic"])
def test_layouts_people_write_come_back(path: Path, native: bool) -> None:
    """Each odd layout is edited in place, is stable on a second run, and comes back byte for byte."""
    text = path.read_text()
    said: list[str] = []
    wish = make_settings(native=native, port="80")
    (once,) = inject([("x", text)], wish, said.append)
    assert "websocket-exporter" in once
    assert not [line for line in said if "rewritten" in line]
    assert inject([("x", once)], wish, said.append) == [once]
    assert remove([("x", once)], said.append) == [text]
