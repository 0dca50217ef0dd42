"""The `tracking` of a sweep file: the trackers that a run is mirrored to.

Knows nothing of the trackers' libraries; orchestrator/tracking/ calls them.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from orchestrator.spec.fields import Entry, list_to_tuple, without_credentials

DISTRIBUTIONS = {
    "wandb": "wandb",
    "mlflow": "mlflow-skinny",
    "tensorboard": "tensorboard",
    "trackio": "trackio",
}
"""Tracker, which is also the name of its module -> the distribution that has it."""
Words = Annotated[str, Field(min_length=1)]


class WandbEntry(Entry, frozen=True):
    """Weights & Biases. Its key comes from WANDB_API_KEY or `wandb login`."""

    project: Words = "capsweep"
    """Project of the run."""
    entity: Words | None = None
    """User or team; null: the one that the key belongs to."""
    mode: Literal["online", "offline"] | None = None
    """offline writes files for `wandb sync`, and sends nothing; null: what WANDB_MODE says, else online."""
    tags: Annotated[tuple[Words, ...], BeforeValidator(list_to_tuple)] = ()
    """Tags of the run."""


class MlflowEntry(Entry, frozen=True):
    """MLflow. A password or token comes from its environment variables, such as MLFLOW_TRACKING_TOKEN."""

    uri: Annotated[Words, AfterValidator(without_credentials)] | None = None
    """Server or database, such as http://127.0.0.1:5000 or sqlite:///mlflow.db; null: what MLFLOW_TRACKING_URI says,
    else the default of MLflow."""
    experiment: Words = "capsweep"
    """Experiment of the run; it is made if there is none."""


class TensorboardEntry(Entry, frozen=True):
    """Event files for TensorBoard."""

    folder: Annotated[Words, AfterValidator(without_credentials)] | None = None
    """Folder in which each run gets one of its own; null: tracking/tensorboard in the run directory."""


class TrackioEntry(Entry, frozen=True):
    """Trackio. It keeps runs on this machine, where TRACKIO_DIR says, unless they go to a Space."""

    project: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)] = "capsweep"
    """Project of the run."""
    space: Words | None = None
    """Hugging Face Space, such as me/runs; null: this machine."""


class TrackingEntry(Entry, frozen=True):
    """Trackers that a run is mirrored to, as one run there with a point for each finished search.

    They decide no result, and may change from session to session.
    """

    wandb: WandbEntry | None = None
    """Weights & Biases; {} for its defaults."""
    mlflow: MlflowEntry | None = None
    """MLflow; {} for its defaults."""
    tensorboard: TensorboardEntry | None = None
    """TensorBoard; {} for its defaults."""
    trackio: TrackioEntry | None = None
    """Trackio; {} for its defaults."""


def wanted_trackers(tracking: TrackingEntry) -> dict[str, dict[str, Any]]:
    """Tracker -> its fields, for the trackers that a sweep names."""
    return {name: fields for name, fields in tracking.model_dump(mode="json").items() if fields is not None}
