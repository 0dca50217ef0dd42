"""Survival, starts and pairs: answers worked out by hand."""

from typing import Any

import pyarrow as pa
import pytest

from orchestrator.report.figures.entropy import lossless_threshold, mean_gain
from orchestrator.report.statistics import kaplan_meier, paired, starts_by_group, survival_by_group
from orchestrator.store.probe_columns import PROBES, packed_bits, unpacked_bits
from orchestrator.store.schema import SAMPLES, SEARCHES


def searches(*rows: dict[str, Any]) -> pa.Table:
    plain = {"model": "m", "source": "files:a", "num_vectors": 1, "status": "measured", "capacity_bits": 8.0}
    return pa.Table.from_pylist([{**plain, **row} for row in rows], schema=SEARCHES)


def texts_of(*rows: dict[str, Any], **hashes: str) -> pa.Table:
    """Samples of these searches whose text is their sample_id, or its entry in `hashes`."""
    made = [
        {"model": row["model"], "sample_id": row["sample_id"]}
        | {"text_sha256": hashes.get(row["sample_id"], row["sample_id"])}
        for row in rows
    ]
    return pa.Table.from_pylist(made, schema=SAMPLES)


class TestSurvival:
    def test_without_censoring_it_is_the_share_that_reaches_a_length_and_the_plain_mean(self):
        found = kaplan_meier([(2, True), (4, True), (4, True), (8, True)])
        assert found.curve == ((0, 1.0), (3, pytest.approx(0.75)), (5, pytest.approx(0.25)), (9, 0.0))
        assert found.median == 4
        assert found.restricted_mean == pytest.approx((2 + 4 + 4 + 8) / 4)

    def test_a_censored_search_leaves_without_ending(self):
        # Of 3, one ends at 2; one runs out of text at 3; the last, alone at risk, ends at 5.
        found = kaplan_meier([(2, True), (3, False), (5, True)])
        assert found.curve == ((0, 1.0), (3, pytest.approx(2 / 3)), (6, 0.0))
        # More than the mean that takes 3 for a capacity, 10/3: 2 + 2/3 * 3.
        assert found.restricted_mean == pytest.approx(4.0)

    def test_where_most_texts_end_first_there_is_no_median(self):
        assert kaplan_meier([(3, True), (5, False), (5, False)]).median is None

    def test_open_and_failed_searches_count_in_no_group(self):
        rows = ({"capacity_tokens": 3}, {"capacity_tokens": 9, "status": "open"}, {"status": "failed"})
        (found,) = survival_by_group(searches(*rows)).values()
        assert found.median == 3


def test_the_fraction_of_starts_that_succeed_leaves_faults_of_the_machine_out():
    rows = [
        {"model": "m", "source": "files:a", "num_vectors": 1, "outcome": outcome, "sample_id": text}
        for text, outcome in (("a", "lossless"), ("b", "lossy"), ("b", "lossy"), ("b", "lossless"), ("b", "failed"))
    ]
    (found,) = starts_by_group(pa.Table.from_pylist(rows, schema=PROBES)).values()
    # Text a: 1 of 1; text b: 1 of 3.
    assert (found.share, found.num_starts) == (pytest.approx(2 / 3), 4)
    assert found.interval == pytest.approx((1 / 3, 1))


class TestPaired:
    def test_differences_over_common_texts(self):
        rows = [
            {"model": model, "source": f"files:{text}", "sample_id": text, "capacity_tokens": tokens}
            for model, capacities in (("a", (10, 20, 30)), ("b", (8, 20, 25)))
            for text, tokens in zip("xyz", capacities, strict=True)
        ]
        rows.append({"model": "a", "source": "files:w", "sample_id": "w", "capacity_tokens": 99})
        (pair,) = paired(searches(*rows), texts_of(*rows))
        assert (pair.num_texts, pair.difference, pair.difference_bits) == (3, pytest.approx(7 / 3), 0)
        assert pair.first_larger == pytest.approx((1 + 0.5 + 1) / 3)

    def test_models_of_other_k_are_held_against_each_other_only_if_there_is_no_equal_k(self):
        rows = [
            {"model": "a", "num_vectors": k, "source": "files:x", "sample_id": "x", "capacity_tokens": k}
            for k in (1, 2)
        ]
        rows.append({"model": "b", "num_vectors": 2, "source": "files:x", "sample_id": "x", "capacity_tokens": 5})
        assert [pair.num_vectors for pair in paired(searches(*rows), texts_of(*rows))] == ["2"]
        assert [pair.num_vectors for pair in paired(searches(rows[0], rows[2]), texts_of(*rows))] == ["1, 2"]

    def test_a_text_is_its_hash_and_not_its_name(self):
        # Each model wrote a sample of its own under one name; one more text is called differently in another run.
        written = {"num_vectors": 1, "source": "model_samples:0#1"}
        rows = [
            {**written, "model": "a", "sample_id": "by_a", "capacity_tokens": 3},
            {**written, "model": "b", "sample_id": "by_b", "capacity_tokens": 5},
            {"model": "a", "source": "files:x", "sample_id": "x_to_a", "capacity_tokens": 9},
            {"model": "b", "source": "files:y", "sample_id": "x_to_b", "capacity_tokens": 5},
        ]
        (pair,) = paired(searches(*rows), texts_of(*rows, x_to_a="x", x_to_b="x"))
        assert (pair.num_texts, pair.difference) == (1, 4)


class TestEntropies:
    ROWS = tuple(
        {"outcome": outcome, "nats_without_memory": without, "nats_with_memory": with_memory}
        for outcome, without, with_memory in (
            ("lossless", 20.0, 2.0),
            ("lossless", 30.0, 5.0),
            ("lossy", 60.0, 9.0),
            ("lossy", 90.0, 41.0),
        )
    )

    def test_the_gain_is_that_of_memories_that_were_full(self):
        assert mean_gain(self.ROWS) == pytest.approx((51 + 49) / 2 / 0.6931471805599453)
        assert mean_gain(self.ROWS[:2]) is None

    def test_the_threshold_puts_fewest_on_the_wrong_side(self):
        rows = [{**row, "sample_id": f"text-{number}"} for number, row in enumerate(self.ROWS)]
        found = lossless_threshold(rows)
        assert found is not None
        assert found.bits == pytest.approx(5 / 0.6931471805599453)
        assert found.base_rate == 0.5
        # Without the text at 5 nats the threshold is 2, so that text alone is on the wrong side.
        assert found.error == 0.25
        assert lossless_threshold(rows[:2]) is None

    def test_a_threshold_is_judged_on_texts_that_did_not_choose_it(self):
        # Bits say nothing: lossless and lossy take turns, so a threshold fits one side or the other by chance.
        rows = [
            {"outcome": ("lossless", "lossy")[number % 2], "nats_with_memory": float(number), "sample_id": f"{number}"}
            for number in range(40)
        ]
        found = lossless_threshold(rows)
        assert found is not None
        assert found.error >= found.base_rate == 0.5

    def test_one_text_cannot_judge_its_own_threshold(self):
        assert lossless_threshold([{**row, "sample_id": "one"} for row in self.ROWS]) is None


@pytest.mark.parametrize("bits", [(True,), (False, True, True), tuple(i % 3 == 0 for i in range(1000))])
def test_bits_come_back(bits):
    packed = packed_bits(bits)
    assert packed is not None
    assert len(packed) == -(-len(bits) // 8)
    assert tuple(unpacked_bits(packed, len(bits))) == bits
