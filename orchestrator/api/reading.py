"""The verbs that read runs: runs, verify, decode, measure, compare, fit, export; and memories, ready to generate from.

Each takes a run by its folder, its URL or as `Run`.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from orchestrator.api.run import Device, RunSource, as_list, as_run, bad_input_alone, to_write_to
from orchestrator.errors import BadInput, suggest
from orchestrator.report.papers import PUBLISHED_SETS, Paper
from tasks.homes import expanded
from tasks.wording import counted

if TYPE_CHECKING:
    import pyarrow as pa

    from orchestrator.analysis.memories import LoadedMemory, Verified
    from orchestrator.analysis.portability import Portable
    from orchestrator.report.comparison import Compared
    from orchestrator.report.law import Series
    from orchestrator.runs.directory import RunTables
    from orchestrator.runs.listing import Listing

ExportFormat = Literal["safetensors", "vllm", "llama.cpp"]


@bad_input_alone
def list_runs(root: str | os.PathLike[str] = "runs/") -> "Listing":
    """The runs directly in a folder or at a URL, the newest first.

    Raises:
        BadInput: when the URL holds credentials, or is itself a run.
    """
    from orchestrator.runs import listing

    return listing.list_runs(os.fspath(root))


@bad_input_alone
def read(run: RunSource) -> "RunTables":
    """The tables of a run, as Arrow; while a session writes to it, with what is proven so far.

    Raises:
        BadInput: when this is not a run, or a file of it cannot be read.
    """
    from orchestrator.runs.directory import RunTables
    from orchestrator.store.probe_columns import PROBES

    opened = as_run(run).directory
    return RunTables(opened.probes(PROBES.names), opened.searches())


@bad_input_alone
def verify(
    run: RunSource, *, device: Device = "auto", on_verified: "Callable[[Verified], None]" = lambda found: None
) -> "list[Verified]":
    """Decode every stored memory again, one text at a time; `on_verified` hears of each at once.

    Raises:
        BadInput: when a model is not the one that the run measured.
    """
    from orchestrator.analysis import memories

    found: list[memories.Verified] = []
    for one in memories.verify(as_run(run).directory, device=device):
        on_verified(one)
        found.append(one)
    return found


@bad_input_alone
def verify_under(run: RunSource, settings: Iterable[str], *, device: Device = "auto") -> "list[Portable]":
    """Decode them under other settings, such as `dtype=bfloat16,batch=8`; the run and its page show the outcome, too.

    Raises:
        BadInput: when a setting is not known, or a model does not compute under it here.
    """
    from orchestrator.analysis import portability

    parsed = portability.parse_settings(as_list(settings), device=device)
    opened = to_write_to(run)
    found = portability.verify_under(opened.directory, parsed)
    opened.report()
    return found


@bad_input_alone
def decode(run: RunSource, search_id: str, *, device: Device = "auto") -> str:
    """The text that the best memory of a search gives back, decoded from the memory alone.

    Raises:
        BadInput: when `search_id` begins no search_id of the run, or several, or the search has no memory.
    """
    from orchestrator.analysis import memories

    return memories.decode(as_run(run).directory, search_id, device=device)


@bad_input_alone
def load_memory(run: RunSource, search_id: str, *, device: Device = "auto") -> "LoadedMemory":
    """The best memory of a search with the model and the tokenizer that read it, ready for `generate` of transformers.

    Raises:
        BadInput: as `decode` does, and when the task's memories are not input vectors before a text.
    """
    from orchestrator.analysis import memories

    return memories.load_memory(as_run(run).directory, search_id, device=device)


@bad_input_alone
def measure(run: RunSource, *, device: Device = "auto", noise: bool = False) -> "dict[str, pa.Table]":
    """Compute the measures that need the models, and write them to the run and its page; returns the tables by file.

    Args:
        run: The run.
        device: Where the models compute.
        noise: Whether to turn memories in random directions until their text is lost, too.

    Raises:
        BadInput: when a model is not the one that the run measured, or the run's criterion leaves no room for noise.
    """
    from orchestrator.analysis.measuring import measure_run
    from orchestrator.store.parquet import write_table

    opened = to_write_to(run)
    measured = measure_run(opened.directory, device=device, noise=noise)
    for name, table in measured.items():
        write_table(opened.directory.files, name, table)
    opened.report()
    return measured


@bad_input_alone
def compare(run: RunSource, paper: Paper = "published") -> "list[Compared]":
    """A run's results beside those of a paper, computed by the paper's conventions.

    Raises:
        BadInput: when the paper is not known, or has no figures for the run's searches.
    """
    from orchestrator.report import comparison

    if paper not in PUBLISHED_SETS:
        raise BadInput(f"paper {paper!r}: not known. {suggest(paper, PUBLISHED_SETS)}")
    opened, published = as_run(run), PUBLISHED_SETS[paper]
    searches = opened.searches
    lines = comparison.compare(opened.probes, searches, paper)
    if not lines:
        models = sorted(set(searches["model"].to_pylist()))
        raise BadInput(
            f"{opened.url}: {paper!r} has no figures for its searches: models {', '.join(models)}. Name sources pg19, "
            "fanfics or random (name: pg19 in a text's entry), and the folder of a local model as the paper names "
            f"the model. The paper counts {published.counted}."
        )
    return lines


@bad_input_alone
def fit(runs: RunSource | Iterable[RunSource]) -> "list[Series]":
    """Capacity as a power law of k, of the size of models and of their pre-training, as far as the runs vary in it.

    Raises:
        BadInput: when too few places of an axis have uncensored capacities.
    """
    from orchestrator.report.law import FEWEST_POINTS, laws
    from orchestrator.report.writing import all_tables

    opened = [as_run(run) for run in as_list(runs)]
    tables = all_tables([one.directory for one in opened])
    series = laws(tables.searches, tables.samples, tables.models)
    if not any(one.law for one in series):
        points = [sum(not point.is_bound and point.mean > 0 for point in one.points) for one in series]
        most = f"at most {counted(max(points), 'different value')}" if points else "one value or none"
        raise BadInput(
            f"{', '.join(one.url for one in opened)}: nothing to fit. Found {most} of each axis (k, width, layers, "
            f"parameters, pre-training) with uncensored capacities; wanted at least {FEWEST_POINTS} of one."
        )
    return series


@bad_input_alone
def export(
    run: RunSource,
    to: str | Path,
    *,
    format: ExportFormat = "safetensors",  # noqa: A002 - as the command has it
    device: Device = "auto",
) -> int:
    """Write the best memory of each search to a folder, as safetensors or as a server reads it; returns how many.

    Raises:
        BadInput: when the format is not known, the folder cannot be written to, or a server reads no such memories.
    """
    if format not in get_args(ExportFormat):
        raise BadInput(f"format {format!r}: not known. {suggest(format, get_args(ExportFormat))}")
    directory, folder = as_run(run).directory, expanded(Path(to))
    if format == "safetensors":
        from orchestrator.analysis import memories

        return memories.export(directory, folder)
    from orchestrator.analysis.serving import export_for

    return export_for(directory, folder, format, device=device)
