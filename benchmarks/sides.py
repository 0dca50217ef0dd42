"""The two sides of the comparison, each measured on the same texts and reported in the same columns.

Knows nothing of the order they run in, or of what comes out of comparing them.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from math import log
from pathlib import Path
from typing import Any

import torch
from comparison import TextResult
from published_recipe import PublishedRecipe, cram, search_lengths
from transformers import AutoModelForCausalLM

import orchestrator
from orchestrator.inline import run_inline
from orchestrator.memories import verify
from orchestrator.plan import Plan, make_plan
from orchestrator.run_directory import open_run
from orchestrator.session import open_session
from orchestrator.spec import load_sweep
from orchestrator.stop import Stop
from tasks.certificate import score_without_memory
from tasks.contract import Question
from tasks.language_model import LanguageModel
from tasks.layout import Cramming

PROJECT = Path(__file__).resolve().parents[1]
WARM_UP_STEPS = 20
OUR_THREADS = torch.get_num_threads()
PUBLISHED_THREADS = 1
"""Threads of torch on the published side: one text of a small model is no faster with two (100 against 102 steps/s)."""


def machine() -> str:
    """What computes, as far as it decides how long things take."""
    if torch.cuda.is_available():
        chip = torch.cuda.get_device_name()
    else:
        info = Path("/proc/cpuinfo")
        lines = info.read_text().splitlines() if info.is_file() else []
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        chip = f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"
    return f"{chip}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def now() -> str:
    """The time, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Published:
    """The published side: a model loaded once, its searches one by one, each saved as it ends."""

    def __init__(self, plan: Plan, recipe: PublishedRecipe, resume_dir: Path | None) -> None:
        self._plan, self._recipe, self._resume_dir = plan, recipe, resume_dir
        self._planned = plan.models[0]
        self._ours = LanguageModel(self._planned.model)
        name = self._planned.model.name
        self._model: Any = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32)
        self._model.to(self._ours.device).eval().requires_grad_(False)
        if resume_dir:
            resume_dir.mkdir(parents=True, exist_ok=True)
        # What torch sets up with its first steps is nobody's time.
        warm_up = PublishedRecipe(steps=WARM_UP_STEPS)
        cram(self._model, tuple(range(WARM_UP_STEPS)), recipe=warm_up, generator=torch.Generator())

    def run(self, run: int) -> Iterator[TextResult]:
        """Each text's result, measured now or found in the resume directory."""
        torch.set_num_threads(PUBLISHED_THREADS)
        for search in self._plan.searches:
            sample = self._plan.samples[search.model, search.sample_id]
            saved = self._saved(search.sample_id, search.limit, run)
            if saved and saved.is_file():
                yield TextResult(**json.loads(saved.read_text()))
                continue
            result = self._measure(sample.source, search.sample_id, sample.tokens[: search.limit], run)
            if saved:
                partial = saved.with_suffix(".partial")
                partial.write_text(json.dumps(asdict(result)))
                partial.replace(saved)
            yield result

    def bits(self, sample_id: str, length: int) -> float:
        """Bits of a text's first tokens under the model without memory, log2 V for t_1; alike for every side."""
        tokens = self._plan.samples[self._planned.name, sample_id].tokens[:length]
        return score_without_memory(self._ours, tokens, question=Question()).nats / log(2)

    def _saved(self, sample_id: str, limit: int, run: int) -> Path | None:
        """Where this result lies, by all that decides it and by the machine that took the time."""
        if self._resume_dir is None:
            return None
        decides = [self._planned.facts.fingerprint, sample_id, limit, run, asdict(self._recipe), machine()]
        key = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]
        return self._resume_dir / f"published-{key}.json"

    def _measure(self, source: str, sample_id: str, tokens: tuple[int, ...], run: int) -> TextResult:
        capacity, attempts = search_lengths(self._model, tokens, recipe=self._recipe, seed=f"{sample_id}/{run}")
        exact: list[int] = []
        given_first: list[int] = []
        claims = [(a.length, a.memory_KD) for a in attempts if a.memory_KD is not None]
        for length, memory_KD in claims:
            text_1L = torch.tensor([tokens[:length]], device=self._ours.device)
            alone = Cramming(Question()).prove(self._ours, memory_KD[None], text_1L)
            exact += [length] * (int(alone.exact_prefix_B) == length)
            with_first_1TD = torch.cat([memory_KD[None], self._ours.embed(text_1L[:, :1])], dim=1)
            rest = self._ours.decode(with_first_1TD, text_1L[:, 1:])
            given_first += [length] * (1 + int(rest.exact_prefix_B) == length)
        return TextResult(
            side="published",
            run=run,
            source=source,
            sample_id=sample_id,
            seconds=sum(attempt.seconds for attempt in attempts),
            slot_steps=sum(attempt.steps for attempt in attempts),
            trained_tokens=sum(attempt.steps * attempt.length for attempt in attempts),
            capacity_tokens=capacity,
            capacity_bits=self.bits(sample_id, capacity),
            capacity_exact=max(exact, default=0),
            probes=len(attempts),
            claims=len(claims),
            claims_exact=len(exact),
            claims_exact_given_first=len(given_first),
            measured_at=now(),
        )


