"""Known rows, known answers."""

from io import StringIO
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console

from orchestrator.report.findings import headline, worth_knowing
from orchestrator.report.intervals import bootstrap_mean, share_over_clusters
from orchestrator.report.tables import (
    StepsSplit,
    beginning,
    capacity_by_group,
    search_rows,
    short_names,
    steps_around_last_gain,
)
from orchestrator.report.terminal import searches_table, summary_table
from orchestrator.store.probe_columns import PROBES
from orchestrator.store.schema import SAMPLES, SEARCHES


def searches_of(*rows: dict[str, Any]) -> pa.Table:
    plain = {"model": "m", "source": "files:a.txt", "num_vectors": 1, "seed": 0, "status": "measured", "steps": 0}
    plain |= {"criterion": "exact", "decode_from": "memory"}
    named = [
        {**plain, "search_id": f"search-{number}", "sample_id": f"sample-{number}", **row}
        for number, row in enumerate(rows)
    ]
    return pa.Table.from_pylist(named, schema=SEARCHES)


def probes_of(*rows: dict[str, Any]) -> pa.Table:
    plain = {"model": "m", "num_vectors": 1, "search_id": "search-0", "outcome": "lossless"}
    return pa.Table.from_pylist([{**plain, "number": n, **row} for n, row in enumerate(rows)], schema=PROBES)


