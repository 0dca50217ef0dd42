"""Makes runs whose values are golden and prints the values as JSON: `python tests/golden/runs.py FOLDER NAME..`.

Runs in a process of its own, whose arithmetic the caller sets by environment variables before torch is loaded.
"""

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

import orchestrator
from orchestrator.execution.executor import Watcher
from orchestrator.execution.inline import InlineExecutor
from orchestrator.execution.stop import Stop
from orchestrator.planning.plan import Plan
from orchestrator.planning.planner import make_plan
from orchestrator.runs.session import open_session
from orchestrator.spec.sweep_file import load_sweep

QUICKSTART = Path(__file__).resolve().parents[2] / "sweeps" / "quickstart"
TOY_TEXT = "Text number {number}: long enough to have a capacity of its own, and then some more words to be safe."
PROBE_COLUMNS = (
    *("search_id", "probe_id", "number", "start", "length", "outcome", "proven_length", "failed_length"),
    *("steps", "steps_to_proof", "trained_tokens"),
)
TRAJECTORY_STEPS = 50


def toy_sweep(folder: Path) -> dict[str, Any]:
    """Twelve texts whose capacities are known, with one vector and with two."""
    texts = folder / "toy-texts"
    texts.mkdir()
    for number in range(12):
        (texts / f"{number:02d}.txt").write_text(TOY_TEXT.format(number=number))
    return {
        "name": "toy",
        "task": "toy",
        "models": ["toy/model"],
        "texts": [{"source": "files", "path": str(texts)}],
        "num_vectors": [1, 2],
        "recipe": {"spread": 0.5},
        "engines": {"count": 1},
    }


def quickstart_sweep(folder: Path) -> dict[str, Any]:
    """The shipped model on two of the shipped texts, deterministic, cut short."""
    return {
        "name": "quickstart",
        "models": [str(QUICKSTART / "model")],
        "texts": [
            {"source": "files", "path": str(QUICKSTART / "texts" / text)} for text in ("01-story.txt", "02-letter.txt")
        ],
        "search": {"retries": 1, "max_length": 10},
        "recipe": {"optimizer": "adamw", "steps": 25, "patience": 12},
        "engines": {"device": "cpu", "count": 1, "deterministic": True, "cpus": 1},
    }


def sphere_sweep(folder: Path) -> dict[str, Any]:
    """The same with the default recipe, whose radius is measured on the model."""
    recipe = {"patience": 12, "retreat_steps": 5}
    search = {"retries": 1, "max_length": 20}
    return {**quickstart_sweep(folder), "name": "sphere", "search": search, "recipe": recipe}


def plan_of(sweep: dict[str, Any], folder: Path) -> Plan:
    """The plan of a sweep that is written to a file first, as a user's is."""
    path = folder / f"{sweep['name']}.yaml"
    path.write_text(yaml.safe_dump(sweep))
    return make_plan(load_sweep(path))


def probes_of(plan: Plan, run: Path, *, on_ray: bool) -> list[dict[str, Any]]:
    """One value per probe of a run, in the order of their ids."""
    with open_session(plan, str(run)) as session:
        if on_ray:
            from orchestrator.cluster.executor import RayExecutor

            RayExecutor(None).run(session, stop=Stop(), watcher=Watcher())
        else:
            InlineExecutor().run(session, stop=Stop(), watcher=Watcher())
    rows = orchestrator.read(str(run)).probes.to_pylist()
    return [
        {**{name: row[name] for name in PROBE_COLUMNS}, "memory": _short_hash(row["memory"] or b"")}
        for row in sorted(rows, key=lambda row: (row["search_id"], row["number"]))
    ]


PUBLISHED = "published"
SWEEPS = {"toy": toy_sweep, "quickstart": quickstart_sweep, "sphere": sphere_sweep}


def sweeps(folder: Path, *, on_ray: bool, names: Sequence[str]) -> dict[str, Any]:
    """The values of these sweeps, whose runs are made in `folder`."""
    return {name: probes_of(plan_of(SWEEPS[name](folder), folder), folder / name, on_ray=on_ray) for name in names}


def published_trajectories() -> dict[str, Any]:
    """Memories of the first fifty steps of `recipe: published`, of probes with fixed ids.

    None of them grows or ends, so the shapes of the batches are the same at every step.
    """
    from safetensors.torch import load

    from tasks.cramming import CrammingTask
    from tasks.values import EngineSettings, Model, Probe, Question

    task, model = CrammingTask(), Model(name=str(QUICKSTART / "model"))
    question = Question(criterion=0.99, decode_from="memory+first_token", recipe=task.recipe("published"))
    engine = task.open_engine(model, question, EngineSettings(device="cpu", cpus=1))
    codec = task.codec(model)
    probes: list[Probe] = []
    for number, (text, num_vectors) in enumerate((("04-argument.txt", 1), ("05-dialogue.txt", 1), ("06-list.txt", 2))):
        tokens = codec.encode((QUICKSTART / "texts" / text).read_text()).tokens[:16]
        name = f"golden {number}"
        probes.append(
            Probe(
                probe_id=name,
                search_id=name,
                number=0,
                sample_id=name,
                tokens=tokens,
                length=len(tokens),
                num_vectors=num_vectors,
            )
        )
    engine.submit(probes, num_open=len(probes))
    hashes = {probe.probe_id: hashlib.sha256() for probe in probes}
    shown: dict[str, list[list[float]]] = {probe.probe_id: [] for probe in probes}
    for step in range(1, TRAJECTORY_STEPS + 1):
        finished = engine.step()
        assert not finished, "these texts are too long for a vector of this model"
        for snapshot in engine.snapshots():
            memory = load(snapshot.state)["memory_BKD"]
            hashes[snapshot.probe_id].update(memory.numpy().astype("<f4").tobytes())
            if step in (1, 10, TRAJECTORY_STEPS):
                shown[snapshot.probe_id].append([round(value, 6) for value in memory.flatten()[:4].tolist()])
    return {name: {"memories": found.hexdigest()[:16], "first_values": shown[name]} for name, found in hashes.items()}


def _short_hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def main() -> None:
    """Print the values of the sweeps of these names, and of the trajectories if they are among them."""
    folder, *names = sys.argv[1:]
    found = sweeps(Path(folder), on_ray=False, names=[name for name in names if name in SWEEPS])
    print(json.dumps({**found, **({PUBLISHED: published_trajectories()} if PUBLISHED in names else {})}))


if __name__ == "__main__":
    main()
