"""Measures recipes into a ledger that survives a stop: one row per text and recipe, written when the text ends.

    python benchmarks/measure.py run LEDGER --model FOLDER --texts FILE.jsonl --count 24 --label sphere \
        [--task ..] [--recipe '{"turn": 0.4}'] [--vectors 1] [--budget 40000] [--side-by-side 8] [--longest 300] \
        [--device cuda] [--dtype bfloat16]
    python benchmarks/measure.py take LEDGER RUN --label "2 retries"
    python benchmarks/measure.py verify LEDGER --model FOLDER --texts FILE.jsonl [--task ..] [--show 3] [--device ..]
    python benchmarks/measure.py table LEDGER [LEDGER ..]

`run` measures the texts that have no row with the same label and settings yet, and saves probes in flight every minute
beside the ledger. Each text gets one probe, without retries, in the engine of the product; memories are certified as in
any run. It needs no Ray. `take` copies the searches of a finished run into the ledger, with all their starts. `verify`
decodes the memories of `run` again, one at a time, and shows the longest texts that they give back; for the memories of
a finished run there is `capsweep verify`. `table` prints the lines of docs/recipe.md. The file is long because all
four share the form of a row.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from ledger import SAVE_SECONDS, SETTINGS, Ledger, commit, key_of, rows_by_line

from orchestrator.report.intervals import bootstrap_mean
from orchestrator.runs.directory import open_run
from orchestrator.store.probe_columns import PROBES
from tasks.contract import Engine, Task
from tasks.registry import TASKS
from tasks.turns import TEXT_BREAK, apart, in_turns
from tasks.values import EngineSettings, Failed, Finished, Model, Probe, Question

STEPS = (50, 100, 200, 400, 800, 1600)
"""Optimizer steps at which a table shows the certified tokens; for rows of `take`, those reached, teacher forced."""
BUDGETS = (1_500, 2_500, 6_000, 10_000, 25_000, 40_000, 100_000)
"""Trained tokens at which a table shows the tokens reached, teacher forced."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What `run` measures, and how: the options of its command line."""

    ledger: str
    model: str
    texts: str
    label: str
    task: str = "cramming"
    """Under `prefix`, a BOS stands before the text. The label has to name another task than the default."""
    recipe: str = "{}"
    growth: float | None = None
    """`growth` of the search; None: as the recipe suggests."""
    first: int = 0
    """Number of the first text, from 0."""
    count: int = 8
    vectors: int = 1
    seed: int = 0
    budget: int | None = None
    """Most trained tokens of a text; None: until its probe ends by itself."""
    longest: int = 300
    side_by_side: int = 8
    """Texts in one batch."""
    threads: int = 2
    device: str = "cpu"
    dtype: str = "float32"
    """Precision of the model. The label has to name another one than the default."""


def measure(arguments: Settings) -> None:
    """Measure the texts that have no row yet, side by side."""
    task, model = TASKS[arguments.task], Model(name=arguments.model, dtype=arguments.dtype)
    facts = task.facts(model)
    examined = task.examine(model, facts, task.recipe(json.loads(arguments.recipe)))
    recipe = examined.recipe
    defaults = task.search_defaults(recipe)
    growth = defaults.growth if arguments.growth is None else arguments.growth
    question = replace(question_of(task, arguments.vectors), recipe=recipe, growth=growth)
    shared: dict[str, Any] = {
        "label": arguments.label,
        "model": Path(arguments.model).name,
        "texts": Path(arguments.texts).name,
        "recipe": json.dumps(recipe, sort_keys=True),
        "num_vectors": arguments.vectors,
        "budget": arguments.budget,
        "longest": arguments.longest,
    }
    ledger = Ledger(Path(arguments.ledger))
    lines = Path(arguments.texts).read_text().splitlines()[arguments.first : arguments.first + arguments.count]
    codec = task.codec(model)
    whole = [codec.encode(json.loads(line)["text"]).tokens for line in lines]
    texts = groups_of(whole, arguments.longest, question.num_texts)
    keys = [key_of(shared, tokens, arguments.seed) for tokens in texts]
    probes = [
        Probe(
            probe_id=key,
            search_id=key,
            number=0,
            sample_id=key,
            tokens=tokens,
            length=min(defaults.first_length, len(tokens)),
            num_vectors=arguments.vectors,
            snapshot=ledger.state_of(key),
            max_trained_tokens=arguments.budget,
        )
        for key, tokens in zip(keys, texts, strict=True)
        if not ledger.has(key)
    ]
    print(
        f"{arguments.label}: {len(texts) - len(probes)} of {len(texts)} texts are measured. {examined.note}", flush=True
    )
    if not probes:
        return
    engine = task.open_engine(model, question, EngineSettings(device=arguments.device, cpus=arguments.threads))
    optimize(engine, probes, ledger, {**shared, "seed": arguments.seed}, side_by_side=arguments.side_by_side)