def samples_of(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist([{"model": "m", **row} for row in rows], schema=SAMPLES)


def printed(table: object, width: int = 100) -> str:
    console = Console(width=width, record=True, file=StringIO())
    console.print(table)
    return console.export_text()


class TestCapacityByGroup:
    def test_mean_sd_and_median(self):
        (group,) = capacity_by_group(
            searches_of(
                {"capacity_tokens": 10, "capacity_bits": 20.0, "bits_per_dimension": 0.5, "steps": 100},
                {"capacity_tokens": 12, "capacity_bits": 30.0, "bits_per_dimension": 0.75, "steps": 300},
                {"capacity_tokens": 20, "capacity_bits": 40.0, "bits_per_dimension": 1.0, "steps": 800},
            )
        )
        assert (group.num_searches, group.num_texts) == (3, 3)
        assert group.tokens is not None
        assert group.bits is not None
        assert group.tokens.mean == pytest.approx(14.0)
        assert group.tokens.median == 12
        assert group.tokens.sd == pytest.approx(28**0.5)
        assert group.bits.mean == pytest.approx(30.0)
        assert group.bits_per_dimension is not None
        assert group.bits_per_dimension.mean == pytest.approx(0.75)
        assert group.mean_steps == 400

    def test_groups_are_model_kind_of_source_and_vectors(self):
        groups = capacity_by_group(
            searches_of(
                {"source": "files:b.txt", "capacity_tokens": 1},
                {"source": "files:a.txt", "capacity_tokens": 3},
                {"source": "random_words:0", "capacity_tokens": 5},
                {"num_vectors": 2, "capacity_tokens": 7},
                {"model": "n", "capacity_tokens": 9},
            )
        )
        keys = [(group.model, group.source, group.num_vectors, group.num_searches) for group in groups]
        assert keys == [("m", "files", 1, 2), ("m", "files", 2, 1), ("m", "random_words", 1, 1), ("n", "files", 1, 1)]

    def test_open_and_failed_searches_are_counted_but_not_averaged(self):
        (group,) = capacity_by_group(
            searches_of(
                {"capacity_tokens": 10},
                {"capacity_tokens": 90, "status": "open"},
                {"capacity_tokens": 70, "status": "failed"},
                {"capacity_tokens": 20, "status": "at_text_end"},
            )
        )
        assert group.tokens is not None
        assert group.tokens.mean == 15
        assert (group.num_searches, group.num_open, group.num_failed, group.num_censored) == (2, 1, 1, 1)

    def test_gains_have_mean_sd_and_an_interval_over_texts(self):
        rows = [
            {"capacity_tokens": 9, "token_gain": gain, "information_gain_nats": 2.0 * gain, "utilization": gain / 100}
            for gain in (4, 8)
        ]
        (group,) = capacity_by_group(searches_of(*rows))
        assert group.token_gain is not None
        assert (group.token_gain.mean, group.token_gain.interval) == (6, (4, 8))
        assert group.token_gain.sd == pytest.approx(8**0.5)
        assert group.information_gain_nats is not None
        assert group.information_gain_nats.mean == 12
        assert group.utilization is not None
        assert group.utilization.interval == (0.04, 0.08)
        assert group.information_gain_bits is None

    def test_nothing_finished_has_no_spread(self):
        (group,) = capacity_by_group(searches_of({"capacity_tokens": 3, "status": "open"}))
        assert group.tokens is None
        assert group.bits is None
        assert group.mean_steps is None

    def test_one_text_has_a_mean_but_no_interval(self):
        (group,) = capacity_by_group(searches_of({"capacity_tokens": 3}))
        assert group.tokens is not None
        assert (group.tokens.mean, group.tokens.sd, group.tokens.interval) == (3, None, None)


class TestIntervals:
    def test_bootstrap_is_the_normal_interval_for_many_values(self):
        values = [float(n % 10) for n in range(400)]
        interval = bootstrap_mean(values, [str(n) for n in range(400)])
        assert interval is not None
        # sd 2.87, standard error .1436
        assert interval == pytest.approx((4.5 - 0.281, 4.5 + 0.281), abs=0.03)

    def test_seeds_of_one_text_do_not_make_it_surer(self):
        once = bootstrap_mean([1.0, 5.0, 9.0], ["a", "b", "c"])
        often = bootstrap_mean([1.0, 5.0, 9.0] * 20, ["a", "b", "c"] * 20)
        assert once == pytest.approx(often)

    def test_the_same_numbers_give_the_same_interval(self):
        assert bootstrap_mean([1.0, 2.0, 4.0], ["a", "b", "c"]) == bootstrap_mean([1.0, 2.0, 4.0], ["a", "b", "c"])

    @pytest.mark.parametrize(
        ("successes", "n", "low", "high"), [(5, 10, 0.2366, 0.7634), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0)]
    )
    def test_a_share_of_texts_has_the_interval_of_wilson(self, successes: int, n: int, low: float, high: float):
        shares = [(f"text-{number}", float(number < successes)) for number in range(n)]
        share, interval = share_over_clusters(shares)
        assert (share, interval) == (successes / n, pytest.approx((low, high), abs=1e-4))

    def test_starts_of_one_text_do_not_make_a_share_surer(self):
        once = [("a", 1.0), ("b", 0.0), ("c", 1.0)]
        assert share_over_clusters(once * 20) == share_over_clusters(once)
        mixed = [("a", 0.0), ("a", 1.0), ("b", 1.0), ("c", 0.0), ("c", 0.0), ("c", 1.0)]
        share, interval = share_over_clusters(mixed)
        assert share == pytest.approx((1 / 2 + 1 + 1 / 3) / 3)
        assert interval == pytest.approx((1 / 3, 1.0), abs=0.01)
        assert share_over_clusters(mixed * 20)[1] == interval

    def test_one_text_that_is_neither_all_nor_nothing_has_no_interval(self):
        assert share_over_clusters([("a", 0.0), ("a", 1.0)]) == (0.5, None)


def test_steps_are_split_at_the_proof_of_the_longest_length():
    rows = probes_of(
        {"number": 2, "proven_length": 8, "steps": 50, "steps_to_proof": 40, "outcome": "lossy"},
        {"number": 0, "proven_length": 9, "steps": 300, "steps_to_proof": 120},
        {"number": 1, "proven_length": 11, "steps": 200, "steps_to_proof": 30},
        {"number": 3, "outcome": "failed"},
    )
    assert steps_around_last_gain(rows) == [StepsSplit(search_id="search-0", before=330, after=220)]


