"""Parameters of a network."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from archgrad.costs.counting import Cost, Count, DryRun, own_parameters


def count_parameters(part: Iterable[nn.Module], run: DryRun) -> Count:
    """The number of parameters that the modules of `part` own. Exact; a shared tensor counts once.

    Modules that evaluation never runs (the auxiliary head) are left out, as in published counts.
    """
    owned = {
        id(parameter): parameter.numel()
        for module in part
        if module not in run.training_only
        for parameter in own_parameters(module)
    }
    return Count(float(sum(owned.values())))


PARAMETERS = Cost("parameters", count_parameters)
