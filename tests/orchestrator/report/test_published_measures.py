"""Published measures: worked out by hand on a generated run, and every sweep of the paper laid out and priced.

Long, as each published measure has its test here.
"""

import csv
import re
from itertools import product
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest

import orchestrator
from orchestrator.planning.estimate import estimate
from orchestrator.planning.planner import make_plan
from orchestrator.report.comparison import compare, published_rows
from orchestrator.report.figures import all_figures as figures
from orchestrator.report.figures.canvas import ReportTables
from orchestrator.report.page import render_page
from orchestrator.report.papers import PUBLISHED_SETS
from orchestrator.report.published_measures import decoding_capacities, published_measures
from orchestrator.spec.search import RandomLengths
from orchestrator.spec.sweep_file import load_sweep
from orchestrator.store.probe_columns import PROBES
from orchestrator.store.schema import SAMPLES, SEARCHES
from tasks.texts.hub import HubSource
from tasks.values import Model

SWEEPS = Path(__file__).resolve().parents[3] / "sweeps"
PAPER = sorted((SWEEPS / "paper").glob("*.yaml"))


def probe(length: int, correct: int, **changes: Any) -> dict[str, Any]:
    """A generated probe of Pythia-160M: `correct` of `length` tokens, t_1 given; without memory 10 are correct."""
    row = {
        "task": "cramming",
        "model": "EleutherAI/pythia-160m",
        "search_id": f"{length}-{correct}",
        "number": 0,
        "source": "pg19:made up",
        "num_vectors": 1,
        "outcome": "lossless" if correct == length else "lossy",
        "criterion": "teacher_forced>=0.99",
        "decode_from": "memory+first_token",
        "measured_length": length,
        "token_accuracy": correct / length,
        "token_accuracy_without_memory": 10 / length,
        "nats_without_memory": 5.0 * (length - 1),
        "nats_with_memory": 2.0 * (length - 1),
    }
    return {**row, **changes}


def search(tokens: int, **changes: Any) -> dict[str, Any]:
    """A generated search of Pythia-1.4B: the longest exact length of one vector, as "Progressive Cramming" asks."""
    row = {
        "task": "cramming",
        "model": "EleutherAI/pythia-1.4b",
        "source": "pg19:made up",
        "num_vectors": 1,
        "criterion": "exact",
        "decode_from": "memory",
        "status": "measured",
        "capacity_tokens": tokens,
        "information_gain_bits": 4.0 * tokens,
    }
    return {**row, **changes}


def searches(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=SEARCHES)


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=PROBES)


class TestByHand:
    ROWS = (probe(64, 64), probe(64, 64), probe(101, 101), probe(101, 99), probe(201, 101), probe(201, 141))

    def test_capacity_is_the_longest_length_whose_mean_accuracy_reaches_the_threshold(self):
        (group,) = published_measures(table(*self.ROWS))
        # At 101: (100/100 + 98/100) / 2 = .99; at 201: (100/200 + 140/200) / 2.
        assert group.decoding_capacity == 101

    def test_every_grid_has_a_capacity_whatever_its_criterion_and_what_is_no_grid_has_none(self):
        grown = probe(64, 64, search_id="grown", source="other:1")
        probes = table(*(dict(row, criterion="exact") for row in self.ROWS), grown)
        asked = [{"search_id": row["search_id"], "grid": [64, 101, 201]} for row in self.ROWS]
        searches = pa.Table.from_pylist([*asked, {"search_id": "grown"}], schema=SEARCHES)
        assert decoding_capacities(probes, searches) == {("EleutherAI/pythia-160m", "pg19", 1): 101}

    def test_of_random_words_a_single_draw_will_do(self):
        rows = [probe(101, 101, source="random:1"), probe(101, 51, source="random:2")]
        assert published_measures(table(*rows))[0].decoding_capacity == 101
        others = [{**row, "source": "pg19:made up"} for row in rows]
        assert published_measures(table(*others))[0].decoding_capacity is None

    def test_gains_are_means_beyond_capacity_scaled_to_the_length(self):
        (group,) = published_measures(table(*self.ROWS))
        # Accuracies of at most .99: 98/100, 100/200, 140/200. Gains 89, 91, 131 over L - 1 tokens, times L / (L - 1).
        gains = [89 * 101 / 100, 91 * 201 / 200, 131 * 201 / 200]
        assert group.token_gain is not None
        assert group.token_gain[0] == pytest.approx(sum(gains) / 3)
        assert group.information_gain_nats is not None
        assert group.information_gain_nats[0] == pytest.approx((3 * 101 + 3 * 201 + 3 * 201) / 3)

    def test_failures_of_the_machine_count_nowhere(self):
        rows = [*self.ROWS, {"model": "EleutherAI/pythia-160m", "source": "pg19:x", "outcome": "failed"}]
        assert published_measures(table(*rows))[0].num_probes == 6

    @pytest.mark.parametrize("other", [{"task": "one_step"}, {"criterion": "exact"}])
    def test_what_asks_another_question_counts_nowhere(self, other):
        assert published_measures(table(*({**row, **other} for row in self.ROWS))) == []


