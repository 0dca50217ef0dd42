"""Any sweep file whatever: a plan that a run can begin with, or one message of whole lines and exit code 2.

CAPSWEEP_FUZZ sets the number of files tried, 60 without it: the same ones each time, except in `make fuzz`.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from orchestrator.errors import BadInput
from orchestrator.planning.planner import make_plan
from orchestrator.runs.directory import open_run
from orchestrator.runs.session import open_session
from orchestrator.spec.sweep_file import dump, load_sweep

NUM_CASES = int(os.environ.get("CAPSWEEP_FUZZ", "60"))
TOY = """
name: toy
task: toy
models: [toy/model, {name: toy/other, revision: main, dtype: bfloat16}]
texts:
  - {source: files, path: texts/, samples: 3}
  - {source: files, path: 'texts/*.txt'}
  - {source: random_words, words: words.txt, samples: 2, seed: 0, words_per_text: 40}
num_vectors: [1, 2]
prefix: null
share: null
seeds: [0, 1]
criterion: {teacher_forced: 0.99}
decode_from: memory
search: {max_length: 20, growth: 1.1, retries: 2, policy: bisect}
recipe: {steps: 3, slots: 4}
budget: {minutes: 1}
engines: {device: auto, count: 1, gpus: 0, cpus: auto, tokens_per_step: 64, probes_per_trial: auto}
storage: runs/
"""
HUB = TOY.replace("texts:\n", "texts:\n  - {source: hub, dataset: a/b, split: train, column: text, revision: null}\n")
"""It can be loaded, but its texts cannot be read."""
MEASURED = """
name: quick
models: [quickstart/model]
texts: [{source: files, path: texts/, samples: 2}]
recipe: {optimizer: sphere, steps: 10}
search: {max_length: 10}
"""
SHARED = """
name: aliases
task: toy
models: &models [toy/model]
texts: [&texts {source: files, path: texts/}, {<<: *texts, samples: 1}]
seeds: &list [1, 2]
num_vectors: *list
"""

PLANNED = [*[TOY] * 5, *[SHARED] * 4, MEASURED]
"""Few with a language model: those take longest."""

HUGE = "a huge number"
"""Written as digits only in the file: Python refuses to write such a number as text."""
SCALARS = st.one_of(
    st.sampled_from([None, True, -1, 0, 1, 2.5, float("nan"), float("inf"), 1e308, 2**31 - 1, 2**31, 10**30, HUGE]),
    st.sampled_from(
        ["", "auto", "3", "1e5", "toy", "cramming", "hub", "files", "..", "/", "~", "~nobody", "*", "[", "a/b"]
    ),
    st.sampled_from(["\x00", "a\nb", "\u202e", "\ud800", "😀", "e\u0301", "\ufeff", "é" * 300, "x" * 5000, "[" * 50]),
    st.sampled_from(["../../outside", "/etc/passwd", "/dev/zero", "s3://", "nosuch://x", "texts/**", "words.txt"]),
    st.text(max_size=6),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6) | st.integers(), inner, max_size=3),
    max_leaves=6,
)
SNIPPETS = (
    "\t", "\x00", "\x85", "\ufffe", "\ufeff", "&a ", "*a", "*nobody", "<<: ", "!!set ", "!!binary x", "!!int ''",
    "!!timestamp x", "!!python/object:os.system ", "!!float z", "!!omap [", "--- ", "...\n", "%YAML 9.9\n", "- ", "? ",
    ": ", "|\n", ">-\n", "{", "[", "'", '"', '"\\ud800"', "0x" + "f" * 5000, "9" * 5000, "1:30", "2024-13-45", ".nan",
    "-.inf", "1e400", "# ", "\n", "  ", "name: a\n", "texts: []\n", "? {a: b}\n",
)  # fmt: skip
"""What may stand anywhere in a file, and means something to YAML."""


def places_in(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place below a document's top, as keys and indices."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*at, key)
        yield from places_in(inner, (*at, key))


def varied(value: Any) -> st.SearchStrategy[Any]:
    """Another value of the same kind, which may well be allowed."""
    match value:
        case bool():
            return st.booleans()
        case int() | float():
            return st.integers(1, 50) | st.floats(0.01, 2)
        case list():
            return st.just(value[:1]) | st.just([*value, *value])
        case dict():
            return st.sampled_from([{}, None]) | st.just({**value, "samples": 1})
        case _:
            return st.sampled_from([value, "auto", "cpu", "float32", "toy", "default", "published", "exact"])


@st.composite
def documents(draw: st.DrawFn, sweeps: Sequence[str]) -> str:
    """One of these sweeps with a few keys dropped, renamed or added, and values of another kind."""
    document = yaml.safe_load(draw(st.sampled_from(sweeps)))
    for _ in range(draw(st.integers(1, 3))):
        places = list(places_in(document))
        if not places:
            break
        *parents, last = draw(st.sampled_from(places))
        target = document
        for key in parents:
            target = target[key]
        junk = deepcopy(draw(VALUES))  # the next change may be made within it
        match draw(st.sampled_from(["vary", "vary", "replace", "drop", "rename", "add", "nest", "repeat"])):
            case "vary":
                target[last] = draw(varied(target[last]))
            case "replace":
                target[last] = junk
            case "drop":
                del target[last]
            case "nest":
                target[last] = [target[last]]
            case "repeat" if isinstance(target, list):
                target.append(target[last])  # yaml writes an alias
            case "rename" if isinstance(target, dict):
                target[draw(st.text(max_size=4)) + str(last)[:-1]] = target.pop(last)
            case _ if isinstance(target, dict):
                target[draw(st.text(max_size=8))] = junk
            case _:
                target.append(junk)
    return yaml.safe_dump(document, allow_unicode=draw(st.booleans())).replace(HUGE, "0x" + "f" * 5000)


@st.composite
def files(draw: st.DrawFn, sweeps: Sequence[str]) -> bytes:
    """The bytes of a sweep file: a changed document, or a good one with its characters or bytes changed."""
    text = draw(documents(sweeps) if draw(st.integers(0, 2)) else st.sampled_from(sweeps))
    how = draw(st.sampled_from([*["as it is"] * 8, *["broken"] * 6, "bytes", "UTF-16"]))
    if how == "broken":
        at = draw(st.integers(0, len(text)))
        match draw(st.sampled_from(["cut", "insert", "double"])):
            case "cut":
                text = text[:at] + text[at + draw(st.integers(1, 10)) :]
            case "insert":
                text = text[:at] + draw(st.sampled_from(SNIPPETS)) + text[at:]
            case _:
                text = text[:at] + text[at : at + draw(st.integers(1, 60))] + text[at:]
    data = text.encode("utf-16" if how == "UTF-16" else "utf-8", errors="surrogatepass")
    if how == "bytes":
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.binary(min_size=1, max_size=4)) + data[at:]
    return data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, shipped_model: Path) -> Iterator[Path]:
    """Where the sweep files lie, with what they name; the current directory meanwhile, without a network."""
    import datasets.config
    import huggingface_hub.constants

    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "texts").mkdir()
    for number in range(4):
        (folder / "texts" / f"{number}.txt").write_text(f"Text {number}: one of a few that are long enough.")
    (folder / "words.txt").write_text("alpha\nbeta\ngamma\n")
    shutil.copytree(shipped_model, folder / "quickstart" / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        patch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
        yield folder


many_files = settings(
    max_examples=NUM_CASES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
)


LINE_BREAK_IN_A_PATH = b"""name: a
task: toy
models: [toy/model, "toy\\rmodel"]
texts: [{source: files, path: "a\\nb"}, {source: random_words, words: "no\\u2028words"}]
"""


@many_files
@given(content=files(PLANNED))
@example(content=LINE_BREAK_IN_A_PATH)
def test_any_file_is_planned_or_refused(folder: Path, capsweep: Callable[..., Any], content: bytes):
    (folder / "mine.yaml").write_bytes(content)
    before = sorted(folder.rglob("*"))
    with tempfile.TemporaryDirectory() as place:
        checked = capsweep("check", "mine.yaml")
        message = checked.stderr
        if checked.returncode == 0:
            plan = make_plan(load_sweep(Path("mine.yaml")))
            with open_session(plan, f"{place}/run"):
                pass
            assert open_run(f"{place}/run").sweep == plan.sweep
        else:
            assert checked.returncode == 2, message
            lines = message.splitlines()
            assert lines
            assert all(line.strip() and ": " in line for line in lines), message
            assert len(set(lines)) == len(lines) < 40
            assert len(message) < 20_000
            ended = capsweep("run", "mine.yaml", "--inline", "--run-dir", f"{place}/run")
            assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", message)
            assert not list(Path(place).iterdir())
    assert sorted(folder.rglob("*")) == before


@many_files
@given(content=files([HUB]))
@pytest.mark.slow
def test_what_is_loaded_is_dumped_as_the_same_sweep(folder: Path, content: bytes):
    path = folder / "mine.yaml"
    path.write_bytes(content)
    try:
        sweep = load_sweep(path)
    except BadInput:
        return
    path.write_text(dump(sweep), encoding="utf-8")
    assert load_sweep(path) == sweep
