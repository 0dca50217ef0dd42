"""The `engines` of a sweep file.

Knows nothing of how engines are started.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, model_validator

from orchestrator.spec.fields import AutoCount, Entry, wanted


class EnginesEntry(Entry, frozen=True):
    """Devices, engines and batches of a run. They change results only in the last bits of batched arithmetic."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device that the models run on."""
    count: AutoCount = "auto"
    """Engines at a time; auto: one per GPU; without GPUs one per node, or one per core for small models."""
    gpus: Annotated[Annotated[float, Field(ge=0)] | Literal["auto"], wanted("a number of at least 0, or auto")] = "auto"
    """GPUs of one engine; fractions are allowed."""
    cpus: AutoCount = "auto"
    """CPU cores of one engine."""
    tokens_per_step: AutoCount = "auto"
    """A step takes on texts while the sum of their lengths, each counted as at least 24, is at most this; a batch never
    has more tokens."""
    batch_cost_tokens: AutoCount = "auto"
    """Fixed cost of a batch, in tokens of equal cost; auto measures it when an engine starts, and keeps it with every
    probe."""
    probes_per_trial: AutoCount = "auto"
    """Probes in one Tune trial; 1 makes each trial one optimization."""
    deterministic: bool = False
    """Compute with fixed shapes, so that no result depends on the other probes in the batch."""
    snapshot_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Seconds between snapshots of the probes in flight: the most work that a lost engine or driver costs."""

    @model_validator(mode="before")
    @classmethod
    def _drop_former(cls, value: Any, info: ValidationInfo) -> Any:
        """Ignore `stall_seconds`, which runs begun by earlier commits hold.

        In a user's file it is an unknown key. Only such a file is read with a context.
        """
        if isinstance(value, Mapping) and not info.context:
            return {key: held for key, held in value.items() if key != "stall_seconds"}
        return value
