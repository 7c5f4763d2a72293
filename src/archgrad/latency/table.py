"""Reading a latency table: what it is of is checked, and it becomes a `CostTable`."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from archgrad.architecture import Architecture
from archgrad.choice import Group
from archgrad.costs.cost_table import CostTable
from archgrad.costs.nested import Nested
from archgrad.errors import UserError
from archgrad.latency import models
from archgrad.latency.candidates import Target
from archgrad.latency.device_script import FORMAT, VERSION, processor

_PARTS = (
    *("space", "device", "backend", "clock", "batch", "precision", "groups", "fixed", "uncounted"),
    *("plan", "rounds", "reference", "entries", "call", "whole"),
)
_READ = (1, VERSION)
_NUMBERS = ("median", "lower_quartile", "upper_quartile", "mad")


class LatencyTable:
    """A table file, read and checked. Milliseconds for a batch.

    document: its content. pieces: choices and the sum of the pieces. measured: networks measured whole.
    """

    def __init__(self, document: Mapping[str, Any], source: str) -> None:
        _check(document, source)
        self.document, self.source = document, source
        self.pieces = models.pieces_of(document)
        whole = document["whole"]["networks"] if document["whole"] else []
        self.architectures = [Architecture(one["architecture"]) for one in whole]
        self.measured = [float(one["median"]) for one in whole]

    @classmethod
    def read(cls, path: Path | str) -> LatencyTable:
        """Read a file.

        Raises:
            UserError: no such file, another format or version, damaged, a candidate without entry, or an
                entry that is negative or no number.
        """
        try:
            document = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(
                f"no latency table {path}: measure one with  archgrad latency --space NAME --out {path}"
            ) from None
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read the latency table {path}: {error}") from None
        return cls(document, str(path))

    def check_target(self, target: Target) -> None:
        """Refuse a table of other networks than those of `target`.

        Raises:
            UserError: names both values.
        """
        wanted, found = target.document(), self.document["space"]
        problems = []
        for key in ("name", "shape", "classes"):
            if found[key] != wanted[key]:
                problems.append(f"{key}: the table has {found[key]}, wanted {wanted[key]}")
        for key in dict.fromkeys([*wanted["settings"], *found["settings"]]):
            before, now = found["settings"].get(key), wanted["settings"].get(key)
            if before != now and found["name"] == wanted["name"]:
                problems.append(f"{key}: the table has {before}, wanted {now}")
        self._refuse(problems, "networks", "measure one for these: archgrad latency")

    def check_groups(self, groups: Sequence[Group]) -> None:
        """Refuse a table of other choices; blends are left aside.

        Raises:
            UserError: names both.
        """
        wanted = [group for group in groups if group.chosen]
        if list(self.pieces.groups) != wanted:
            self._refuse([f"the table has {self.pieces.groups}, wanted {tuple(wanted)}"], "choices", "")

    def check_device(self) -> None:
        """Refuse a table of another machine, or of other versions of the library that ran the networks.

        Raises:
            UserError: names both values.
        """
        device, problems = self.document["device"], []
        cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else None
        if device["processor"] != processor():
            problems.append(f"processor: the table has {device['processor']}, this machine {processor()}")
        if device["accelerator"] not in (None, cuda):
            problems.append(f"accelerator: the table has {device['accelerator']}, this machine {cuda}")
        name = self.document["backend"]["name"]
        before, now = self.document["backend"]["versions"][name], _version(name)
        if before != now:
            problems.append(f"{name}: the table has {before}, this machine {now}")
        self._refuse(problems, "device", "measure here, or allow it: allow_other_device=True")

    def _refuse(self, problems: Sequence[str], what: str, advice: str) -> None:
        if problems:
            ending = f"\n  {advice}" if advice else ""
            raise UserError(
                f"the latency table {self.source} is of another {what}:"
                + "".join(f"\n  - {problem}" for problem in problems)
                + ending
            )

    @functools.cached_property
    def qualities(self) -> dict[str, models.Quality]:
        """Every model for which enough networks were measured whole, on networks it was not fitted to."""
        return models.compare(self.pieces, self.architectures, self.measured) if self.measured else {}

    def model_name(self) -> str:
        """The additive model that the table stands for: that of the least error; ridge only if asked for."""
        asked = self.document.get("predictor")
        names = ("sum", "scaled", "boundary", *(["ridge"] if asked == "ridge" else []))
        if not self.measured:
            return "sum"
        return models.choose(models.compare(self.pieces, self.architectures, self.measured, names), names)

    def check_quality(self) -> None:
        """Refuse a table that was compared with whole networks and does not predict what they take.

        Raises:
            UserError: the median error of its best additive model, and what to do.
        """
        if not self.measured:
            return
        name = self.model_name()
        (quality,) = models.compare(self.pieces, self.architectures, self.measured, [name]).values()
        if quality.error > models.POOR_ERROR:
            raise UserError(
                f"the latency table {self.source} is no prediction, so no limit can be kept by it: its model "
                f"{name!r} has a median error of {quality.error:.1%} on the {len(self.measured)} networks "
                f"that were measured whole, and {models.POOR_ERROR:.0%} are allowed. Measure again on a "
                "quieter machine, or one thread with --clock processor, or add --validate 50 --predictor "
                "ridge"
            )

    def additive(self, model: str | None = None) -> models.Additive:
        """Fixed part and one [E, K] a group, in milliseconds.

        Raises:
            UserError: the model is unknown or not additive, or too few networks were measured for it.
        """
        name = model or self.model_name()
        models.check(name, self.pieces, len(self.measured))
        if name not in models.FITS:
            raise UserError(
                f"the model {name!r} is no sum over choices, so it makes no table; take "
                f"{', '.join(models.FITS)}, and it for the check at the end"
            )
        chosen = models.one_hot(self.pieces, self.architectures)
        return models.FITS[name](self.pieces, chosen, np.asarray(self.measured))

    def predict(self, architectures: Sequence[Architecture], model: str | None = None) -> list[float]:
        """Milliseconds of networks, by the model given, else by the table's predictor, else by its model.

        Raises:
            UserError: an architecture of another space, or too few networks measured for the model.
        """
        name = model or self.document.get("predictor") or self.model_name()
        models.check(name, self.pieces, len(self.measured))
        chosen = models.one_hot(self.pieces, self.architectures)
        fitted = models.fit(name, self.pieces, chosen, np.asarray(self.measured))
        return [float(ms) for ms in fitted(models.one_hot(self.pieces, architectures))]

    def cost_table(self, model: str | None = None) -> CostTable:
        """The table as a cost with unit ms."""
        found = self.additive(model)
        return CostTable(
            name="latency",
            unit="ms",
            fixed=found.fixed,
            choices=self.pieces.groups,
            groups=tuple(torch.from_numpy(np.array(n, dtype=np.float64)) for n in found.numbers),
            uncounted=tuple(self.document["uncounted"]),
            nested=tuple(
                Nested(names, torch.from_numpy(np.array(joint.numbers, dtype=np.float64)))
                for names, joint in zip(self.pieces.joint_names(), found.joint, strict=True)
            ),
        )


def load_table(
    path: Path | str,
    groups: Sequence[Group] | None = None,
    *,
    target: Target | None = None,
    model: str | None = None,
    allow_other_device: bool = False,
) -> CostTable:
    """A latency table as a `CostTable`, in milliseconds for a batch.

    Args:
        path: a file of ``archgrad latency``, or ``"nasbench201:pixel3"``: a device that the networks of
            NAS-Bench-201 were measured on (`published.devices`), for these networks alone.
        groups: the choices that the table must have, as `Supernet.groups`.
        target: the networks that it must be of.
        model: "sum", "scaled", "boundary" or "ridge" (see `models`); by default the best that the networks
            measured whole allow, the sum where none were. One that is named is taken however good it is.
        allow_other_device: whether a table of another machine, or of other versions, will do.

    Raises:
        UserError: no such table, or it does not fit, and both values are named; or whole networks were
            measured and its predictions of them are poor.
    """
    from archgrad.latency.published import PREFIX, published_table

    if str(path).startswith(PREFIX):
        if model is not None:
            raise UserError(f"{path} is one table, fitted to all networks: leave out model={model!r}")
        return published_table(str(path), groups, target)
    table = LatencyTable.read(path)
    if target is not None:
        table.check_target(target)
    if groups is not None:
        table.check_groups(groups)
    if not allow_other_device:
        table.check_device()
    if model is None:
        table.check_quality()
    return table.cost_table(model)


def _version(package: str) -> str | None:
    if package == "torch":
        return torch.__version__
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _check(document: Any, source: str) -> None:
    """Refuse what is no table, or a damaged one."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        found = document.get("format") if isinstance(document, dict) else type(document).__name__
        raise UserError(f"{source} is no latency table: its format is {found!r}, wanted {FORMAT!r}")
    if document.get("version") not in _READ:
        raise UserError(
            f"the latency table {source} has version {document.get('version')}, this archgrad reads up to "
            f"{VERSION}: measure it anew"
        )
    try:
        _check_entries(document, source)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        shown = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"the latency table {source} is damaged: {shown}") from None


