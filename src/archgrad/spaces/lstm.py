"""An LSTM as the recurrent core: the control that no search was needed for.

T words a window, B texts, H units.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from archgrad.spaces.language_model import Masks, times


class LstmCore(nn.Module):
    """`nn.LSTM` of one layer; its state [B, 2H] is output and cell side by side.

    `Masks.hidden` is applied to the output of the window before only: PyTorch's LSTM runs a window in one
    call. `Masks.weight` drops entries of its hidden-to-hidden matrix in every step (Merity et al. 2017,
    arXiv 1708.02182).
    """

    def __init__(self, hidden: int):
        super().__init__()
        self.lstm = nn.LSTM(hidden, hidden)
        self.hidden, self.state_size, self.recurrent_shape = hidden, 2 * hidden, (4 * hidden, hidden)

    def forward(self, x: Tensor, state: Tensor, masks: Masks) -> tuple[Tensor, Tensor]:
        """[T, B, H] and [B, 2H] -> outputs [T, B, H] and the state after the last word."""
        h, c = (part.contiguous() for part in state.unsqueeze(0).chunk(2, dim=2))
        arguments = times(x, masks.x), (times(h, masks.hidden), c)
        if masks.weight is None:
            outputs, (h, c) = self.lstm(*arguments)
        else:
            dropped = {"weight_hh_l0": self.lstm.get_parameter("weight_hh_l0") * masks.weight}
            outputs, (h, c) = torch.func.functional_call(self.lstm, dropped, arguments)
        return outputs, torch.cat([h[0], c[0]], dim=1)

    def macs(self) -> int:
        """Multiply-adds a word."""
        return 8 * self.hidden**2


def lstm_size(vocabulary: int, parameters: int) -> int:
    """H of the LSTM language model, decoder tied, whose parameters come nearest to `parameters`.

    >>> hidden = lstm_size(10_000, 22_960_000)
    >>> hidden, 8 * hidden**2 + 8 * hidden + 10_000 * hidden + 10_000
    (1180, 22958640)
    """
    linear = vocabulary + 8
    hidden = (math.sqrt(linear**2 + 32 * max(parameters - vocabulary, 0)) - linear) / 16
    return max(1, round(hidden))
