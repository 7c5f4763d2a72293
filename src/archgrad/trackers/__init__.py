"""Trackers: where the numbers of a search are shown besides its run folder, on request.

A tracker is called with every line of ``metrics.jsonl`` (`tracker.Tracker`). It never changes a search, and
one that fails is left out with a warning.
"""

from archgrad.table import Entry, Table

TRACKERS = Table(
    "tracker",
    {
        "tensorboard": Entry(
            "archgrad.trackers.tensorboard:TensorBoard",
            "event files in the run folder's tensorboard/, for tensorboard --logdir",
            "https://www.tensorflow.org/tensorboard",
        ),
        "mlflow": Entry(
            "archgrad.trackers.mlflow:MLflow",
            "a run in MLflow, where MLFLOW_TRACKING_URI says, with the configuration as parameters",
            "https://mlflow.org",
        ),
    },
)
"""``TRACKERS[name]()``, see `trackers.tracker`."""
