"""How well the supernet's weights do in one architecture, or in a mixture of all.

B C H W: images; E choices × K candidates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from archgrad.choice import Sample
from archgrad.diagnostics.subject import Subject
from archgrad.objectives import NetworkObjective, NetworkTask
from archgrad.spaces.drop_path import set_drop_path


def shared_accuracy(
    subject: Subject, samples: Sequence[Sample], batches: int, calibration: int
) -> tuple[float, float]:
    """(loss, accuracy) on validation data at these samples, nothing trained.

    Of images: BatchNorm's running statistics, which in a search are of other mixtures, are computed anew from
    `calibration` training batches (the plain mean over them), and then used on `batches` validation batches,
    as in a trained network. No drop path, no penalty. Of a text or a landscape: all of it, by the task's own
    evaluation. The caller puts the statistics back (`untouched`).
    """
    task = subject.task
    if not isinstance(task, NetworkTask):
        return task.evaluate(lambda step: list(samples))
    loss, correct, images = 0.0, 0, 0
    set_drop_path(task.network, 0.0, subject.streams.generator("diagnostics/no drop path"))
    with torch.no_grad(), _modes(task.network):
        norms = [m for m in task.network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
        task.network.train()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean
        for step in range(min(calibration, task.train.steps)) if norms else ():
            NetworkObjective(task.network, *task.train.batch(0, step), None, task.precision)(samples)
        task.network.eval()
        for step in range(min(batches, task.valid.steps)):
            objective = NetworkObjective(task.network, *task.valid.batch(0, step), None, task.precision)
            outcome = objective(samples)
            loss += float(outcome.task_loss) * outcome.images
            correct += int(outcome.correct)
            images += outcome.images
    return loss / images, correct / images


@contextmanager
def _modes(network: nn.Module) -> Iterator[None]:
    """Put back which modules are in training, and the momenta of BatchNorm."""
    training = [(module, module.training) for module in network.modules()]
    momenta = [(m, m.momentum) for m in network.modules() if isinstance(m, _BatchNorm)]
    try:
        yield
    finally:
        for module, was in training:
            module.training = was
        for norm, momentum in momenta:
            norm.momentum = momentum
