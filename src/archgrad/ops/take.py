"""Choice of an input: a candidate that hands on one of the inputs of its choice."""

from __future__ import annotations

from torch import Tensor, nn

from archgrad.errors import UserError


class Take(nn.Module):
    """The input number `index`, counted from 0.

    ``pick("source", {"image": lambda: Take(0), "edges": lambda: Take(1)})(image, edges)`` chooses an input.

    Raises:
        UserError: the choice is called with too few inputs.

    >>> import torch
    >>> Take(1)(torch.zeros(2), torch.ones(2))
    tensor([1., 1.])
    """

    def __init__(self, index: int):
        super().__init__()
        self.index = index

    def forward(self, *inputs: Tensor) -> Tensor:
        """Inputs of any shapes -> the one at `index`."""
        if not 0 <= self.index < len(inputs):
            raise UserError(
                f"Take({self.index}) wants input number {self.index}, counted from 0, and its choice was "
                f"called with {len(inputs)}: call what pick returns with all inputs to choose from"
            )
        return inputs[self.index]

    def extra_repr(self) -> str:
        """The index, for ``print(network)``."""
        return str(self.index)
