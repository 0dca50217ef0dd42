"""Verify, decode and export the stored memories of a run.

Knows nothing of Ray or of how memories came to be.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from orchestrator.analysis.codecs import codec_of, text_of
from orchestrator.errors import BadInput
from orchestrator.progress import tracked
from orchestrator.runs.directory import Run
from orchestrator.runs.resumable import check_models
from orchestrator.store.local_files import LocalFiles
from orchestrator.store.parquet import SEARCHES_FILE
from tasks.contract import DEFAULT_DECODING, Prover
from tasks.registry import TASKS
from tasks.values import DecodeSettings, Proof, Question


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """One stored memory, decoded again."""

    probe_id: str
    source: str
    claimed: int
    """Tokens that the memory gives back according to its row."""
    proof: Proof
    row_margin: float | None
    """Smallest logit margin according to its row."""

    @property
    def is_exact(self) -> bool:
        """Whether it gave back as many tokens as its row says."""
        return self.proof.exact_prefix == self.claimed


MEMORY_COLUMNS = ("probe_id", "model", "sample_id", "source", "num_vectors", "exact_prefix", "margin", "memory")


def stored_memories(run: Run) -> list[dict[str, Any]]:
    """The rows of probes that have a memory which gives tokens back, by model, source and probe.

    Raises:
        BadInput: when this is a copy of a run that was pushed without memories.
    """
    refuse_without_texts(run)
    rows = run.probes(MEMORY_COLUMNS).to_pylist()
    held = [row for row in rows if row["memory"] is not None and row["exact_prefix"]]
    return sorted(held, key=lambda row: (row["model"], row["source"], row["probe_id"]))


def verify(run: Run, *, device: str = "auto") -> Iterator[Verified]:
    """Decode every stored memory again, one text at a time.

    Raises:
        BadInput: when a model is not the one that the run measured.
    """
    rows = stored_memories(run)
    provers = Provers(run, device, [row["model"] for row in rows])
    for row in tracked(rows, "decoding memories"):
        sample = run.sample(row["model"], row["sample_id"])
        proof = provers.of(row["model"])(
            row["memory"],
            num_vectors=row["num_vectors"],
            tokens=sample["tokens"][: row["exact_prefix"]],
            context=sample["context"] or (),
        )
        yield Verified(
            probe_id=row["probe_id"],
            source=row["source"],
            claimed=row["exact_prefix"],
            proof=proof,
            row_margin=row["margin"],
        )


def decode(run: Run, search_id: str, *, device: str = "auto") -> str:
    """The text that the best memory of a search gives back, decoded from the memory alone.

    Raises:
        BadInput: when `search_id` begins no search_id of the run, or several, or the search has no memory, or its
            model is not the one that the run measured.
    """
    best = best_memory(run, search_id)
    prover = Provers(run, device, [best.model]).of(best.model)
    proof = prover(best.memory, num_vectors=best.num_vectors, tokens=best.tokens, context=best.context)
    return text_of(codec_of(run, best.model), proof.tokens, run.sweep.question().num_texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class BestMemory:
    """The memory that proved the capacity of a search."""

    model: str
    """Name of the model in rows."""
    num_vectors: int
    memory: bytes
    shape: tuple[int, ...]
    """(vectors, width)."""
    tokens: tuple[int, ...]
    """The text up to the capacity."""
    context: tuple[int, ...]
    """Token ids that stand before the memory."""

    @property
    def vectors(self) -> NDArray[np.float32]:
        """The memory, (vectors, width)."""
        return np.frombuffer(self.memory, dtype="<f4").reshape(self.shape).copy()


def best_memory(run: Run, search_id: Any) -> BestMemory:
    """The best memory of a search.

    Raises:
        BadInput: when `search_id` begins no search_id of the run, or several, or the search has no memory.
    """
    refuse_without_texts(run)
    # What a cell of an Arrow table gives is a scalar of Arrow.
    search_id = search_id.as_py() if isinstance(search_id, pa.Scalar) else search_id
    rows = run.searches().to_pylist()
    searches = [row for row in rows if isinstance(search_id, str) and row["search_id"].startswith(search_id)]
    if len(searches) != 1:
        found = f"{len(searches) or 'no'} search_ids of this run begin with it"
        known = ", ".join(row["search_id"] for row in (searches or rows)[:3])
        raise BadInput(f"{search_id!r}: {found}; wanted one search_id of {SEARCHES_FILE}, such as {known}.")
    search = searches[0]
    if search["probe_id"] is None:
        raise BadInput(f"{search_id!r}: this search has no memory yet (status {search['status']}).")
    rows = run.probes(("probe_id", "attempt", "memory", "memory_shape")).to_pylist()
    row = next(row for row in rows if row["probe_id"] == search["probe_id"] and row["memory"] is not None)
    sample = run.sample(search["model"], search["sample_id"])
    return BestMemory(
        model=search["model"],
        num_vectors=search["num_vectors"],
        memory=row["memory"],
        shape=tuple(row["memory_shape"]),
        tokens=tuple(sample["tokens"][: search["capacity_tokens"]]),
        context=tuple(sample["context"] or ()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedMemory:
    """A memory with all that reads it: `model.generate(inputs_embeds=inputs_embeds, ..)` gives its text back."""

    inputs_embeds: Any
    """What stands before the text: the tokens that the run put before the memory, if any, and the memory. A tensor
    (1, inputs, width) on the model's device, in the model's dtype."""
    vectors: NDArray[np.float32]
    """The memory alone, as it is stored, (vectors, width)."""
    model: Any
    """The frozen model of transformers."""
    tokenizer: Any
    """The tokenizer of transformers."""
    tokens: tuple[int, ...]
    """The text, as far as the memory gives it back by the run's criterion."""