def optimize(
    engine: Engine, probes: Sequence[Probe], ledger: Ledger, shared: Mapping[str, Any], *, side_by_side: int
) -> None:
    """Optimize the probes, and write a row when each ends; `shared` has the columns that all rows share."""
    waiting, saved = list(reversed(probes)), time.monotonic()
    while waiting or engine.num_held:
        room = side_by_side - engine.num_busy
        engine.submit([waiting.pop() for _ in range(min(max(0, room), len(waiting)))], num_open=len(probes))
        for item in engine.step():
            row = {**shared, "commit": commit(), **row_of(item)}
            ledger.add(row)
            print(f"{row['source_tokens'][:24]!r}: {row['exact_prefix']} tokens, {row['steps']} steps", flush=True)
        if time.monotonic() - saved > SAVE_SECONDS:
            ledger.save({snapshot.probe_id: snapshot.state for snapshot in engine.snapshots()})
            saved = time.monotonic()


def question_of(task: Task, num_vectors: int) -> Question:
    """What a task is asked: the text out of the memory, where the task allows it with nothing before.

    In one step, k vectors are those of k - 1 texts, which share the last one.
    """
    num_texts = num_vectors - 1 if task.name == "one_step" else 1
    return Question(prefix="bos" if task.name == "prefix" else None, num_texts=num_texts)


def groups_of(texts: Sequence[tuple[int, ...]], longest: int, size: int) -> list[tuple[int, ...]]:
    """The texts, or groups of `size` of them whose tokens take turns, with `longest` tokens of each at most."""
    groups = [texts[first : first + size] for first in range(0, len(texts) - size + 1, size)]
    shortest = [min(longest, *map(len, group)) for group in groups]
    return [in_turns([text[:length] for text in group]) for group, length in zip(groups, shortest, strict=True)]


def verify(arguments: argparse.Namespace) -> None:
    """Decode every memory of `run` again, from nothing else, and compare the result with its text."""
    task, model = TASKS[arguments.task], Model(name=arguments.model, dtype=arguments.dtype)
    codec = task.codec(model)
    texts = [codec.encode(json.loads(line)["text"]).tokens for line in Path(arguments.texts).read_text().splitlines()]
    mine = (Path(arguments.model).name, Path(arguments.texts).name)
    rows = [
        row for row in Ledger(Path(arguments.ledger)).rows if (row["model"], row["texts"]) == mine and row["memory"]
    ]
    questions = {k: question_of(task, k) for k in {row["num_vectors"] for row in rows}}
    provers = {k: task.open_prover(model, question, arguments.device) for k, question in questions.items()}
    exact, shown = 0, []
    for row in rows:
        settings, k = {name: row[name] for name in SETTINGS}, row["num_vectors"]
        groups = groups_of(texts, row["longest"], questions[k].num_texts)
        tokens = next(group for group in groups if key_of(settings, group, row["seed"]) == row["key"])
        proof = provers[k](row["memory"], num_vectors=k, tokens=tokens[: row["exact_prefix"]])
        exact += proof.exact_prefix == row["exact_prefix"]
        parts = apart(proof.tokens, questions[k].num_texts)
        shown.append((proof.exact_prefix, TEXT_BREAK.join(map(codec.decode, parts))))
    print(f"{len(rows)} memories decoded, {exact} exact, {len(rows) - exact} not")
    for length, text in sorted(shown, reverse=True)[: arguments.show]:
        print(f"{length} tokens: {text!r}")


