"""Published measures: worked out by hand on a generated run, and every sweep of the paper laid out and priced."""

import csv
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from typer.testing import CliRunner

import orchestrator
from orchestrator import cli
from orchestrator.estimate import estimate
from orchestrator.plan import make_plan
from orchestrator.report.canvas import RunTables
from orchestrator.report.page import render_page
from orchestrator.report.published_measures import (
    Conventions,
    compare,
    decoding_capacities,
    published_measures,
    published_rows,
)
from orchestrator.spec import load_sweep
from orchestrator.store.schema import PROBES, SAMPLES, SEARCHES
from tasks.contract import Model

SWEEPS = Path(__file__).resolve().parents[3] / "sweeps"
PAPER = sorted((SWEEPS / "paper").glob("*.yaml"))


def probe(length: int, right: int, **changes: Any) -> dict[str, Any]:
    """A generated probe of Pythia-160M: `right` of `length` tokens, t_1 given; without memory 10 are right."""
    row = {
        "model": "EleutherAI/pythia-160m",
        "search_id": f"{length}-{right}",
        "number": 0,
        "source": "pg19:made up",
        "num_vectors": 1,
        "outcome": "lossless" if right == length else "lossy",
        "criterion": "teacher_forced>=0.99",
        "decode_from": "memory+first_token",
        "measured_length": length,
        "token_accuracy": right / length,
        "token_accuracy_without": 10 / length,
        "nats_without": 5.0 * (length - 1),
        "nats_with": 2.0 * (length - 1),
    }
    return {**row, **changes}


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=PROBES)


class TestByHand:
    ROWS = (probe(64, 64), probe(64, 64), probe(101, 101), probe(101, 99), probe(201, 101), probe(201, 141))

    def test_capacity_is_the_longest_length_whose_mean_accuracy_reaches_the_threshold(self):
        (group,) = published_measures(table(*self.ROWS), Conventions())
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
        assert published_measures(table(*rows), Conventions())[0].decoding_capacity == 101
        assert published_measures(table(*rows), Conventions(capacity_over="mean"))[0].decoding_capacity is None

    def test_gains_are_means_beyond_capacity_scaled_to_the_length(self):
        (group,) = published_measures(table(*self.ROWS), Conventions())
        # Accuracies of at most .99: 98/100, 100/200, 140/200. Gains 89, 91, 131 over L - 1 tokens, times L / (L - 1).
        gains = [89 * 101 / 100, 91 * 201 / 200, 131 * 201 / 200]
        assert group.token_gain is not None
        assert group.token_gain[0] == pytest.approx(sum(gains) / 3)
        assert group.information_gain_nats is not None
        assert group.information_gain_nats[0] == pytest.approx((3 * 101 + 3 * 201 + 3 * 201) / 3)

    def test_each_convention_can_be_left(self):
        (group,) = published_measures(table(*self.ROWS), Conventions(gains_where="all", scored_to_length=False))
        assert group.token_gain is not None
        assert group.token_gain[0] == pytest.approx((54 + 54 + 91 + 89 + 91 + 131) / 6)

    def test_failures_of_the_machine_count_nowhere(self):
        rows = [*self.ROWS, {"model": "EleutherAI/pythia-160m", "source": "pg19:x", "outcome": "failed"}]
        assert published_measures(table(*rows), Conventions())[0].num_probes == 6


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

    def test_a_model_may_be_called_otherwise(self):
        rows = [{**row, "model": "mine"} for row in TestByHand.ROWS]
        assert compare(table(*rows), SEARCHES.empty_table(), "published") == []
        assert compare(table(*rows), SEARCHES.empty_table(), "published", called={"mine": "OPT-1.3B"})

    def test_exact_horizons_and_one_step(self):
        searches = [
            {"model": "EleutherAI/pythia-1.4b", "source": "pg19:1", "num_vectors": 1, "status": "measured"}
            | {"capacity_tokens": tokens}
            for tokens in (400, 500)
        ]
        run = pa.Table.from_pylist(searches, schema=SEARCHES)
        (line, _) = compare(PROBES.empty_table(), run, "progressive")
        assert (line.measured, line.published, line.published_sd) == (450.0, 430.4, 64.9)
        (per_text, _) = compare(PROBES.empty_table(), run, "one_step")
        assert (per_text.measured, per_text.published) == (500.0, 128.0)


