"""Everything that has a name, by family; for ``archgrad list``. PyTorch is not imported."""

from __future__ import annotations

from collections.abc import Mapping

from archgrad.alarms import ALARMS
from archgrad.controllers import CONTROLLERS
from archgrad.costs import COSTS
from archgrad.datasets import DATASETS
from archgrad.diagnostics import DIAGNOSTICS
from archgrad.genotypes import published
from archgrad.hypergradients import HYPERGRADIENTS
from archgrad.landscapes import LANDSCAPES, NOISES
from archgrad.methods import METHODS
from archgrad.ops import OPS
from archgrad.penalties import PENALTIES
from archgrad.rules import RULES
from archgrad.samplers import SAMPLERS
from archgrad.spaces import SPACES
from archgrad.stopping import ACTIONS, STOPPING_RULES
from archgrad.table import Entry
from archgrad.trackers import TRACKERS

FAMILIES: dict[str, Mapping[str, Entry]] = {
    "methods": {name: Entry("", m.sentence, m.source) for name, m in METHODS.items()},
    "spaces": SPACES.entries,
    "samplers": SAMPLERS.entries,
    "controllers": CONTROLLERS.entries,
    "hypergradients": HYPERGRADIENTS.entries,
    "landscapes": LANDSCAPES.entries,
    "noises": NOISES.entries,
    "costs": COSTS.entries,
    "forms": PENALTIES.entries,
    "rules": RULES.entries,
    "diagnostics": DIAGNOSTICS.entries,
    "stopping": STOPPING_RULES.entries,
    "actions": ACTIONS.entries,
    "alarms": ALARMS.entries,
    "trackers": TRACKERS.entries,
    "data": DATASETS.entries,
    "operations": OPS.entries,
    "genotypes": {name: Entry("", cell.sentence, cell.source) for name, cell in published().items()},
}
"""Family -> name -> entry."""
