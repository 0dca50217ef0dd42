"""The trackers, each with one run that it begins or continues.

Runs in a process of its own (worker.py): importing a library takes seconds, and none of them may touch the process that
runs a sweep. Knows nothing of searches. Each class imports its library when it begins.
"""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.tracking.tracker import PROGRESS, Tracker, flat, plain_name

MOST_METRICS, MOST_PARAMS, LONGEST_PARAM = 1000, 100, 6000
"""What MLflow takes in one request, and as one value."""


class Wandb:
    """Weights & Biases."""

    def begin(self, settings: Mapping[str, Any], *, run_id: str | None, name: str, folder: str, config: Any) -> str:
        """See `Tracker`."""
        import wandb

        is_local = "://" not in folder
        if is_local:
            Path(folder).mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=settings["project"],
            entity=settings["entity"],
            mode=settings["mode"],
            tags=settings["tags"],
            id=run_id,
            name=name,
            resume="allow",
            dir=folder if is_local else None,
            config=config,
            allow_val_change=True,
            # Nothing about this machine, its user or their repository: only what is passed here is sent.
            settings=wandb.Settings(
                console="off",
                silent=True,
                host="",
                disable_git=True,
                disable_code=True,
                save_code=False,
                x_disable_meta=True,
                x_disable_stats=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
            ),
        )
        # The library's own steps must rise from session to session; after a kill, they would not.
        self._run.define_metric(PROGRESS)
        self._run.define_metric("*", step_metric=PROGRESS)
        return self._run.id

    def url(self) -> str | None:
        """See `Tracker`; offline, the folder that `wandb sync` takes."""
        if not self._run.offline:
            return self._run.url
        folder, here = Path(self._run.dir).parent, Path.cwd()
        return str(folder.relative_to(here) if folder.is_relative_to(here) else folder)

    def log(self, progress: int, values: Mapping[str, float], labels: Mapping[str, Any]) -> None:
        """See `Tracker`."""
        self._run.log({PROGRESS: progress, **values, **{f"search/{name}": value for name, value in labels.items()}})

    def flush(self) -> None:
        """See `Tracker`: the library's own process has the points, and keeps them in a file."""

    def conclude(self, summary: Mapping[str, float], page: str, report: str | None) -> None:
        """See `Tracker`."""
        import wandb

        self._run.summary.update(dict(summary))
        if report is not None:
            artifact = wandb.Artifact(f"report-{self._run.id}", type="report")
            artifact.add_file(report, name="report.html")
            self._run.log_artifact(artifact)

    def end(self, *, complete: bool) -> None:
        """See `Tracker`."""
        self._run.finish(exit_code=0 if complete else 1)


