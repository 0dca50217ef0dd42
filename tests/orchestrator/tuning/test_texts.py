"""Texts that choose a recipe never report on it."""

import pytest

from orchestrator.errors import BadInput
from orchestrator.tuning.texts import split_texts


def test_a_sweep_is_split_into_two_sides_that_share_no_text(toy_sweep, plan_of):
    split = split_texts(plan_of(toy_sweep), None)
    choosing, reporting = set(split.samples(split.choosing)), set(split.samples(split.reporting))
    assert choosing
    assert reporting
    assert not choosing & reporting
    assert len(choosing | reporting) == 12


def test_a_text_keeps_its_side_whatever_else_is_in_the_sweep(toy_sweep, plan_of):
    whole = split_texts(plan_of(toy_sweep), None)
    (toy_sweep.parent / "texts" / "00.txt").unlink()
    fewer = split_texts(plan_of(toy_sweep), None)
    assert set(fewer.samples(fewer.choosing)) <= set(whole.samples(whole.choosing))
    assert set(fewer.samples(fewer.reporting)) <= set(whole.samples(whole.reporting))


def test_of_two_sweeps_what_both_have_is_not_reported_on(toy_sweep, plan_of, tmp_path):
    others = tmp_path / "others"
    others.mkdir()
    for number in (3, 20, 21):
        (others / f"{number}.txt").write_text((f"A text of the other sweep, number {number}") * 3)
    (others / "3.txt").write_text((tmp_path / "texts" / "03.txt").read_text())
    second = tmp_path / "second.yaml"
    second.write_text(toy_sweep.read_text().replace("texts/", "others/"))
    split = split_texts(plan_of(toy_sweep), plan_of(second))
    assert len(split.choosing) == 12
    assert len(split.reporting) == 2
    assert not set(split.samples(split.choosing)) & set(split.samples(split.reporting))


def test_too_few_texts_are_refused(toy_sweep, plan_of):
    for number in range(1, 12):
        (toy_sweep.parent / "texts" / f"{number:02d}.txt").unlink()
    with pytest.raises(BadInput, match="to choose a recipe on"):
        split_texts(plan_of(toy_sweep), None)