class TestCompare:
    def test_beside_table_1_in_published_standard_deviations(self):
        lines = compare(table(*TestByHand.ROWS), SEARCHES.empty_table(), "published")
        assert [line.measure for line in lines] == ["decoding capacity", "token gain", "information gain"]
        assert [line.published for line in lines] == [80.0, 70.9, 396.4]
        gain = lines[1]
        assert gain.measured is not None
        assert gain.difference_in_sd == pytest.approx((gain.measured - 70.9) / 11.0)
        assert lines[0].difference_in_sd is None

    def test_figure_4_has_other_numbers_of_vectors(self):
        rows = [{**row, "num_vectors": 4} for row in TestByHand.ROWS]
        assert [line.published for line in compare(table(*rows), SEARCHES.empty_table(), "published")] == [
            384.0,
            296.7,
            1611.5,
        ]

    def test_a_folder_is_known_by_the_name_that_the_paper_gives(self):
        mine = [{**row, "model": "mine"} for row in TestByHand.ROWS]
        assert compare(table(*mine), SEARCHES.empty_table(), "published") == []
        theirs = [{**row, "model": "OPT-1.3B"} for row in TestByHand.ROWS]
        assert compare(table(*theirs), SEARCHES.empty_table(), "published")
        gemma = searches(search(400, model="Gemma-3-4B"))
        assert compare(PROBES.empty_table(), gemma, "progressive")

    def test_exact_horizons(self):
        lines = compare(PROBES.empty_table(), searches(search(400), search(500)), "progressive")
        assert [line.measure for line in lines] == [
            f"{measure}, {method}"
            for method in ("baseline", "low_dim_256")
            for measure in ("exact horizon", "information gain")
        ]
        tokens, gain, *_ = lines
        assert (tokens.measured, tokens.published, tokens.published_sd) == (450.0, 430.4, 64.9)
        assert (gain.measured, gain.published, gain.published_sd, gain.unit) == (1800.0, 1639.0, 188.0, "bits")

    def test_a_published_horizon_without_information_gain(self):
        run = searches(search(100, model="EleutherAI/pythia-410m"))
        (line,) = compare(PROBES.empty_table(), run, "progressive")
        assert (line.measure, line.published) == ("exact horizon, baseline", 102.0)

    @pytest.mark.parametrize(
        "other",
        [
            {"task": "one_step"},
            {"criterion": "teacher_forced>=0.99"},
            {"decode_from": "memory+first_token"},
            {"num_vectors": 4},
            {"source": "fanfics:made up"},
            {"status": "open"},
        ],
    )
    def test_what_asks_another_question_is_no_exact_horizon(self, other):
        assert compare(PROBES.empty_table(), searches(search(400, **other)), "progressive") == []

    @pytest.mark.parametrize("criterion", ["exact", "teacher_forced>=0.99"])
    def test_the_longest_text_of_one_step(self, criterion):
        asked = {"task": "one_step", "num_vectors": 2, "criterion": criterion}
        run = searches(search(100, **asked), search(120, **asked))
        (per_text,) = compare(PROBES.empty_table(), run, "one_step")
        assert (per_text.measured, per_text.published) == (120.0, 128.0)

    def test_texts_that_share_a_vector_stand_beside_those_of_the_paper(self):
        asked = {"task": "one_step", "num_vectors": 5, "num_texts": 4, "criterion": "exact"}
        (shared,) = compare(PROBES.empty_table(), searches(search(103, **asked), search(99, **asked)), "one_step")
        assert shared.measure == "longest text, second vector shared"
        assert (shared.measured, shared.published) == (25.0, 64.0)

    @pytest.mark.parametrize("other", [{"task": "cramming"}, {"criterion": "teacher_forced>=0.5"}])
    def test_what_asks_another_question_is_no_one_step(self, other):
        row = search(120, task="one_step", num_vectors=2) | other
        assert compare(PROBES.empty_table(), searches(row), "one_step") == []


