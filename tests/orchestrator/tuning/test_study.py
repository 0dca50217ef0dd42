"""A study on disk: its first trial, what a killed session leaves, which trials it ends."""

from optuna.trial import TrialState

from orchestrator.execution.recipe_worker import SearchResult
from orchestrator.tuning.study import RecipeStudy
from tasks.facts import Range

OWN = {"rate": 1.0, "patience": 150, "kind": "plain"}
RANGES = {"rate": Range(low=0.2, high=5.0, log=True), "patience": Range(low=200, high=400, whole=True)}
TEXTS = [f"text {number}" for number in range(8)]


def open_study(folder) -> RecipeStudy:
    return RecipeStudy(folder, "model", recipe=OWN, ranges=RANGES, texts=TEXTS)


def reached(capacities) -> list[SearchResult]:
    return [
        SearchResult(search_id=text, capacity=capacity, trained_tokens=100, seconds=0.5)
        for text, capacity in zip(TEXTS, capacities, strict=True)
    ]


def test_the_first_trial_is_the_sweeps_own_recipe_also_outside_the_range(tmp_path):
    study = open_study(tmp_path)
    assert study.recipe_of(study.ask().params) == OWN


def test_a_trial_that_a_killed_session_left_has_failed_and_is_tried_again(tmp_path):
    study = open_study(tmp_path)
    study.ask()
    left = study.ask().params
    again = open_study(tmp_path)
    assert {trial.state for trial in again.study.trials} == {TrialState.FAIL, TrialState.WAITING}
    assert again.results == []
    assert again.recipe_of(again.ask().params) == OWN
    assert again.ask().params == left


def test_a_trial_that_is_worse_on_every_text_is_ended_and_one_that_is_not_continues(tmp_path):
    study = open_study(tmp_path)
    best = study.ask()
    assert not study.report(best, 0, reached([20, 30, 25, 18, 40, 33, 21, 27]))
    study.end(best, pruned=False)
    worse = study.ask()
    assert study.report(worse, 0, reached([15, 24, 20, 14, 33, 28, 15, 20]))
    study.end(worse, pruned=True)
    alike = study.ask()
    assert not study.report(alike, 0, reached([24, 27, 20, 24, 33, 38, 20, 27]))
    assert [trial.state for trial in study.study.trials[:2]] == [TrialState.COMPLETE, TrialState.PRUNED]


def test_what_is_drawn_depends_on_the_trials_before_it_only(tmp_path):
    drawn = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        open_study(tmp_path / name).ask()
        study = open_study(tmp_path / name)  # as a session that follows
        study.ask()
        drawn.append(study.ask().params)
    assert drawn[0] == drawn[1]
