"""The devices that the networks of NAS-Bench-201 were measured on, as latency tables.

Each of the benchmark's 15,625 networks (16 channels, 5 cells a stage, images of 3×32×32) was measured on 27
devices by the authors of HELP (Lee et al. 2021, arXiv 2106.08630). A table is the additive model of
least squared error over all of them whose numbers are not negative. Milliseconds; E = 6 edges × K = 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from archgrad.architecture import NASBENCH201_CANDIDATES
from archgrad.choice import Group
from archgrad.costs.cost_table import CostTable
from archgrad.errors import UserError
from archgrad.landscapes.nasbench201 import EDGES, NASBench201
from archgrad.latency.candidates import Target
from archgrad.latency.models import Quality
from archgrad.table import nearest

PREFIX = "nasbench201:"
_COLUMN = "latency_ms_"


@cache
def devices() -> tuple[str, ...]:
    """Names of the devices.

    >>> len(devices()), "pixel3" in devices()
    (27, True)
    """
    columns = NASBench201.open().columns
    return tuple(name.removeprefix(_COLUMN) for name in columns if name.startswith(_COLUMN))


class Published(NamedTuple):
    """A device's table and how well it fits.

    quality: of the table on all networks that it is fitted to. explained: R².
    """

    device: str
    table: CostTable
    quality: Quality
    explained: float


@cache
def published(device: str) -> Published:
    """The table of a device.

    Raises:
        UserError: there is no such device.
    """
    import torch

    if device not in devices():
        raise UserError(
            f"NAS-Bench-201 was not measured on {device!r}{nearest(device, devices())}\n"
            f"  devices: {', '.join(devices())}"
        )
    cube = NASBench201.open().cube(_COLUMN + device).astype(np.float64)
    fixed, rows = additive_fit(cube)
    group = Group(NASBENCH201_CANDIDATES, tuple(f"cell/{edge}" for edge in EDGES))
    fitted = np.full(cube.shape, fixed)
    for edge, row in enumerate(rows):
        fitted += row.reshape([-1 if axis == edge else 1 for axis in range(cube.ndim)])
    table = CostTable("latency", "ms", fixed, (group,), (torch.from_numpy(rows),))
    explained = 1 - float(((fitted - cube) ** 2).sum() / ((cube - cube.mean()) ** 2).sum())
    return Published(device, table, Quality.of(fitted.ravel(), cube.ravel()), explained)


def additive_fit(cube: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """(fixed, [E, K]) of least squared error over a full table [K] * E, no number negative.

    As all combinations are there, a candidate has the mean over those with it, less the mean over all; the
    least of each row is moved to the fixed part. Where that is negative the bounded problem is solved.
    """
    from scipy.optimize import nnls

    edges = range(cube.ndim)
    means = np.stack([cube.mean(axis=tuple(a for a in edges if a != edge)) for edge in edges])
    least = means.min(axis=1, keepdims=True)
    fixed = float(cube.mean() + (least - cube.mean()).sum())
    if fixed >= 0:
        return fixed, means - least
    chosen = np.eye(len(cube))[np.indices(cube.shape).reshape(cube.ndim, -1)]  # [E, N, K]
    features = np.concatenate([np.ones((cube.size, 1)), *chosen], axis=1)
    q, r = np.linalg.qr(features)  # the same least squares in E·K + 1 rows
    numbers = nnls(r, q.T @ cube.ravel())[0]
    return float(numbers[0]), numbers[1:].reshape(means.shape)


def published_table(
    name: str, groups: Sequence[Group] | None = None, target: Target | None = None
) -> CostTable:
    """The table called ``nasbench201:DEVICE``.

    Raises:
        UserError: no such device, or other choices or networks than the benchmark's.
    """
    found = published(name.removeprefix(PREFIX)).table
    wanted = tuple(group for group in groups or found.choices if group.chosen)
    if wanted != found.choices:
        raise UserError(f"{name} has the choices {found.choices}, wanted {wanted}")
    if target is not None:
        theirs = Target.of("nasbench201", (3, 32, 32), target.classes)  # the head hardly matters
        if target.document() != theirs.document():
            raise UserError(
                f"{name} is of the benchmark's networks, {_words(theirs)}; wanted {_words(target)}"
            )
    return found


def _words(target: Target) -> str:
    settings = {key: target.settings.get(key) for key in ("channels", "cells", "stages")}
    return f"{target.space} on {target.shape} with {settings}"
