"""A landscape of any size in closed form: a product of one small matrix a choice.

T[a] = C_1[:, a_1, :] · C_2[:, a_2, :] ⋯ C_E[:, a_E, :], the tensor train of Oseledets (2011, SIAM J. Sci.
Comput. 33), with cores C_e [r_{e−1}, K, r_e], r_0 = r_E = 1. Its multilinear extension costs
E small products: f(z) = Π_e (Σ_k z[e, k] C_e[:, k, :]). Read as an automaton, the row vector between
two choices is what has to be remembered of the choices so far (a sum, a count, the last candidate).
E choices × K candidates.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from archgrad.errors import UserError
from archgrad.landscapes.landscape import check_index, check_weights, plain_group


class TensorTrain:
    """A landscape from its cores; whoever makes them knows the optimum.

    Args:
        cores: E tensors [r_{e−1}, K, r_e], kept in float64; evaluated in the precision and on the device
            of the weights.
        optimum: candidate indices of the best architecture.
        worst: the greatest loss.

    Raises:
        UserError: the cores do not fit together, or no optimum of E candidate indices.
    """

    def __init__(self, cores: Sequence[Tensor], optimum: Sequence[int], worst: float) -> None:
        shapes = [tuple(core.shape) for core in cores]
        fits = (
            bool(shapes)
            and all(len(shape) == 3 for shape in shapes)
            and len({shape[1] for shape in shapes}) == 1
            and [1, *(shape[2] for shape in shapes)] == [*(shape[0] for shape in shapes), 1]
        )
        if not fits:
            raise UserError(
                f"wanted cores [r, K, r'] of one K, each r' the next core's r, the first r and the last r' "
                f"being 1; got shapes {shapes}"
            )
        self.cores = [core.detach().to("cpu", torch.float64) for core in cores]
        self.groups = (plain_group(len(cores), shapes[0][1]),)
        self.optimum = tuple(optimum)
        self.best = float(self.values(torch.tensor(self.optimum)))
        self.worst = worst
        self._copies: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}

    @property
    def truth(self) -> TensorTrain:
        """The landscape itself."""
        return self

    def value(self, z: Tensor) -> Tensor:
        """f(z): [..., E, K] -> [...]."""
        check_weights(z, self.groups[0])
        key = (z.dtype, z.device)
        if key not in self._copies:
            self._copies[key] = [core.to(z.device, z.dtype) for core in self.cores]
        state = z.new_ones(*z.shape[:-2], 1)
        for core, row in zip(self._copies[key], z.unbind(dim=-2), strict=True):
            state = _step(state, torch.einsum("...k,rkq->...rq", row, core))
        return state.squeeze(-1)

    def values(self, index: Tensor) -> Tensor:
        """Losses of architectures: [..., E] -> [...], float64."""
        check_index(index, self.groups[0])
        state = torch.ones(*index.shape[:-1], 1, dtype=torch.float64)
        for core, chosen in zip(self.cores, index.to("cpu", torch.int64).unbind(dim=-1), strict=True):
            state = _step(state, core.permute(1, 0, 2)[chosen])
        return state.squeeze(-1)


def _step(state: Tensor, matrix: Tensor) -> Tensor:
    """[..., r] · [..., r, q] -> [..., q]."""
    return (state.unsqueeze(-2) @ matrix).squeeze(-2)


def check_size(name: str, choices: int, candidates: int, least_choices: int = 1) -> None:
    """Raise `UserError` where a planted landscape of this size cannot be made."""
    if choices < least_choices or candidates < 2:
        raise UserError(
            f"a {name} landscape needs at least {least_choices} choice(s) and 2 candidates, got "
            f"choices={choices}, candidates={candidates}"
        )
