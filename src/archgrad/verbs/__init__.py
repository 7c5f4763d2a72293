"""The verbs as Python functions: search, derive, train, export and report a run; the laboratory.

Each but the last works on a run folder and on what the verbs before it left there, so each can be
called in another process, or from the command line.
"""

from archgrad.verbs.derive import derive_run
from archgrad.verbs.export import Exported, export_run
from archgrad.verbs.lab import lab_run
from archgrad.verbs.report import report_run
from archgrad.verbs.search import search_run
from archgrad.verbs.train import Trained, train_run

__all__ = [
    "Exported",
    "Trained",
    "derive_run",
    "export_run",
    "lab_run",
    "report_run",
    "search_run",
    "train_run",
]