def _check_entries(document: Mapping[str, Any], source: str) -> None:
    if lost := [part for part in _PARTS if part not in document]:
        raise ValueError(f"it lacks {', '.join(lost)}")
    entries = document["entries"]
    missing: list[str] = []
    for group in document["groups"]:
        names, candidates = group["names"], group["candidates"]
        if len(group["entries"]) != len(names) or any(len(r) != len(candidates) for r in group["entries"]):
            raise ValueError(f"its rows are not {len(names)} choices of {len(candidates)} candidates")
        for name, row in zip(names, group["entries"], strict=True):
            for candidate, cell in zip(candidates, row, strict=True):
                if any(key not in entries for key in cell):
                    missing.append(f"{candidate} of choice {name}")
    for joint in document.get("nested", ()):
        missing += [
            " with ".join(cell["at"])
            for cell in joint["cells"]
            if any(k not in entries for k in cell["pieces"])
        ]
    missing += [key for key in document["fixed"] if key not in entries]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise UserError(
            f"the latency table {source} has no entry for {', '.join(missing[:3])}{more}: measure it anew"
        )
    whole = {f"network {i}": one for i, one in enumerate((document["whole"] or {}).get("networks", []))}
    call = {"call": document["call"]} if document["call"] else {}
    for key, entry in {**entries, **whole, **call}.items():
        for number in _NUMBERS:
            value = entry[number]
            if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
                raise UserError(
                    f"the latency table {source} says that {key} takes {value} ms ({number}): wanted a "
                    "number that is not negative; measure it anew"
                )
