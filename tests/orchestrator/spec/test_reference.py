"""The fields of a sweep file as readers and editors have them: what is written is what the models say."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from orchestrator.spec.reference import BEGIN, END, PAGE, ROOT, SCHEMA, fields_text, page_text, schema, schema_text
from orchestrator.spec.sweep import Sweep
from orchestrator.spec.sweep_file import dump, load_sweep

SHIPPED = sorted((ROOT / "sweeps").rglob("*.yaml"))
STALE = "{} is not what the models say now: run `make docs` and commit what it writes."
FULL: dict[str, Any] = {
    "name": "full",
    "task": "cramming",
    "models": ["a/b", {"name": "c/d", "revisions": ["step1"], "dtype": "auto", "radius": 10}],
    "texts": [
        {"source": "files", "path": "texts/", "samples": 3, "control": "shuffled"},
        {"source": "hub", "dataset": "e/f", "revision": None},
        {"source": "random_words", "words": "words.txt", "samples": 3},
        {"source": "random_tokens", "samples": 3},
        {"source": "model_samples", "samples": 3, "temperature": 0.5},
    ],
    "num_vectors": [1, 2],
    "criterion": {"teacher_forced": 1},
    "search": {"policy": "grid", "lengths": {"draws": 3, "longest": 9}},
    "recipe": {"optimizer": "adamw", "learning_rate": 0.5},
    "budget": {"minutes": 1},
    "engines": {"count": "auto", "gpus": 0.5},
}


def problems(document: Any) -> list[str]:
    """What the written schema finds in a sweep file."""
    validator = Draft202012Validator(json.loads((ROOT / SCHEMA).read_text(encoding="utf-8")))
    return [error.message for error in validator.iter_errors(document)]


def test_the_schema_is_up_to_date():
    assert (ROOT / SCHEMA).read_text(encoding="utf-8") == schema_text(), STALE.format(SCHEMA)


def test_so_is_the_page():
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    assert page == page_text(page), STALE.format(PAGE)


class TestThePage:
    def test_what_stands_outside_the_marks_is_left_alone(self):
        assert page_text(f"before\n{BEGIN}\nold\n{END}\nafter\n") == (
            f"before\n{BEGIN}\n\n{fields_text(schema())}\n{END}\nafter\n"
        )

    @pytest.mark.parametrize("page", ["", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}"])
    def test_a_page_without_its_marks_is_refused(self, page: str):
        with pytest.raises(ValueError, match="put them back"):
            page_text(page)

    def test_a_point_has_the_values_the_default_and_the_description(self):
        text = " ".join(fields_text(schema()).split())
        for point in (
            "- `retries` (whole number of at least 0; default `2`): Further starts after the first has stalled",
            "- `path` (text; required): A file, a folder",
            "- `device` (`auto`, `cpu`, `cuda`, `mps`; default `auto`): Device that the models run on.",
            "- `criterion` (`exact` or mapping; default `exact`): ",
            "- `tokens_per_text` (whole number of at least 1 and below 1,048,576; default `512`): ",
        ):
            assert point in text

    def test_every_field_has_a_point_under_its_heading(self):
        text, whole = fields_text(schema()), schema()
        headings = {
            "ModelEntry": "`models`",
            "SearchEntry": "`search`",
            "RepeatedContext": "`context`",
            "RandomLengths": "`search.lengths`",
            "LeastMargin": "`criterion: {margin: ..}`",
            "TeacherForced": "`criterion: {teacher_forced: ..}`",
            "BudgetEntry": "`budget`",
            "EnginesEntry": "`engines`",
        }
        sections = dict(part.split("\n", 1) for part in text.split("### ")[1:])
        for name, heading in headings.items():
            assert all(f"- `{field}` (" in sections[heading] for field in whole["$defs"][name]["properties"])
        assert all(f"- `{field}` (" in sections["The whole file"] for field in Sweep.model_fields)


class TestTheSchema:
    def test_is_one(self):
        Draft202012Validator.check_schema(schema())

    def test_every_field_is_described(self):
        whole = schema()
        for name, definition in whole["$defs"].items():
            if not name.endswith("Recipe"):  # those of a recipe are the task's
                undescribed = {key for key, field in definition["properties"].items() if "description" not in field}
                assert undescribed <= {"source"}, name

    @pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
    def test_every_shipped_sweep_names_it_and_fits_it(self, path: Path):
        first = path.read_text(encoding="utf-8").splitlines()[0]
        start = "# yaml-language-server: $schema="
        assert first.startswith(start)
        assert (path.parent / first.removeprefix(start)).resolve() == (ROOT / SCHEMA).resolve()
        assert problems(yaml.safe_load(path.read_text(encoding="utf-8"))) == []

    def test_every_kind_of_entry_fits_it(self):
        assert problems(FULL) == []

    def test_so_does_the_sweep_that_a_run_keeps(self):
        sweep = load_sweep(ROOT / "sweeps" / "quickstart.yaml")
        assert problems(yaml.safe_load(dump(sweep))) == []

    @pytest.mark.parametrize(
        "misspell",
        [
            lambda sweep: sweep.update(serch={}),
            lambda sweep: sweep["models"][1].update(dtyp="float32"),
            lambda sweep: sweep["texts"][0].update(sample=3),
            lambda sweep: sweep["texts"][2].update(word="words.txt"),
            lambda sweep: sweep["search"].update(max_lenght=3),
            lambda sweep: sweep["search"]["lengths"].update(short=1),
            lambda sweep: sweep["criterion"].update(forced=1),
            lambda sweep: sweep["recipe"].update(patiense=3),
            lambda sweep: sweep["budget"].update(minute=1),
            lambda sweep: sweep["engines"].update(cpu=1),
        ],
    )
    def test_a_misspelt_key_is_refused_wherever_it_stands(self, misspell: Callable[[dict[str, Any]], None]):
        sweep = json.loads(json.dumps(FULL))
        misspell(sweep)
        assert problems(sweep)

    @pytest.mark.parametrize(
        "changes",
        [
            {"task": "craming"},
            {"texts": [{"path": "texts/"}]},
            {"texts": [{"source": "file", "path": "texts/"}]},
            {"num_vectors": 4},
            {"seeds": [-1]},
            {"recipe": "publishd"},
            {"engines": {"device": "gpu"}},
            {"search": {"growth": 1}},
        ],
        ids=str,
    )
    def test_so_is_a_value_that_capsweep_refuses(self, changes: dict[str, Any]):
        assert problems({**FULL, **changes})

    @pytest.mark.parametrize("key", ["name", "models", "texts"])
    def test_and_a_file_without_what_it_needs(self, key: str):
        assert problems({name: value for name, value in FULL.items() if name != key})