class Mlflow:
    """MLflow, by its client: nothing of the library's global state is used."""

    def begin(self, settings: Mapping[str, Any], *, run_id: str | None, name: str, folder: str, config: Any) -> str:
        """See `Tracker`."""
        from mlflow.tracking import MlflowClient

        self._client = client = MlflowClient(tracking_uri=settings["uri"])
        if run_id is None:
            experiment = client.get_experiment_by_name(settings["experiment"])
            number = (
                client.create_experiment(settings["experiment"]) if experiment is None else experiment.experiment_id
            )
            run_id = client.create_run(number, run_name=name, tags={"mlflow.source.name": "capsweep"}).info.run_id
        else:
            client.update_run(run_id, status="RUNNING")
        self._run_id = run_id
        self._waiting: list[Any] = []
        # A parameter never changes there; the file has the configuration of the latest session.
        client.log_dict(run_id, config, "config.json")
        self._log_params(flat(config))
        return run_id

    def _log_params(self, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        known = self._client.get_run(self._run_id).data.params
        fresh = [Param(key, value[:LONGEST_PARAM]) for key, value in params.items() if key not in known]
        for first in range(0, len(fresh), MOST_PARAMS):
            self._client.log_batch(self._run_id, params=fresh[first : first + MOST_PARAMS])

    def url(self) -> str | None:
        """See `Tracker`."""
        server = self._client.tracking_uri
        experiment = self._client.get_run(self._run_id).info.experiment_id
        return f"{server}/#/experiments/{experiment}/runs/{self._run_id}" if server.startswith("http") else server

    def log(self, progress: int, values: Mapping[str, float], labels: Mapping[str, Any]) -> None:
        """See `Tracker`; a curve has numbers only, so the labels are left out."""
        self._take({PROGRESS: float(progress), **values}, progress)

    def _take(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self._waiting += [Metric(plain_name(name), value, now, step) for name, value in values.items()]

    def flush(self) -> None:
        """See `Tracker`."""
        while self._waiting:
            self._client.log_batch(self._run_id, metrics=self._waiting[:MOST_METRICS])
            del self._waiting[:MOST_METRICS]

    def conclude(self, summary: Mapping[str, float], page: str, report: str | None) -> None:
        """See `Tracker`."""
        self._take(summary, 0)
        self.flush()
        if report is not None:
            self._client.log_artifact(self._run_id, report)

    def end(self, *, complete: bool) -> None:
        """See `Tracker`."""
        self._client.set_terminated(self._run_id, status="FINISHED" if complete else "KILLED")


class Tensorboard:
    """Event files, by TensorBoard's own writer."""

    def begin(self, settings: Mapping[str, Any], *, run_id: str | None, name: str, folder: str, config: Any) -> str:
        """See `Tracker`; the id is the folder, to which each session adds a file. It moves with the run directory."""
        from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        # Their classes are made when they are imported, so that no type checker knows them.
        self._events: Any = event_pb2
        self._summaries: Any = summary_pb2
        self._tensors: Any = tensor_pb2
        own = settings["folder"]
        self._folder = f"{folder}/tensorboard" if own is None else f"{os.path.expanduser(own)}/{name}"
        self._writer = EventFileWriter(self._folder)
        lines = [f"| {key} | {value} |" for key, value in flat(config).items()]
        self._add_text("config", "\n".join(["| | |", "|---|---|", *lines]))
        self.flush()
        return self._folder

    def _add_text(self, name: str, text: str) -> None:
        metadata = self._summaries.SummaryMetadata
        about = metadata(plugin_data=metadata.PluginData(plugin_name="text"))
        tensor = self._tensors.TensorProto(dtype="DT_STRING", string_val=[text.encode()])
        self._add([self._summaries.Summary.Value(tag=name, metadata=about, tensor=tensor)], step=0)

    def _add(self, values: Sequence[Any], *, step: int) -> None:
        summary = self._summaries.Summary(value=values)
        self._writer.add_event(self._events.Event(wall_time=time.time(), step=step, summary=summary))

    def url(self) -> str | None:
        """See `Tracker`."""
        return self._folder

    def log(self, progress: int, values: Mapping[str, float], labels: Mapping[str, Any]) -> None:
        """See `Tracker`; a curve has numbers only, so the labels are left out."""
        value_of = self._summaries.Summary.Value
        self._add([value_of(tag=name, simple_value=value) for name, value in values.items()], step=progress)

    def flush(self) -> None:
        """See `Tracker`."""
        self._writer.flush()

    def conclude(self, summary: Mapping[str, float], page: str, report: str | None) -> None:
        """See `Tracker`; TensorBoard keeps no files, so the report is left out."""
        self._add_text("summary", page)

    def end(self, *, complete: bool) -> None:
        """See `Tracker`."""
        self._writer.close()


class Trackio:
    """Trackio, on this machine or in a Space."""

    def begin(self, settings: Mapping[str, Any], *, run_id: str | None, name: str, folder: str, config: Any) -> str:
        """See `Tracker`; the id is the run's name there."""
        import trackio

        self._run = trackio.init(
            project=settings["project"],
            space_id=settings["space"],
            name=run_id or name,
            resume="never" if run_id is None else "allow",
            config=config,
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        self._last = 0
        return self._run.name

    def url(self) -> str | None:
        """See `Tracker`."""
        return None

    def log(self, progress: int, values: Mapping[str, float], labels: Mapping[str, Any]) -> None:
        """See `Tracker`."""
        self._last = progress
        self._run.log({**values, **{f"search/{name}": value for name, value in labels.items()}}, step=progress)

    def flush(self) -> None:
        """See `Tracker`: the library's own thread writes the points within a second."""

    def conclude(self, summary: Mapping[str, float], page: str, report: str | None) -> None:
        """See `Tracker`."""
        self._run.log({f"summary/{name}": value for name, value in summary.items()}, step=self._last)
        if report is not None:
            self._run.log_artifact(report, name=f"report-{self._run.name}", type="report")

    def end(self, *, complete: bool) -> None:
        """See `Tracker`."""
        self._run.finish()


TRACKERS: Mapping[str, type[Tracker]] = {
    "wandb": Wandb,
    "mlflow": Mlflow,
    "tensorboard": Tensorboard,
    "trackio": Trackio,
}
