"""Writes the memories of a run as vLLM and llama.cpp read them, with a note on how to use them.

Knows nothing of how memories came to be.
"""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from orchestrator.analysis import servers
from orchestrator.analysis.memories import Provers, best_memories, write_all
from orchestrator.errors import BadInput
from orchestrator.runs.directory import Run
from orchestrator.store.passages import given_back

Server = Literal["vllm", "llama.cpp"]


def export_for(run: Run, folder: Path, server: Server, *, device: str = "auto") -> int:
    """Write the best memory of each search as a server reads it, a manifest of them, and a README.

    Returns:
        How many memories were written.

    Raises:
        BadInput: when no memory decodes by itself, a model is not the one that the run measured, or `folder` cannot be
            written to.
        TaskError: when servers do not decode such memories, or read embeddings of this model in another way.
    """
    rows = [row for row in best_memories(run) if row["exact_prefix"]]
    if not rows:
        raise BadInput(f"{run.files.url}: no memory gives back even its first token by itself, so none can be served.")
    provers = Provers(run, device, [row["model"] for row in rows])
    prompts = [
        provers.of(row["model"]).prompt(
            row["memory"],
            num_vectors=row["num_vectors"],
            context=run.sample(row["model"], row["sample_id"])["context"] or (),
        )
        for row in rows
    ]
    entries = [_entry(run, row) for row in rows]
    write_all(folder, served_files(server, entries, prompts, origin=run.files.url))
    return len(rows)


def served_files(
    server: Server, entries: Sequence[Mapping[str, Any]], prompts: Sequence[bytes], *, origin: str
) -> dict[str, bytes]:
    """The files of an export, by name.

    Args:
        server: Who will read them.
        entries: What the manifest says of each memory: `search_id`, `model`, `tokens` and what else is known.
        prompts: The vectors of each memory; see `Prover.prompt`.
        origin: Where the memories come from.
    """
    contents: dict[str, bytes] = {}
    manifest: list[dict[str, Any]] = []
    for entry, prompt in zip(entries, prompts, strict=True):
        vectors_TD = np.frombuffer(prompt, dtype="<f4").reshape(-1, entry["width"])
        written = _for_vllm(entry, vectors_TD) if server == "vllm" else {f"{entry['search_id']}.f32": prompt}
        contents |= written
        manifest.append({**entry, "file": next(iter(written)), "shape": list(vectors_TD.shape)})
    about = {"run": origin, "server": server, "dtype": "float32", "memories": manifest}
    contents["manifest.json"] = json.dumps(about, indent=1, ensure_ascii=False).encode()
    return {**contents, "README.md": resources.files(servers).joinpath(f"{server}.md").read_bytes()}


def _entry(run: Run, row: Mapping[str, Any]) -> dict[str, Any]:
    """What the manifest says of one memory."""
    sample, length = run.sample(row["model"], row["sample_id"]), row["exact_prefix"]
    return {
        **{name: row[name] for name in ("search_id", "model", "source", "margin")},
        "width": row["memory_shape"][-1],
        "tokens": sample["tokens"][:length],
        "text": given_back(sample["text"], sample["token_ends"], sample["num_texts"] or 1, num_tokens=length),
    }


def _for_vllm(entry: Mapping[str, Any], vectors_TD: NDArray[np.float32]) -> dict[str, bytes]:
    """The tensor of a memory, and a request that holds it."""
    saved = io.BytesIO()
    torch.save(torch.from_numpy(vectors_TD.copy()), saved)
    request = {
        "model": entry["model"],
        "prompt_embeds": base64.b64encode(saved.getvalue()).decode(),
        "max_tokens": len(entry["tokens"]),
        "temperature": 0,
    }
    name = entry["search_id"]
    return {f"{name}.pt": saved.getvalue(), f"{name}.json": json.dumps(request).encode()}
