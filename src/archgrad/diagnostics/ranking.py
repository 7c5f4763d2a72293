"""Whether the supernet's weights rank architectures as their true results do, where those are known."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from archgrad.architecture import NASBENCH201_CANDIDATES, Architecture
from archgrad.architecture_warnings import is_connected
from archgrad.config import Config
from archgrad.diagnostics.kendall import kendall_tau
from archgrad.diagnostics.line import Reading
from archgrad.diagnostics.shared_weights import shared_accuracy
from archgrad.diagnostics.subject import Subject
from archgrad.errors import UserError
from archgrad.landscapes.nasbench201 import ARCHITECTURES, EDGES, NASBench201
from archgrad.randomness import Streams

TRUTH = "cifar10_test_200ep"
"""The column of the benchmark that counts as the truth."""


@dataclass(frozen=True)
class Ranking:
    """Kendall's τ-b between accuracy with shared weights and accuracy after training, over random cells.

    The cells are drawn uniformly, the same in every epoch and for every seed, from those of NAS-Bench-201
    whose output depends on their input. Shared weights: on validation batches, with BatchNorm statistics of
    their own (`shared_weights.shared_accuracy`). Trained: test accuracy on CIFAR-10 after 200 epochs.

    Fields: `kendall_tau`, left out where all are equal; `chosen`, the true accuracy (a fraction) of the cell
    that the shared weights like best, and `best`, of the truly best of these cells.

    Cost: `cells` times `calibration` + `batches` forward passes of one candidate an edge.
    """

    cells: int = 20
    batches: int = 2
    calibration: int = 2

    def __post_init__(self) -> None:
        if self.cells < 2:
            raise UserError(f"ranking: give cells=2 or more to rank, got {self.cells}")

    @staticmethod
    def unfit(config: Config, settings: dict[str, object]) -> str | None:
        """The truth is known for one space on one data set."""
        if config.space.name == "nasbench201" and config.data.name in ("cifar10", "given:cifar10"):
            return None
        return (
            "true accuracies are known for space.name=nasbench201 on data.name=cifar10 only, this is "
            f"{config.space.name!r} on {config.data.name!r}"
        )

    def __call__(self, subject: Subject) -> Reading:
        """The fields of this epoch.

        Raises:
            UserError: the choices are not those of the benchmark's cell.
        """
        network, groups = subject.network, subject.task.groups
        wanted = {f"cell/{edge}" for edge in EDGES}
        known = len(groups) == 1 and groups[0].candidates == NASBENCH201_CANDIDATES
        if network is None or not known or set(groups[0].names) != wanted:
            raise UserError("ranking: the choices are not those of the NAS-Bench-201 cell; leave it out")
        table, chosen = NASBench201.open(), self.drawn()
        truth = [table.value(TRUTH, architecture) / 100 for architecture in chosen]
        found = [
            shared_accuracy(subject, network.one_hot(a), self.batches, self.calibration)[1] for a in chosen
        ]
        tau = kendall_tau(found, truth)
        reading: Reading = {"chosen": truth[found.index(max(found))], "best": max(truth)}
        return reading if tau is None else {"kendall_tau": tau, **reading}

    def drawn(self) -> list[Architecture]:
        """The cells."""
        generator = Streams(0).generator("diagnostics/ranking")
        order = torch.randperm(ARCHITECTURES, generator=generator).tolist()
        every = (NASBench201.open().architecture(index) for index in order)
        found: list[Architecture] = []
        for architecture in every:
            if is_connected(architecture):
                found.append(architecture)
            if len(found) == self.cells:
                break
        return found
