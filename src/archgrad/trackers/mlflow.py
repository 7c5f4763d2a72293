"""A run in MLflow; of its library the client alone, which keeps no global state.

mlflow-skinny is enough where MLFLOW_TRACKING_URI names a server; a database of one's own needs mlflow itself.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archgrad.errors import MissingExtra

_LONGEST = 500  # characters of a parameter that every MLflow takes
_MOST = 100  # parameters of one request


class MLflow:
    """One MLflow run, named after the run folder, in the experiment MLFLOW_EXPERIMENT_NAME or ``archgrad``.

    A search that goes on gets a new one with its epochs before in it, too; the tag ``archgrad.folder`` says
    what belongs together.
    """

    def __init__(self) -> None:
        try:
            from mlflow.tracking import MlflowClient
        except ImportError:
            raise MissingExtra("mlflow", "mlflow", "tracking by MLflow") from None
        self._make = MlflowClient
        self._client: Any = None
        self._run = ""

    def begin(self, folder: Path, config: Mapping[str, Any]) -> None:
        """Make the run, with the configuration as parameters."""
        from mlflow.entities import Param

        self._client = self._make()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "archgrad")
        experiment = self._client.get_experiment_by_name(name)
        number = self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        run = self._client.create_run(
            number, run_name=folder.resolve().name, tags={"archgrad.folder": str(folder.resolve())}
        )
        self._run = run.info.run_id
        settings = [Param(key, value[:_LONGEST]) for key, value in _flat(config).items()]
        for first in range(0, len(settings), _MOST):
            self._client.log_batch(self._run, params=settings[first : first + _MOST])

    def epoch(self, epoch: int, numbers: Mapping[str, float]) -> None:
        """A metric for each number, at the step of the epoch."""
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        metrics = [Metric(_allowed(name), value, now, epoch) for name, value in numbers.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def finish(self, done: bool) -> None:
        """End the run."""
        self._client.set_terminated(self._run, "FINISHED" if done else "KILLED")


def _allowed(name: str) -> str:
    """A name with the characters that MLflow takes."""
    return re.sub(r"[^\w./ -]", "_", name)


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[_allowed(f"{prefix}{key}")] = str(value)
    return found
