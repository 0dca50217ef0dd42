"""What a run computes with.

Knows nothing of how engines are started.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, model_validator

from orchestrator.spec.fields import AutoCount, Entry, wanted


class EnginesEntry(Entry, frozen=True):
    """What computes, and with what; changes no result but for the last bits of batched arithmetic."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the models compute."""
    count: AutoCount = "auto"
    """Engines at a time; auto: one a GPU, without GPUs one a node, or one a core for small models."""
    gpus: Annotated[Annotated[float, Field(ge=0)] | Literal["auto"], wanted("a number of at least 0, or auto")] = "auto"
    """GPUs of one engine; a part of one is allowed."""
    cpus: AutoCount = "auto"
    """CPU cores of one engine."""
    tokens_per_step: AutoCount = "auto"
    """Texts are let into a step while their lengths, taken as 24 at least, sum to no more than this; a batch never has
    more tokens."""
    batch_cost_tokens: AutoCount = "auto"
    """What a batch costs beside its tokens, in tokens; auto measures it when an engine begins, and keeps it with every
    probe."""
    probes_per_trial: AutoCount = "auto"
    """Probes in one Tune trial; 1: each trial is one optimization."""
    deterministic: bool = False
    """Fixed shapes, so that no result depends on its neighbours in the batch."""
    snapshot_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Probes in flight are saved so often: what a lost engine or driver may cost of them."""

    @model_validator(mode="before")
    @classmethod
    def _drop_former(cls, value: Any, info: ValidationInfo) -> Any:
        """Runs that earlier commits began hold `stall_seconds`; in a user's file, read with places, it is unknown."""
        if isinstance(value, Mapping) and not info.context:
            return {key: held for key, held in value.items() if key != "stall_seconds"}
        return value
