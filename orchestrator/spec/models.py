"""The entries of a sweep's `models`.

Knows nothing of files, or of how a model is loaded.
"""

from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer, PlainValidator, ValidationInfo
from pydantic_core import PydanticCustomError

from orchestrator.spec.fields import Entry, problem, problem_at
from tasks.texts import Commit
from tasks.values import Model


class ModelEntry(Entry, frozen=True):
    """One entry of `models` that gives more than a name."""

    name: Annotated[str, Field(min_length=1)]
    """Hub id or local folder; or a GGUF file, local or `owner/name/file.gguf` on the hub."""
    gguf_file: Annotated[str, Field(min_length=1)] | None = None
    """A GGUF file in that repository or folder, as transformers calls it; the same as a name that ends in it."""
    revision: str | None = None
    """Branch, tag or commit of a hub model; null takes the default branch."""
    commit: Commit | None = None
    """Commit of a hub model; null: what `revision` names when a run begins. The run's sweep keeps it, and every later
    session reads that commit, even if the branch has moved."""
    code_commit: Commit | None = None
    """The same for the repository that the model's code comes from, if that is another one."""
    revisions: tuple[str, ...] | None = None
    """Several revisions, such as checkpoints of one training; each is measured as a model of its own."""
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    """Precision of weights and activations; auto: bfloat16 if the machine that plans the run multiplies matrices in it,
    else float32, decided when a run begins and kept in the run's sweep."""
    quantization: Literal["int8", "nf4"] | None = None
    """Quantize the weights with bitsandbytes when they are loaded; null loads them as they are."""
    trust_remote_code: bool = False
    """Whether code that comes with the model may run."""
    allow_pickle: bool = False
    """Whether pickled weights are read if there are no safetensors."""
    radius: Annotated[float, Field(ge=0)] | None = None
    """Radius of the model's memories under optimizer: sphere, in norms of a cold memory; 0 asks for optimizer: adamw;
    null: measured on the model by forward passes when a run begins (task: one_step takes a tenth of that), and kept in
    the run's sweep."""


def each_revision(value: Any) -> Any:
    """Replace an entry with `revisions` by one entry for each `revision`."""
    if not isinstance(value, list):
        return value
    entries: list[Any] = []
    for i, entry in enumerate(value):
        revisions = entry.get("revisions") if isinstance(entry, dict) else None
        if revisions is None:
            entries.append(entry)
            continue
        if entry.get("revision") is not None:
            raise problem(f"entry {i} has both revision and revisions; remove one.")
        if not isinstance(revisions, list) or not revisions or not all(isinstance(name, str) for name in revisions):
            raise problem(f"entry {i}: revisions should be a list of texts, such as [step1000, step10000].")
        entries += [{**entry, "revisions": None, "revision": revision} for revision in revisions]
    return tuple(entries)


def _read_model(value: Any, info: ValidationInfo) -> Model:
    """The model of an entry, which is a name or a mapping."""
    if isinstance(value, Model):
        return value
    if not isinstance(value, str | dict):
        raise PydanticCustomError("wanted", "{wanted}", {"wanted": "the name of a model, or a mapping with its name"})
    entry = ModelEntry.model_validate({"name": value} if isinstance(value, str) else value)
    name = entry.name if entry.gguf_file is None else f"{entry.name.rstrip('/')}/{entry.gguf_file}"
    try:
        name = info.context["find_model"](name) if info.context else name
    except PydanticCustomError as error:
        raise problem_at("name", error, name) from None
    return Model(**{**entry.model_dump(exclude={"gguf_file", "revisions"}), "name": name})


ModelOfSweep = Annotated[
    Model, PlainValidator(_read_model, json_schema_input_type=str | ModelEntry), PlainSerializer(asdict)
]
"""One entry of `models`; in a schema it is a name or a mapping."""