def load_memory(run: Run, search_id: str, *, device: str = "auto") -> LoadedMemory:
    """The best memory of a search, its model and tokenizer.

    Raises:
        BadInput: as `decode` does.
        TaskError: when transformers cannot decode such a memory from input vectors.
    """
    best = best_memory(run, search_id)
    prover = Provers(run, device, [best.model]).of(best.model)
    opened = prover.for_generation(best.memory, num_vectors=best.num_vectors, context=best.context)
    return LoadedMemory(
        inputs_embeds=opened.inputs_embeds,
        vectors=best.vectors,
        model=opened.model,
        tokenizer=codec_of(run, best.model).tokenizer,
        tokens=best.tokens,
    )


def export(run: Run, folder: Path) -> int:
    """Write the best memory of each search to `memories.safetensors`, and the searches table to `memories.parquet`.

    Returns:
        How many memories were written; the tensors are named by search_id.

    Raises:
        BadInput: when `folder` cannot be written to.
    """
    from safetensors.numpy import save

    tensors = best_tensors(run)
    table = BytesIO()
    pq.write_table(run.searches(), table)
    metadata = {"run": run.files.url, "dtype": "float32"}
    write_all(folder, {"memories.safetensors": save(tensors, metadata=metadata), "memories.parquet": table.getvalue()})
    return len(tensors)


def refuse_without_texts(run: Run) -> None:
    """Raise BadInput if texts and memories of a run were left out when it was pushed."""
    if run.is_without_texts:
        raise BadInput(
            f"{run.files.url}: was pushed without its texts and without its memories, each of which gives its text "
            "back; there is nothing to decode. Wanted the run itself, or a copy that was pushed with them."
        )


def best_tensors(run: Run) -> dict[str, np.ndarray]:
    """The best memory of each search that has one, by search_id: float32, in the shape that its row states."""
    return {
        row["search_id"]: np.frombuffer(row["memory"], dtype="<f4").reshape(row["memory_shape"]).copy()
        for row in best_memories(run)
    }


def best_memories(run: Run) -> list[dict[str, Any]]:
    """The rows of probes whose memories are the best of their searches, by model, source and search.

    Raises:
        BadInput: when this is a copy of a run that was pushed without memories.
    """
    refuse_without_texts(run)
    best = {probe_id for probe_id in run.searches()["probe_id"].to_pylist() if probe_id is not None}
    rows = run.probes((*MEMORY_COLUMNS, "search_id", "memory_shape")).to_pylist()
    held = [row for row in rows if row["probe_id"] in best and row["memory"] is not None]
    return sorted(held, key=lambda row: (row["model"], row["source"], row["search_id"]))


def write_all(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write files into a folder; raises BadInput when it cannot be written to."""
    try:
        files = LocalFiles(folder)
        for name, content in contents.items():
            files.write(name, content)
    except OSError as error:
        raise BadInput(f"{folder}: cannot be written to ({error.strerror}). Choose another --to.") from error


class Provers:
    """The models of a run, at most one of them loaded."""

    def __init__(
        self, run: Run, device: str, models: Iterable[str], settings: DecodeSettings = DEFAULT_DECODING
    ) -> None:
        """Raises BadInput unless all of `models` are those that the run measured."""
        check_models(run, models)
        self._run = run
        self._device = device
        self._settings = settings
        self._model: str | None = None
        self._prover: Prover | None = None

    def of(self, model: str) -> Prover:
        """The model that rows call `model`; the one that was loaded before is released."""
        if self._prover is None or model != self._model:
            question: Question = self._run.sweep.question()
            self._prover = None  # before the next one is loaded
            task = TASKS[self._run.sweep.task]
            self._prover = task.open_prover(self._run.model(model), question, self._device, self._settings)
            self._model = model
        return self._prover