def test_the_command_reports_what_it_cannot_compare(toy_sweep, finished, capsweep):
    run = finished(toy_sweep)
    ended = capsweep("compare", run, "--with", "published")
    assert ended.returncode == 2
    assert "has no figures for its searches" in ended.stderr
    unknown = capsweep("compare", run, "--with", "progresive")
    assert unknown.returncode == 2
    assert all(f"'{paper}'" in unknown.stderr for paper in PUBLISHED_SETS)


@pytest.mark.parametrize("path", [*PAPER, SWEEPS / "progressive.yaml"], ids=lambda path: path.stem)
def test_every_sweep_of_a_paper_is_laid_out_and_priced(path, tmp_path, monkeypatch, stories_model, stories):
    """With a small model and made-up chunks in place of what the hub has."""
    (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "words.txt").write_text("alpha\nbeta\ngamma\n")
    chunks = [{"text": " ".join(stories[n : n + 8])} for n in range(50)]
    with (tmp_path / "fanfics.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text"], *([chunk["text"]] for chunk in chunks)])
    monkeypatch.setattr(
        datasets, "load_dataset", lambda *_, **__: datasets.IterableDataset.from_generator(lambda: iter(chunks))
    )
    monkeypatch.setattr(HubSource, "pinned", lambda entry: entry.model_copy(update={"commit": 40 * "0"}))
    sweep = load_sweep(tmp_path / path.name)
    assert all(model.name.count("/") == 1 for model in sweep.models)
    plan = make_plan(sweep.model_copy(update={"models": (Model(name=str(stories_model)),)}))
    (priced,) = estimate(plan)
    (entry,) = sweep.texts
    assert entry.samples is not None
    assert (priced.texts, priced.searches) == (
        entry.samples,
        entry.samples * len(sweep.num_vectors) * len(sweep.seeds),
    )
    grid = sweep.search.lengths is not None
    assert priced.probes == sum(len(search.grid or ()) for search in plan.searches) if grid else 150
    assert priced.gpu_hours(100) > 0


def published_capacities() -> list[tuple[str, str, int, int]]:
    """(hub id, source, k, capacity in tokens) of every one that the first paper prints."""
    table = published_rows("cramming_table1.csv")
    ids = {row["model"]: row["hf_id"] for row in table}
    rows = [{**row, "num_vectors": "1"} for row in table]
    rows += [{**row, "source": "pg19"} for row in published_rows("cramming_by_vectors.csv")]
    return [
        (ids[row["model"]], row["source"], int(row["num_vectors"]), int(row["decoding_capacity_tokens"]))
        for row in rows
    ]


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_every_published_capacity_is_a_length_of_its_grid(path, tmp_path):
    (tmp_path / path.name).write_text(path.read_text())
    for name in ("words.txt", "fanfics.csv"):
        (tmp_path / name).write_text("text\nalpha\n")
    sweep = load_sweep(tmp_path / path.name)
    models, sources = {model.name for model in sweep.models}, {entry.name for entry in sweep.texts}
    grid, found = sweep.search.lengths, 0
    for model, source, num_vectors, capacity in published_capacities():
        if model in models and source in sources and num_vectors in sweep.num_vectors:
            found += 1
            if isinstance(grid, RandomLengths):
                assert grid.shortest <= capacity <= grid.longest
            else:
                assert grid is not None
                assert capacity in grid, f"{model}, {source}, k = {num_vectors}"
    assert found, "a sweep of the paper asks what it has figures of"


def test_every_published_capacity_has_a_sweep(tmp_path):
    asked: set[tuple[str, str | None, int]] = set()
    for name in ("words.txt", "fanfics.csv"):
        (tmp_path / name).write_text("text\nalpha\n")
    for path in PAPER:
        (tmp_path / path.name).write_text(path.read_text())
        sweep = load_sweep(tmp_path / path.name)
        asked |= set(product((m.name for m in sweep.models), (entry.name for entry in sweep.texts), sweep.num_vectors))
    assert {(model, source, k) for model, source, k, _ in published_capacities()} <= asked


