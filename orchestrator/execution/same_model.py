"""Whether a node has the model that a run was planned with: weights are read again wherever an engine opens."""

import platform

from tasks.contract import Task
from tasks.values import Model, TaskError


def refuse_other_model(task: Task, model: Model, wanted: str) -> None:
    """Compare the files of a model on this node with the fingerprint in the plan.

    Raises:
        TaskError: when they differ, or cannot be read.
    """
    if (found := task.facts(model).fingerprint) != wanted:
        raise TaskError(
            f"{model.name}: on {platform.node()} this is another model than where the run was planned "
            f"(fingerprint {found[:16]}, wanted {wanted[:16]}). Copy the same files to every node."
        )