def row_of(finished: Finished) -> dict[str, Any]:
    """The row of one text."""
    if isinstance(finished.outcome, Failed):
        raise SystemExit(f"the machine failed: {finished.outcome.reason}")
    found, probe = finished.outcome.measurement, finished.probe
    return {
        "key": probe.probe_id,
        "source_tokens": json.dumps(list(probe.tokens[:8])),
        "exact_prefix": found.exact_prefix,
        "teacher_forced": len(found.steps_by_length),
        "margin": found.margin,
        "nats_without_memory": found.proven_nats_without_memory,
        "steps": found.steps,
        "trained_tokens": found.trained_tokens,
        "seconds": found.seconds,
        "ended_at_limit": found.failed_length is None,
        "steps_by_length": list(found.steps_by_length),
        "trained_tokens_by_length": list(found.trained_tokens_by_length),
        "certified_steps": list(found.certified_steps),
        "certified_trained_tokens": list(found.certified_trained_tokens),
        "certified_lengths": list(found.certified_lengths),
        "exact_in_float32": found.exact_in_float32,
        "memory": found.memory,
        "remark": found.remark,
    }


def take(arguments: argparse.Namespace) -> None:
    """Copy the searches of a finished run into the ledger."""
    run, ledger = open_run(arguments.run), Ledger(Path(arguments.ledger))
    probes: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for probe in run.probes(PROBES.names).to_pylist():
        if probe["outcome"] != "failed":
            probes[probe["search_id"]].append(probe)
    for search in run.searches().to_pylist():
        if search["status"] in ("open", "failed"):
            raise SystemExit(f"{search['source']}: this search is {search['status']}; resume the run first.")
        row = row_of_search(search, sorted(probes[search["search_id"]], key=lambda probe: probe["number"]))
        tokens = run.sample(search["model"], search["sample_id"])["tokens"]
        shared = {
            "label": arguments.label,
            "model": search["model"],
            "texts": arguments.texts or Path(search["source"].partition(":")[2].partition("#")[0]).name,
            "num_vectors": search["num_vectors"],
            "budget": None,
            "longest": run.sweep.search.max_length,
            "seed": search["seed"],
            "commit": run.provenance["sessions"][-1]["git_commit"],
            "source_tokens": json.dumps(tokens[:8]),
        }
        if not ledger.has(row["key"]):
            ledger.add({**shared, **row})


def row_of_search(search: dict[str, Any], probes: list[dict[str, Any]]) -> dict[str, Any]:
    """The row of one search: the cost and the result of its starts, one after the other."""
    best = next((probe for probe in probes if probe["probe_id"] == search["probe_id"]), {})
    reached: list[tuple[int, int]] = []
    steps = trained_tokens = 0
    for probe in probes:
        curve = zip(probe["steps_by_length"] or [], probe["trained_tokens_by_length"] or [], strict=True)
        reached += [(steps + at, trained_tokens + tokens) for at, tokens in list(curve)[len(reached) :]]
        steps, trained_tokens = steps + probe["steps"], trained_tokens + probe["trained_tokens"]
    return {
        "key": search["search_id"],
        "recipe": probes[0]["recipe"],
        "exact_prefix": search["capacity_tokens"],
        "teacher_forced": len(reached),
        "margin": search["margin"],
        "nats_without_memory": search["capacity_nats"],
        "steps": steps,
        "trained_tokens": trained_tokens,
        "seconds": search["seconds"],
        "ended_at_limit": search["status"] != "measured",
        "steps_by_length": [at for at, _ in reached],
        "trained_tokens_by_length": [tokens for _, tokens in reached],
        "certified_steps": [],
        "certified_trained_tokens": [],
        "certified_lengths": [],
        "exact_in_float32": search["exact_in_float32"],
        "memory": best.get("memory"),
        "remark": None,
    }


