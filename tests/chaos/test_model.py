"""RAM that runs out, arithmetic that is not finite, probes that the machine always fails: never a verdict."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import orchestrator
from tests.chaos.harness import Witness, searches_of, to_end, write_sweep

LITTLE_RAM = """
import json, resource, sys
import torch
from tasks.values import EngineSettings, Failed, Model, Probe, Question
from tasks.registry import TASKS
path, megabytes, tokens_per_step, lengths = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])
task = TASKS["cramming"]
settings = EngineSettings(device="cpu", cpus=1, tokens_per_step=tokens_per_step)
engine = task.open_engine(Model(name=path), Question(recipe={"radius": 30.0, "steps": 4, "patience": 4}), settings)

def probes(lengths, name):
    return [
        Probe(
            probe_id=f"{name}{i}", search_id=f"{name}{i}", number=0, sample_id="s", length=length, num_vectors=1,
            tokens=tuple(3 + (7 * j + i) % 500 for j in range(length)),
        )
        for i, length in enumerate(lengths)
    ]

def run(asked):
    engine.submit(asked, num_open=len(asked))
    found = []
    while engine.num_held:
        found += engine.step()
    return found

run(probes([2], "warm"))
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + 2**28,) * 2)
ballast = []
try:
    while True:
        ballast.append(torch.ones(2**17))
except RuntimeError:
    del ballast[-int(2 * megabytes):]
before = engine.num_slots
found = run(probes(lengths, "probe"))
reasons = {item.probe.length: item.outcome.reason for item in found if isinstance(item.outcome, Failed)}
print(json.dumps({"finished": len(found), "slots": [before, engine.num_slots], "failed": reasons}))
"""
"""An engine in whose process so many megabytes are left after a first probe."""


def in_little_ram(model: Path, megabytes: float, tokens_per_step: int, lengths: list[int]) -> dict:
    arguments = [str(model), str(megabytes), str(tokens_per_step), json.dumps(lengths)]
    ended = subprocess.run([sys.executable, "-c", LITTLE_RAM, *arguments], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_ram_runs_out(tally, times, stories_model):
    times(1, 0)
    found = tally("out of memory: the batch is halved, its probes continue")
    lengths = [60] * 64
    result = in_little_ram(stories_model, 30, 64 * 60, lengths)
    before, after = result["slots"]
    assert result["finished"] == len(lengths)
    assert not result["failed"]
    assert after < before
    found.provoked += 1
    found.notes.append(f"about {before} probes at a time, then {after}; all {len(lengths)} have their verdict")


def test_a_probe_is_too_large_for_the_ram(tally, times, stories_model):
    times(1, 1)
    found = tally("out of memory: one probe too large")
    result = in_little_ram(stories_model, 12, 2048, [20, 500, 20])
    assert list(result["failed"]) == ["500"]
    assert "no room for 500 tokens" in result["failed"]["500"]
    assert result["finished"] == 3
    found.provoked += 1
    found.notes.append("failed with the reason, the others have their verdict")


def test_a_model_returns_nan(tmp_path, tally, times, stories_sweep, stories_model):
    times(1, 0)
    found = tally("a model that returns NaN")
    import torch
    from safetensors.torch import load_file, save_file

    model = tmp_path / "model"
    shutil.copytree(stories_model, model)
    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"][:] = torch.nan
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    spec = stories_sweep(texts=3, models=[str(model)])
    run = tmp_path / "run"
    output = to_end("run", spec, "--inline", "--run-dir", run, code=1)
    assert "3 searches failed" in output
    rows = orchestrator.read(str(run)).probes.to_pylist()
    assert {row["outcome"] for row in rows} == {"failed"}
    assert all(row["reason"].startswith("not finite") for row in rows)
    assert {(row["status"], row["capacity_tokens"]) for row in searches_of(run)} == {("failed", None)}
    found.provoked += len(rows)
    found.notes.append("failed with the reason, none lossy")


def test_the_machine_always_fails(tmp_path, tally, times):
    times(1, 0)
    found = tally("a probe that the machine fails three times; --retry-failed")
    spec = write_sweep(tmp_path, texts=6, recipe={"machine_failures": 3})
    run = tmp_path / "run"
    witness = Witness(run, found)
    output = to_end("run", spec, "--inline", "--run-dir", run, code=1)
    assert f"`capsweep resume {run} --retry-failed` tries them again" in " ".join(output.split())
    attempts = Counter(orchestrator.read(str(run)).probes["probe_id"].to_pylist())
    assert set(attempts.values()) == {3}
    found.provoked += attempts.total()
    to_end("resume", run, "--inline", "--retry-failed", code=1)
    witness.conclude()
    assert witness.num_finished == 6
    found.notes.append("recorded with the reason, then tried again")