def test_the_progressive_sweep_has_every_model_of_the_paper_that_can_be_named():
    """By the names that `compare` gives them; Gemma-3-4B is no causal language model on the hub, as the file notes."""
    ids = {row["hf_id"]: row["model"] for row in published_rows("cramming_table1.csv")}
    models = {ids.get(m.name, m.name.rpartition("/")[2]) for m in load_sweep(SWEEPS / "progressive.yaml").models}
    assert models == {row["model"] for row in published_rows("progressive_horizons.csv")} - {"Gemma-3-4B"}


def test_the_readme_names_figures_as_the_report_does():
    """A section that is called otherwise is not found."""
    readme = (SWEEPS / "paper" / "README.md").read_text()
    drawn = "".join(path.read_text() for path in Path(figures.__file__).parent.glob("*.py"))
    sections = re.findall(r'"([A-Z][^"]+)"', "\n".join(line for line in readme.splitlines() if line.startswith("|")))
    assert len(sections) > 8
    assert [name for name in sections if name not in drawn and name != "Comparison with published figures"] == []


def test_there_is_a_sweep_for_each_model_of_table_1():
    models = {row["hf_id"] for row in published_rows("cramming_table1.csv")}
    others = ("fanfics", "random-words", "figure-4-vectors", "geometry")
    of_one = [path for path in PAPER if path.stem not in others]
    assert {model.name for path in of_one for model in load_sweep(path).models} == models


def test_a_generated_run_of_a_grid_is_compared_from_its_sweep_to_the_printed_line(
    shipped_model, tmp_path, capsweep, no_page, monkeypatch
):
    """The quickstart model is no Pythia-160M: what is tried is the way of its numbers, not the numbers."""
    texts = sorted((SWEEPS / "quickstart" / "texts").glob("*.txt"))[:2]
    (tmp_path / "texts").mkdir()
    # A folder of that name, whose files are the shipped ones.
    (tmp_path / "Pythia-160M").mkdir()
    for path in shipped_model.iterdir():
        (tmp_path / "Pythia-160M" / path.name).symlink_to(path)
    for path in texts:
        (tmp_path / "texts" / path.name).write_text(path.read_text())
    spec, run = tmp_path / "grid.yaml", str(tmp_path / "run")
    spec.write_text(
        "name: grid\nmodels: [./Pythia-160M]\ntexts: [{source: files, path: texts/, name: pg19}]\n"
        "criterion: {teacher_forced: 0.99}\ndecode_from: memory+first_token\nengines: {device: cpu}\n"
        "search: {policy: grid, lengths: [2, 8, 24]}\nrecipe: {steps: 3, patience: 3}\n"
    )
    monkeypatch.setenv("COLUMNS", "120")
    ended = capsweep("run", spec, "--inline", "--run-dir", run)
    assert ended.returncode == 0, ended.stderr
    tables = orchestrator.read(run)
    assert sorted(tables.probes["length"].to_pylist()) == [2] * 2 + [8] * 2 + [24] * 2
    assert set(tables.searches["grid"].to_pylist()[0]) == {2, 8, 24}
    ended = capsweep("compare", run)
    assert ended.returncode == 0, ended.stderr
    for words in ("decoding capacity", "80.0", "70.9 ± 11.0", "396.4 ± 46.0", " sd", "[1] The paper prints"):
        assert words in ended.stdout, words
    # What it asked is neither an exact horizon nor one step.
    for paper in ("progressive", "one_step"):
        assert capsweep("compare", run, "--with", paper).returncode == 2
    # Run again, nothing is left to do.
    assert "0 open" in capsweep("run", spec, "--inline", "--run-dir", run).stdout


def test_the_page_shows_published_figures_with_their_footnotes():
    page = render_page(
        ReportTables(probes=table(*TestByHand.ROWS), searches=SEARCHES.empty_table(), samples=SAMPLES.empty_table()),
        sweep_yaml="name: generated\n",
        provenance={},
    )
    assert 'id="compared-published"' in page
    assert 'id="compared-progressive"' not in page
    assert "its numbers are nats" in page
