"""capsweep against the published recipe: same model, texts and machine, in turn.

The order is capsweep, published, capsweep, published, .. capsweep, so that a machine that slows down slows both; each
published run is held against the capsweep runs right before and after it. Every run has starts of its own.

- published (published_recipe.py): seconds of the optimizations alone; loading and certificates do not count.
- capsweep: default recipe and search through `run_inline` on a real run directory; seconds of the whole run, from
  reading the texts and loading the weights to the certified rows and the searches table on disk. A text's seconds are
  its share of the engine's time, scaled to sum to that.
- capsweep on Ray (`--ray`): `capsweep run` in a process of its own; seconds from its start to its exit.

Texts are cut without special tokens on every side, so t_1 is a token of the text.
"""

import os
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.parquet as pq
import typer
import yaml
from comparison import Side, TextResult, final_line, markdown
from published_recipe import PublishedRecipe
from sides import PROJECT, Published, machine, run_capsweep

from orchestrator.errors import BadInput
from orchestrator.plan import make_plan
from orchestrator.spec import load_sweep
from tasks.contract import TaskError

DATA = PROJECT.parent / "shared" / "data"
REPORTING_TEXTS = ("stories_report.jsonl", "books_eval.jsonl")
"""No constant was chosen on these."""

ModelOption = Annotated[str, typer.Option(help="Hub id or local folder.")]
TextsOption = Annotated[Path, typer.Option(help=f"Texts, one JSON object a line: {' or '.join(REPORTING_TEXTS)}.")]
CountOption = Annotated[int, typer.Option(min=1, help="The first so many texts.")]
RepetitionsOption = Annotated[int, typer.Option(min=1, help="Runs of the published side.")]
RayOption = Annotated[bool, typer.Option("--ray", help="Measure `capsweep run` on Ray, too.")]
ResumeOption = Annotated[Path | None, typer.Option(help="Folder that keeps each published text's result as it ends.")]
ToOption = Annotated[Path, typer.Option(help="Folder for the Parquet file and the Markdown table.")]
StepsOption = Annotated[
    int | None,
    typer.Option(min=1, help="To try the benchmark itself: at most so many steps; its figures mean nothing."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What is compared, and how often."""

    model: str
    texts: Path
    count: int
    """The first so many texts."""
    repetitions: int
    """Runs of the published side."""
    ray: bool
    resume_dir: Path | None
    most_steps: int | None
    """Step limit for trying the benchmark; None leaves both recipes as they are."""

    def check(self) -> None:
        """Raise BadInput unless there is such a model, and texts that no constant was chosen on."""
        for path in (Path(self.model), self.texts):
            if not path.exists() and (path == self.texts or path.is_relative_to(DATA)):
                raise BadInput(
                    f"{path}: not here. By default the benchmark reads the shared data, "
                    f"{os.path.relpath(DATA, PROJECT)} from the project's root; put it there, or give --model and "
                    "--texts."
                )
        if self.texts.name not in REPORTING_TEXTS:
            raise BadInput(
                f"--texts {self.texts}: constants may have been chosen on these; what is reported comes from "
                f"{' or '.join(REPORTING_TEXTS)}."
            )

    def sweep_file(self, folder: Path, run: int) -> Path:
        """The sweep of one capsweep run: everything as it comes by default, with starts of its own."""
        model = os.path.abspath(self.model) if Path(self.model).is_dir() else self.model
        texts = {"source": "files", "path": str(self.texts.resolve()), "samples": self.count}
        sweep = {"name": "versus-published", "models": [model], "texts": [texts], "seeds": [run]}
        if self.most_steps:
            sweep["recipe"] = {"steps": self.most_steps, "patience": self.most_steps}
        path = folder / f"sweep-{run}.yaml"
        path.write_text(yaml.safe_dump(sweep))
        return path

    def published_recipe(self) -> PublishedRecipe:
        """The paper's, or the one that tries the benchmark."""
        return PublishedRecipe(steps=self.most_steps) if self.most_steps else PublishedRecipe()

    def facts(self) -> dict[str, str]:
        """What a reader needs to know of the figures."""
        ours = "inline and on Ray" if self.ray else "inline"
        trial = {"TRIAL": f"at most {self.most_steps} steps: the figures mean nothing"} if self.most_steps else {}
        return {
            **trial,
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "machine": f"{machine()}; load at the start {os.getloadavg()[0]:.1f}",
            "model": Path(self.model).resolve().name if Path(self.model).is_dir() else self.model,
            "texts": f"the first {self.count} of {self.texts.name}, k = 1",
            "runs": f"{self.repetitions} published, each between two of capsweep ({ours})",
            "code": f"commit {_commit()}; transformers {version('transformers')}, ray {version('ray')}",
        }


def _commit() -> str:
    """Commit of the checkout, with a plus where files differ from it."""
    command = ["git", "-C", str(PROJECT), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    found = subprocess.run(command, capture_output=True, text=True)
    return found.stdout.strip() or "unknown"


def measure(setup: Setup, folder: Path) -> list[TextResult]:
    """Run the two sides in turn; report progress on stderr."""
    published = Published(
        make_plan(load_sweep(setup.sweep_file(folder, 0))), setup.published_recipe(), setup.resume_dir
    )
    results: list[TextResult] = []
    for run in range(setup.repetitions + 1):
        sweep = setup.sweep_file(folder, run)
        for on_ray in (False, True)[: 1 + setup.ray]:
            place = folder / f"run-{run}-{'ray' if on_ray else 'inline'}"
            found = run_capsweep(sweep, place, run=run, on_ray=on_ray, bits=published.bits)
            seconds = sum(result.seconds for result in found)
            typer.echo(f"{found[0].side}, run {run}: {len(found)} texts in {seconds:.1f} s", err=True)
            results += found
        if run == setup.repetitions:
            break
        for result in published.run(run):
            message = f"{result.capacity_tokens} tokens claimed, {result.capacity_exact} exact, {result.seconds:.1f} s"
            typer.echo(f"published, run {run}: {result.source}: {message}", err=True)
            results.append(result)
    return results


def main(
    model: ModelOption = str(DATA / "models" / "stories260K"),
    texts: TextsOption = DATA / "text" / "stories_report.jsonl",
    count: CountOption = 4,
    repetitions: RepetitionsOption = 3,
    ray: RayOption = False,
    resume_dir: ResumeOption = None,
    to: ToOption = PROJECT / "runs" / "bench",
    most_steps: StepsOption = None,
) -> None:
    """Measure capsweep against the published recipe, in turn, on the same model, texts and machine."""
    setup = Setup(
        model=model,
        texts=texts,
        count=count,
        repetitions=repetitions,
        ray=ray,
        resume_dir=resume_dir,
        most_steps=most_steps,
    )
    try:
        setup.check()
        facts = setup.facts()
        with tempfile.TemporaryDirectory(prefix="capsweep-bench-") as folder:
            results = measure(setup, Path(folder))
    except (BadInput, TaskError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    to.mkdir(parents=True, exist_ok=True)
    stem = f"{facts['model'].replace('/', '--')}-{texts.stem}-{count}x{repetitions}{'-trial' if most_steps else ''}"
    table = markdown(results, facts)
    pq.write_table(
        pa.Table.from_pylist([asdict(result) for result in results]).replace_schema_metadata(facts),
        to / f"{stem}.parquet",
    )
    sides: list[Side] = ["capsweep", "capsweep on Ray"] if ray else ["capsweep"]
    last = [final_line(results, side) for side in sides]
    (to / f"{stem}.md").write_text("\n".join([table, *last, ""]))
    typer.echo("\n".join([table, f"written: {to / stem}.md and .parquet", *last]))


if __name__ == "__main__":
    typer.run(main)