def table(paths: list[str]) -> None:
    """Print one line per label: tokens certified at the end, and tokens reached on the way."""
    groups = rows_by_line(paths)
    heads = [*(f"{steps} steps" for steps in STEPS), *(f"{budget:,} trained" for budget in BUDGETS)]
    print(f"| model, texts, k, label | n | certified | in float32 | trained | steps | {' | '.join(heads)} |")
    print(f"|{'---|' * (6 + len(heads))}")
    for key, rows in groups.items():
        settings = dict(zip(SETTINGS, key, strict=True))
        tokens = [float(row["exact_prefix"]) for row in rows]
        interval = bootstrap_mean(tokens, [row["key"] for row in rows])
        certified = f"{np.mean(tokens):.1f}" + (f" [{interval[0]:.1f}, {interval[1]:.1f}]" if interval else "")
        on_the_way = [f"{np.mean([certified_at(row, at) for row in rows]):.1f}" for at in STEPS]
        on_the_way += [f"{np.mean([reached(row, 'trained_tokens', at) for row in rows]):.1f}" for at in BUDGETS]
        name = f"{settings['model']}, {settings['texts']}, k = {settings['num_vectors']}, {settings['label']}"
        trained, steps = (np.mean([row[column] for row in rows]) for column in ("trained_tokens", "steps"))
        exact = sum(row.get("exact_in_float32") == row["exact_prefix"] for row in rows)
        line = [name, str(len(rows)), certified, str(exact), f"{trained:,.0f}", f"{steps:,.0f}", *on_the_way]
        print(f"| {' | '.join(line)} |")


def certified_at(row: dict[str, Any], steps: int) -> int:
    """Tokens that the best memory after `steps` gave back, if it was decoded; else the tokens reached."""
    kept = dict(zip(row.get("certified_steps") or (), row.get("certified_lengths") or (), strict=True))
    return kept[steps] if steps in kept else reached(row, "steps", steps)


def reached(row: dict[str, Any], unit: str, at: int) -> int:
    """Tokens that a probe had reached, teacher forced, at `at` of `unit`; at most those certified in the end."""
    return min(row["exact_prefix"], claimed(row, unit, at))


def claimed(row: dict[str, Any], unit: str, at: int) -> int:
    """Tokens that were correct teacher forced after so much."""
    return sum(taken <= at for taken in row[f"{unit}_by_length"])


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run")
    run.add_argument("ledger")
    run.add_argument("--model", required=True)
    run.add_argument("--texts", required=True)
    run.add_argument("--label", required=True)
    run.add_argument("--task", choices=("cramming", "prefix", "one_step"), default=Settings.task)
    run.add_argument("--recipe", default=Settings.recipe)
    run.add_argument("--growth", type=float, default=None, help="of the search; the label has to name it")
    run.add_argument("--budget", type=int, default=None)
    for name in ("first", "count", "vectors", "seed", "longest", "side_by_side", "threads"):
        run.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(Settings, name))
    taken = verbs.add_parser("take")
    taken.add_argument("ledger")
    taken.add_argument("run")
    taken.add_argument("--label", required=True)
    taken.add_argument("--texts", default=None, help="name of the texts; default: that of their file")
    verified = verbs.add_parser("verify")
    verified.add_argument("ledger")
    verified.add_argument("--model", required=True)
    verified.add_argument("--texts", required=True)
    verified.add_argument("--task", choices=("cramming", "prefix", "one_step"), default=Settings.task)
    verified.add_argument("--show", type=int, default=0)
    for read in (run, verified):
        read.add_argument("--device", default=Settings.device)
        read.add_argument("--dtype", default=Settings.dtype, help="of the model; the label has to name it")
    verbs.add_parser("table").add_argument("ledgers", nargs="+")
    arguments = parser.parse_args()
    match arguments.verb:
        case "run":
            measure(Settings(**{field.name: getattr(arguments, field.name) for field in fields(Settings)}))
        case "take":
            take(arguments)
        case "verify":
            verify(arguments)
        case _:
            table(arguments.ledgers)


if __name__ == "__main__":
    main()
