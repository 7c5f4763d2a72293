"""Choice of a depth: how many of a row of blocks are run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn

from archgrad.choice import Pick
from archgrad.errors import UserError


class Prefix(nn.Sequential):
    """The first blocks of a row. `outputs` holds what this pass has computed so far, the input first.

    All prefixes of a row share their blocks and `outputs`, so no block runs twice in a pass, and none that no
    active prefix needs.
    """

    def __init__(self, blocks: Sequence[nn.Module], outputs: list[Tensor]):
        super().__init__(*blocks)
        self.outputs = outputs

    def forward(self, x: Tensor) -> Tensor:
        """[B, …] -> what the last block of the prefix makes of it; x itself where there is none."""
        outputs = self.outputs or [x]  # outside a `Repeat` there is nothing to share
        for block in list(self)[len(outputs) - 1 :]:
            outputs.append(block(outputs[-1]))
        return outputs[len(self)]


class Repeat(nn.Module):
    """``x -> block(n-1)(… block(0)(x))``, n being chosen; see `repeat`."""

    def __init__(self, pick: Pick, name: str, block: Callable[[int], nn.Module], counts: Sequence[int]):
        super().__init__()
        outputs: list[Tensor] = []
        made: list[nn.Module] = []

        def prefix(count: int) -> nn.Module:
            made.extend(block(i) for i in range(len(made), count))
            return Prefix(made[:count], outputs)

        self.choice = pick(name, {str(count): partial(prefix, count) for count in counts})
        self.outputs = outputs

    def forward(self, x: Tensor) -> Tensor:
        """[B, …] -> the shape that the blocks make of it."""
        self.outputs[:] = [x]
        try:
            y: Tensor = self.choice(x)
        finally:
            self.outputs.clear()  # nothing outlives the pass
        return y


def repeat(pick: Pick, name: str, block: Callable[[int], nn.Module], counts: Sequence[int]) -> nn.Module:
    """Choose how many blocks stand in a row.

    The candidates are the numbers in `counts`; they share their blocks, so a longer row begins with the
    shorter one. A derived network has just the chosen number of blocks.

    Args:
        pick: the decision maker.
        name: of the choice.
        block: builds block number i, from 0. All that may come last must give the same shape; 0 blocks
            give the input.
        counts: the numbers to choose from.

    Raises:
        UserError: no count, one below 0, or one twice.

    >>> row = repeat(lambda name, options: options["2"](), "depth", lambda i: nn.Linear(3, 3), [1, 2, 4])
    >>> sum(p.numel() for p in row.parameters())
    24
    """
    if not counts or len(set(counts)) < len(counts) or min(counts) < 0:
        raise UserError(
            f"choice {name!r}: wanted different numbers of blocks, none below 0, got {list(counts)}; "
            "give them like [1, 2, 3]"
        )
    return Repeat(pick, name, block, counts)