def test_the_command_says_what_it_cannot_compare(toy_sweep, tmp_path):
    runner = CliRunner()
    run = str(tmp_path / "run")
    assert runner.invoke(cli.app, ["run", str(toy_sweep), "--inline", "--run-dir", run]).exit_code == 0
    ended = runner.invoke(cli.app, ["compare", run, "--with", "published"])
    assert ended.exit_code == 2
    assert "nothing of it is among the figures" in ended.output
    ended = runner.invoke(cli.app, ["compare", run, "--with", "progresive"])
    assert "Did you mean 'progressive'?" in ended.output


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
    sweep = load_sweep(tmp_path / path.name)
    assert all(model.name.count("/") == 1 for model in sweep.models)
    plan = make_plan(sweep.model_copy(update={"models": (Model(name=str(stories_model)),)}))
    (priced,) = estimate(plan)
    assert (priced.samples, priced.searches) == (50, 50 * len(sweep.num_vectors))
    grid = sweep.search.lengths is not None
    assert priced.probes == sum(len(search.grid or ()) for search in plan.searches) if grid else 150
    assert priced.gpu_hours(100) > 0


def test_there_is_a_sweep_for_each_model_of_table_1():
    models = {row["hf_id"] for row in published_rows("cramming_table1.csv")}
    of_one = [path for path in PAPER if path.stem not in ("fanfics", "random-words", "figure-4-vectors")]
    assert {model.name for path in of_one for model in load_sweep(path).models} == models


def test_a_generated_run_of_a_grid_is_compared_from_its_sweep_to_the_printed_line(toy_sweep, tmp_path):
    """The toy is no Pythia-160M: what is tried here is the way of its numbers, not the numbers."""
    spec, run = tmp_path / "grid.yaml", str(tmp_path / "run")
    spec.write_text(
        toy_sweep.read_text().replace("path: texts/", "path: texts/, name: pg19")
        + "criterion: {teacher_forced: 0.99}\ndecode_from: memory+first_token\n"
        "search: {policy: grid, lengths: [4, 16, 64]}\n"
    )
    runner = CliRunner()
    ended = runner.invoke(cli.app, ["run", str(spec), "--inline", "--run-dir", run])
    assert ended.exit_code == 0, ended.output
    tables = orchestrator.read(run)
    assert sorted(tables.probes["length"].to_pylist()) == [4] * 12 + [16] * 12 + [64] * 12
    assert set(tables.searches["grid"].to_pylist()[0]) == {4, 16, 64}
    ended = runner.invoke(cli.app, ["compare", run, "--called", "toy/model=Pythia-160M"], env={"COLUMNS": "120"})
    assert ended.exit_code == 0, ended.output
    for words in ("decoding capacity", "80.0", "70.9 ± 11.0", "396.4 ± 46.0", " sd", "[1] The paper prints"):
        assert words in ended.output, words
    # Run again, nothing is left to do.
    again = runner.invoke(cli.app, ["run", str(spec), "--inline", "--run-dir", run])
    assert "0 open" in again.output


def test_the_page_shows_published_figures_with_their_footnotes():
    page = render_page(
        RunTables(probes=table(*TestByHand.ROWS), searches=SEARCHES.empty_table(), samples=SAMPLES.empty_table()),
        sweep_yaml="name: generated\n",
        provenance={},
    )
    assert 'id="compared-published"' in page
    assert 'id="compared-progressive"' not in page
    assert "its numbers are nats" in page