def run_capsweep(
    spec: Path, folder: Path, *, run: int, on_ray: bool, bits: Callable[[str, int], float]
) -> list[TextResult]:
    """One run of the default recipe and search, in this process or through the command on Ray.

    Args:
        spec: The sweep file.
        folder: The run directory to make.
        run: Number of this run among those of its side.
        on_ray: Through the command on Ray instead of in this process.
        bits: Bits of the first tokens of a sample: (sample_id, length).
    """
    started = time.perf_counter()
    if on_ray:
        command = [sys.executable, "-m", "orchestrator.cli", "run", str(spec), "--run-dir", str(folder)]
        ended = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
        if ended.returncode:
            output = (ended.stderr or ended.stdout)[-2000:]
            raise RuntimeError(f"`capsweep run` on Ray ended with {ended.returncode}: {output}")
    else:
        torch.set_num_threads(OUR_THREADS)
        plan = make_plan(load_sweep(spec))
        with open_session(plan, str(folder)) as session:
            run_inline(session, plan.sweep.engine_settings(), stop=Stop(), on_verdicts=lambda verdicts: None)
            session.finish()
    seconds, measured_at = time.perf_counter() - started, now()
    searches = orchestrator.read(str(folder)).searches.to_pylist()
    if unfinished := [row["source"] for row in searches if row["status"] in ("open", "failed")]:
        raise RuntimeError(f"{folder}: {len(unfinished)} searches did not end, the first {unfinished[0]}.")
    memories: Counter[str] = Counter()
    exact: Counter[str] = Counter()
    longest: Counter[str] = Counter()
    for found in verify(open_run(str(folder))):
        memories[found.source] += 1
        exact[found.source] += found.proof.exact_prefix == found.claimed
        longest[found.source] = max(longest[found.source], found.proof.exact_prefix)
    scale = seconds / sum(row["seconds"] for row in searches)
    return [
        TextResult(
            side="capsweep on Ray" if on_ray else "capsweep",
            run=run,
            source=row["source"],
            sample_id=row["sample_id"],
            seconds=row["seconds"] * scale,
            slot_steps=row["steps"],
            trained_tokens=row["trained_tokens"],
            capacity_tokens=row["capacity_tokens"],
            capacity_bits=bits(row["sample_id"], row["capacity_tokens"]),
            capacity_exact=longest[row["source"]],
            probes=row["probes"],
            claims=memories[row["source"]],
            claims_exact=exact[row["source"]],
            claims_exact_given_first=None,
            measured_at=measured_at,
        )
        for row in searches
    ]