class TestTexts:
    def test_the_text_up_to_the_capacity(self):
        samples = samples_of({"sample_id": "sample-0", "text": "Once upon", "token_ends": [2, 4, 7, 9]})
        (row,) = search_rows(searches_of({"capacity_tokens": 3}), samples)
        assert row.text == "Once up"

    def test_nothing_proven_or_no_sample_gives_no_text(self):
        samples = samples_of({"sample_id": "sample-0", "text": "Once", "token_ends": [4]})
        rows = search_rows(searches_of({"capacity_tokens": 0}, {"capacity_tokens": 1}), samples)
        assert [row.text for row in rows] == ["", ""]

    def test_numbered_texts_stand_in_the_order_of_their_numbers(self):
        searches = searches_of(*({"source": f"files:a.jsonl#{number}"} for number in (10, 9, 1)))
        rows = search_rows(searches, samples_of())
        assert [row.source for row in rows] == ["files:a.jsonl#1", "files:a.jsonl#9", "files:a.jsonl#10"]

    def test_the_beginning_is_one_line(self):
        assert beginning("a\nb\r\nc") == "a↵b↵c"
        assert beginning("x" * 80) == "x" * 80
        assert beginning("x" * 81) == "x" * 79 + "…"

    def test_short_names_stay_apart(self):
        assert short_names(["a/x", "b/x", "c/y/"]) == {"a/x": "a/x", "b/x": "b/x", "c/y/": "y"}


