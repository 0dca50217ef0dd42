"""The verb `tune`, as a function; its options are those of the command."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from orchestrator.api.run import as_list, bad_input_alone
from orchestrator.api.running import standard_output
from orchestrator.errors import BadInput

if TYPE_CHECKING:
    from rich.console import Console

    from orchestrator.launch import Exit
    from orchestrator.spec.sweep_file import SweepSource


@bad_input_alone
def tune(
    sweep: "SweepSource",
    *,
    overrides: Sequence[str] = (),
    trials: int,
    run_dir: str | os.PathLike[str] | None = None,
    report: "SweepSource | None" = None,
    budget: int | None = None,
    inline: bool = False,
    address: str | None = None,
    allow_fewer: bool = False,
    take_over: bool = False,
    env: Sequence[str] = (),
    console: "Console | None" = None,
) -> "tuple[str, Exit]":
    """Find the recipe that proves the most tokens for a given budget, or resume that. See `run` for most arguments.

    Args:
        sweep: File, mapping or `Sweep`.
        overrides: Fields to set in it, such as `num_vectors=[1,2]`.
        trials: Recipes to try in total, including the sweep's own.
        run_dir: Folder; by default STORAGE/NAME-tune-TIME.
        report: A sweep with the texts to report on; by default those of `sweep` are split.
        budget: Trained tokens per length search; by default what the recipe of `sweep` spends.
        inline: See `run`.
        address: See `run`.
        allow_fewer: See `run`.
        take_over: See `run`.
        env: See `run`.
        console: See `run`.

    Returns:
        The folder, and how it ended.

    Raises:
        BadInput: when the sweep cannot be tuned, or the folder cannot be used; nothing is written then.
    """
    from orchestrator.spec.sweep_file import sweep_of
    from orchestrator.tuning.tune import TuneRequest, new_tune_folder
    from orchestrator.tuning.tune import tune as tune_sweep

    counts = {"trials": trials, "budget": budget}
    if few := [
        f"{name}: found {count}; wanted at least 1."
        for name, count in counts.items()
        if count is not None and count < 1
    ]:
        raise BadInput(*few)
    asked = sweep_of(sweep, as_list(overrides))
    request = TuneRequest(
        sweep=asked,
        report=None if report is None else sweep_of(report),
        trials=trials,
        budget=budget,
        allow_fewer=allow_fewer,
        environment=tuple(as_list(env)),
    )
    url = new_tune_folder(asked) if run_dir is None else os.fspath(run_dir)
    shown = console or standard_output()
    code = tune_sweep(request, url, inline=inline, address=address, take_over=take_over, console=shown)
    return url, code
