"""The contract of a sampler.

Shapes: logits α [..., E, K], E choices with K candidates each; leading dimensions are batches of
independent searches.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

from archgrad.choice import Sample
from archgrad.errors import UserError

Law = Literal["argmax", "tempered argmax", "mean", "gates", "perturbed"]
"""What a random sampler's `probabilities` say of a draw z at temperature τ (`law_of`).

"argmax": argmax z ~ probabilities(α) at every τ. "tempered argmax": argmax z ~ probabilities(α/τ).
"mean": E[z] = probabilities(α), and E[dz/dα] is its derivative; nothing is said of the argmax.
"gates": z_k and probabilities(α)_k are in [0, 1], one by one, and rows do not sum to 1; the gates of a draw
are independent with P(z_k > ½) = probabilities(α)_k at every τ. "perturbed": argmax z ~ probabilities(α)
where the logits of a row are equal; elsewhere it follows a mean of them over perturbed logits.
"""


class Sampler(Protocol):
    """Turns logits into weights on the simplex or, under the law "gates", into K numbers in [0, 1].

    Law: rows sum to 1 (but those of gates); a draw is a function of its arguments and the generator
    alone; the global random state is untouched; a sampler with `one_active` is exactly one-hot in the
    forward pass.
    `probabilities` tell how draws are distributed, in the sense of the class attribute `law`, a `Law`;
    a class without it has "argmax".

    Two more methods a sampler may have. ``log_prob(logits, tau, weights) -> [..., E]``, where it is known
    exactly (`archgrad.samplers.log_prob`): the log-probability of one-hot weights, the log-density of others.
    The class attribute ``log_prob_uses_temperature`` says whether it depends on τ.
    ``after_step(before, after) -> logits``: a correction of the logits after every optimizer step on them.
    With the class attribute ``needs_plain_steps = True`` it is right only where a step moves no logit whose
    gradient is zero: an optimizer without momentum (Adam with β₁ = 0) and without weight decay.

    A class attribute ``draws_from_softmax = True`` promises more than the law "argmax": every row of a draw
    is exactly one-hot, and drawn from softmax(α) at every τ, whatever the other rows are.
    """

    uses_temperature: ClassVar[bool]
    one_active: ClassVar[bool]

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        """Draw weights [..., E, K] at temperature tau > 0. The generator lives on the host."""

    def probabilities(self, logits: Tensor) -> Tensor:
        """The distribution over candidates [..., E, K] that the logits stand for."""


def law_of(sampler: Sampler) -> str:
    """The declared law of a sampler, "argmax" where it declares none. Not checked to be a `Law`."""
    return str(getattr(sampler, "law", "argmax"))


def draws_from_softmax(sampler: Sampler) -> bool:
    """Whether the sampler declares that its draws are one-hot and follow softmax(α) at every τ."""
    return bool(getattr(sampler, "draws_from_softmax", False))


def active_rows(index: Tensor) -> tuple[tuple[int, ...], ...]:
    """The chosen candidate of each choice, brought to the host in one transfer. index: [E]."""
    return tuple((k,) for k in index.tolist())


def open_or_nearest(opened: Tensor, score: Tensor) -> Tensor:
    """Which candidates run, bool [..., E, K]: those whose gate is open.

    A choice needs one active candidate, so where no gate is open it is that of the largest score: run
    with weight 0, its output is zero. opened, score: [..., E, K].
    """
    nearest = torch.zeros_like(opened).scatter(-1, score.argmax(dim=-1, keepdim=True), True)
    return torch.where(opened.any(dim=-1, keepdim=True), opened, nearest)


def rows_of(runs: Tensor) -> tuple[tuple[int, ...], ...]:
    """The candidates of each choice that run, brought to the host in one transfer. runs: bool [E, K]."""
    return tuple(tuple(k for k, here in enumerate(row) if here) for row in runs.tolist())


def check_call(logits: Tensor, tau: float) -> None:
    """Refuse what no sampler can draw from; for the caller, as samplers themselves do not look.

    One pass over the logits, and on a GPU one wait for it.

    Raises:
        UserError: τ is not a finite number above 0, there is no candidate, or a logit is not finite.
    """
    if not math.isfinite(tau) or tau <= 0:
        raise UserError(
            f"a sampler's temperature is a finite number above 0, got {tau!r}: "
            "see temperature.start and temperature.end"
        )
    shape = tuple(logits.shape)
    if not logits.is_floating_point() or not shape or shape[-1] == 0:
        raise UserError(
            f"a sampler's logits are floating-point numbers [..., E, K] with at least one candidate, got "
            f"{shape} of {logits.dtype}: give every choice a candidate"
        )
    if not bool(logits.isfinite().all()):
        wrong = int(logits.isfinite().logical_not().sum())
        raise UserError(
            f"a sampler's logits are finite, got {wrong} of {logits.numel()} that are NaN or infinite: "
            "lower architecture.learning_rate, or set architecture.clip"
        )