class TestFindings:
    def test_a_plain_run_has_nothing_worth_knowing(self):
        searches = searches_of({"capacity_tokens": 5, "margin": 0.5}, {"capacity_tokens": 7, "margin": 0.5})
        assert worth_knowing(probes_of({"proven_length": 5, "failed_length": 6}), searches) == []

    def test_the_headline_asks_answers_and_states_how_sure(self):
        searches = searches_of({"capacity_tokens": 5}, {"capacity_tokens": 7, "source": "files:b.txt"})
        asked, answer, sure = headline(searches)
        assert asked == "How many tokens of 2 texts fit into 1 trainable vector of m?"
        assert answer == "On average 6.0 tokens (95 % interval 5.0 to 7.0) with m."
        assert sure.startswith("All 2 searches finished; every capacity")
        assert headline(searches.slice(1))[-1].startswith("The search finished; every capacity")

    def test_the_headline_says_how_dense_the_memory_is(self):
        dense = {"capacity_tokens": 5, "capacity_bits": 30.0, "bits_per_dimension": 0.47}
        assert "5.0 tokens, 30 bits or 0.47 bits per dimension, with m." in headline(searches_of(dense))[1]

    def test_the_headline_names_the_tasks_and_counts_texts_by_what_they_are(self):
        written = {"capacity_tokens": 5, "source": "model_samples:0#1"}
        searches = searches_of({**written, "task": "one_step"}, {**written, "task": "cramming"})
        samples = samples_of(*({"sample_id": f"sample-{n}", "text_sha256": f"{n}"} for n in range(2)))
        asked = "How many tokens of 2 texts fit into 1 trainable vector of m? Tasks: cramming and one_step."
        assert headline(searches, samples)[0] == asked
        assert headline(searches.slice(1), samples)[0].endswith("of m? Task: cramming.")

    def test_a_share_of_tokens_claims_no_certificate(self):
        sure = headline(searches_of({"capacity_tokens": 5, "criterion": "teacher_forced>=0.99"}))[-1]
        assert "teacher_forced>=0.99" in sure
        assert "no certificate" in sure

    def test_the_headline_states_what_is_visible(self):
        searches = searches_of({"capacity_tokens": 8, "context": 16, "repeats_context": False})
        assert headline(searches)[0].endswith("of m, after 16 visible tokens of the text before?")

    def test_a_margin_is_named_and_certified(self):
        searches = searches_of({"capacity_tokens": 8, "criterion": "margin>=1", "exact_in_float32": 8})
        sure = headline(searches)[-1]
        assert "came back token by token" in sure
        assert "margin>=1" in sure
        assert capacity_by_group(searches)[0].num_in_float32 == 1

    def test_a_length_that_failed_below_the_capacity_is_reported(self):
        probes = probes_of({"proven_length": 5, "failed_length": 6}, {"proven_length": 9, "failed_length": 10})
        (remark,) = worth_knowing(probes, searches_of({"capacity_tokens": 9}))
        assert "not monotone" in remark
        assert "6 tokens given up, 9 proven" in remark

    def test_what_failed_is_open_or_ended_early_is_reported(self):
        searches = searches_of(
            {"status": "failed"}, {"status": "open"}, {"status": "at_text_end"}, {"capacity_tokens": 4, "margin": 1e-5}
        )
        remarks = worth_knowing(probes_of({"outcome": "failed", "reason": "the worker was lost"}), searches)
        for words in ("1 search failed", "the worker was lost", "1 search is open", "with their text", "0.001"):
            assert any(words in remark for remark in remarks), words

    def test_a_memory_that_is_exact_in_its_own_precision_alone_is_reported(self):
        searches = searches_of(
            {"capacity_tokens": 8, "exact_in_float32": 2},
            {"capacity_tokens": 8, "exact_in_float32": 8},
            {"capacity_tokens": 8, "exact_in_float32": None},
        )
        (remark,) = worth_knowing(probes_of(), searches)
        assert remark.startswith("In 1 search (files:a.txt) the memory gives back less")
        assert "25 % of its tokens" in remark
        (group,) = capacity_by_group(searches)
        assert (group.num_exact_in_float32, group.num_in_float32) == (1, 2)
        assert "in float32: 1 of 2 exact" in " ".join(printed(summary_table([group])).split())

    def test_what_an_engine_remarked_is_counted(self):
        lost = {"outcome": "lossless", "reason": "begun anew: its snapshot could not be read"}
        remarks = worth_knowing(probes_of(lost, {**lost, "outcome": "lossy"}, {}), searches_of({"capacity_tokens": 8}))
        assert remarks == ["2 probes: begun anew: its snapshot could not be read."]

    def test_a_search_that_proved_nothing_is_reported(self):
        (remark,) = worth_knowing(probes_of(), searches_of({"capacity_tokens": 0}))
        assert remark == "1 search proved no length at all (files:a.txt)."


class TestTerminal:
    def test_means_and_intervals_fit_a_hundred_columns(self):
        long = {"model": "organisation/a-model-with-a-long-name", "source": "random_words:0", "capacity_bits": 1000.0}
        long |= {"bits_per_dimension": 1.234}
        searches = searches_of(
            {**long, "capacity_tokens": 110},
            {**long, "capacity_tokens": 130},
            {**long, "capacity_tokens": 120, "status": "at_text_end"},
            {**long, "status": "open"},
        )
        text = printed(summary_table(capacity_by_group(searches)))
        assert "≥ 120.0 [110.0, 130.0]" in text
        assert " 1.23 " in text
        assert "3/4" in text
        assert max(map(len, text.splitlines())) <= 100

    def test_markup_in_a_text_is_text(self):
        samples = samples_of({"sample_id": "sample-0", "text": "[red]not red[/red]", "token_ends": [18]})
        text = printed(searches_table(searches_of({"capacity_tokens": 1}), samples))
        assert "[red]not red[/red]" in text

    def test_only_so_many_rows(self):
        searches = searches_of(*({"capacity_tokens": 100 + n} for n in range(5)))
        text = printed(searches_table(searches, samples_of(), limit=2))
        assert "the first 2 of 5" in text
        assert "101" in text
        assert "102" not in text
