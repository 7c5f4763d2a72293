"""The recurrent space of DARTS: a cell of nodes, each a gated step away from one of the states before.

Liu et al. 2019 (arXiv 1806.09055), section 2.1 and appendix A.2; details as in the authors' code.
T words a window, B texts, H units, K candidates. Node 0 is the state that input and previous output make.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from archgrad.choice import Choice, Pick
from archgrad.errors import UserError
from archgrad.spaces.language_model import INITIAL_RANGE, Dropouts, LanguageModel, Masks, times
from archgrad.spaces.space import Space, check_counts, check_different

RNN_CANDIDATES = ("none", "tanh", "relu", "sigmoid", "identity")

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "identity": lambda h: h,
}


class Activation(nn.Module):
    """A candidate of an edge, as a unit vector: what the choice mixes is then the weights themselves.

    The matrix product belongs to the node and not to the candidate, so it is done for all edges out of a
    state at once, in `RecurrentCell`, and that needs every edge's weights. `ran` notes that it was called.
    """

    def __init__(self, index: int):
        super().__init__()
        self.index, self.ran = index, False

    def forward(self, units: Tensor) -> Tensor:
        """The unit matrix [K+1, K+1] -> its row of this candidate [K+1]."""
        self.ran = True
        return units[self.index]


class Edge(nn.Module):
    """The choice between a node and a state before it."""

    def __init__(self, pick: Pick, name: str, candidates: Sequence[str]):
        super().__init__()
        self.choice = pick(name, {c: partial(Activation, k) for k, c in enumerate(candidates)})

    def weights(self, units: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """(z [K+1], the candidates that run); the last of z is what candidates that do not run add."""
        if isinstance(self.choice, Activation):  # the only one
            return units[self.choice.index], (self.choice.index,)
        candidates = [module for module in self.choice.modules() if isinstance(module, Activation)]
        for candidate in candidates:
            candidate.ran = False
        z: Tensor = self.choice(units)
        return z, tuple(candidate.index for candidate in candidates if candidate.ran)


class Fan(NamedTuple):
    """The edges out of one state that are alive.

    nodes: where they lead. matrix: their nodes' matrices side by side, [H, n·2H].
    runs: (candidates, first, last + 1): edges next to one another that run the same candidates.
    z: candidate -> [n, 1] weight, and `total` [n, 1] their sum; None where every weight is 1.
    """

    nodes: tuple[int, ...]
    matrix: Tensor
    runs: tuple[tuple[tuple[str, ...], int, int], ...]
    z: dict[str, Tensor] | None
    total: Tensor | None


class RecurrentCell(nn.Module):
    """s_i = Σ_j Σ_k z_jik · (s_j + σ(c)·(f_k(h) − s_j)) with [c, h] = s_j·W_i; output: mean of s_1, s_2, …

    s_0 = s + σ(c)·(tanh(h) − s) with [c, h] = [x, s]·W_0, s being the output before. The edges j→i of a
    node i share W_i [H, 2H]; they are choices ``recurrent/i<-j``. In search every state is normalised over
    the batch, by one BatchNorm without scale and shift.
    """

    def __init__(
        self,
        pick: Pick,
        hidden: int,
        nodes: int,
        candidates: Sequence[str],
        norm: bool,
        concat: Sequence[int] | None = None,
    ):
        super().__init__()
        self.hidden, self.nodes, self.candidates = hidden, nodes, tuple(candidates)
        self.concat = tuple(range(1, nodes + 1) if concat is None else concat)
        self.state_size, self.recurrent_shape = hidden, (hidden, 2 * hidden)
        self.first = nn.Parameter(torch.empty(2 * hidden, 2 * hidden))  # of x and h
        self.matrices = nn.ParameterList(torch.empty(hidden, 2 * hidden) for _ in range(nodes))
        for parameter in (self.first, *self.matrices):
            nn.init.uniform_(parameter, -INITIAL_RANGE, INITIAL_RANGE)
        self.norm = nn.BatchNorm1d(hidden, affine=False) if norm else None
        self.edges = nn.ModuleDict(
            {
                f"{node}<-{source}": Edge(pick, f"recurrent/{node}<-{source}", candidates)
                for node in range(1, nodes + 1)
                for source in range(node)
            }
        )

    def forward(self, x: Tensor, state: Tensor, masks: Masks) -> tuple[Tensor, Tensor]:
        """[T, B, H] and [B, H] -> outputs [T, B, H] and the last of them."""
        inputs = (times(x, masks.x).flatten(0, 1) @ self.first[: self.hidden]).view(*x.shape[:2], -1)
        recurrent = times(self.first[self.hidden :], masks.weight)
        fans, constants = self._drawn()
        outputs = []
        for x_t in inputs.unbind():
            both = torch.addmm(x_t, times(state, masks.hidden), recurrent)
            gate, new = both.to(state.dtype).chunk(2, dim=1)  # mixed precision ends here
            s = torch.lerp(state, torch.tanh(new), torch.sigmoid(gate))
            state = self._nodes(s, masks.hidden, fans, constants)
            outputs.append(state)
        return torch.stack(outputs), state

    def _nodes(self, s: Tensor, mask: Tensor | None, fans: Sequence[Fan], constants: Tensor | None) -> Tensor:
        """The cell's output [B, H] of its first state [B, H]."""
        sums: list[Tensor | None] = [None] * (self.nodes + 1)
        states = []
        for node in range(self.nodes + 1):
            if node:
                found = sums[node]
                s = torch.zeros_like(s) if found is None else found
                if constants is not None:
                    s = s + constants[node - 1]
            if self.norm is not None:
                s = self.norm(s)
            if node in self.concat:
                states.append(s)
            if node < self.nodes and fans[node].nodes:
                for target, edge in zip(fans[node].nodes, _spread(s, mask, fans[node]), strict=True):
                    before = sums[target]
                    sums[target] = edge if before is None else before + edge
        return torch.stack(states).mean(dim=0)

    def _drawn(self) -> tuple[list[Fan], Tensor | None]:
        """The edges out of each state as this pass has drawn them; and what is added to each node [nodes].

        The latter are the weights of candidates that did not run, where a sampler adds them as scalars.
        """
        units = torch.eye(len(self.candidates) + 1).to(self.first)
        rows, ran = {}, {}
        for name, edge in self.edges.items():
            rows[name], ran[name] = edge.weights(units)  # type: ignore[operator]
        searched = any(isinstance(edge.choice, Choice) for edge in self.edges.values())
        fans = [self._fan(source, rows, ran, searched) for source in range(self.nodes)]
        if not searched or all(len(k) == len(self.candidates) for k in ran.values()):
            return fans, None
        added = [
            torch.stack([rows[f"{node}<-{source}"][-1] for source in range(node)]).sum()
            for node in range(1, self.nodes + 1)
        ]
        return fans, torch.stack(added)

    def _fan(
        self, source: int, rows: dict[str, Tensor], ran: dict[str, tuple[int, ...]], searched: bool
    ) -> Fan:
        """The edges out of state `source`, those that run the same candidates next to one another."""
        alive = [
            (tuple(self.candidates[k] for k in ran[name] if self.candidates[k] != "none"), node)
            for node in range(source + 1, self.nodes + 1)
            if (name := f"{node}<-{source}") and any(self.candidates[k] != "none" for k in ran[name])
        ]
        if not alive:
            return Fan((), self.first.new_empty(self.hidden, 0), (), None, None)
        alive.sort()
        runs: list[tuple[tuple[str, ...], int, int]] = []
        for index, (names, _) in enumerate(alive):
            begun = runs.pop() if runs and runs[-1][0] == names else (names, index, index)
            runs.append((names, begun[1], index + 1))
        nodes = tuple(node for _, node in alive)
        matrix = torch.cat([self.matrices[node - 1] for node in nodes], dim=1)
        if not searched:
            return Fan(nodes, matrix, tuple(runs), None, None)
        z = torch.stack([rows[f"{node}<-{source}"] for node in nodes])
        z = z[:, :-1] - z[:, -1:]
        by_name = {c: z[:, k : k + 1] for k, c in enumerate(self.candidates) if c != "none"}
        total = torch.stack(list(by_name.values())).sum(dim=0)
        return Fan(nodes, matrix, tuple(runs), by_name, total)

    def macs(self) -> int:
        """Multiply-adds a word: the first state's, and a node's matrix for every edge that is not `none`."""
        alive = sum(
            isinstance(edge.choice, Choice) or self.candidates[edge.choice.index] != "none"  # type: ignore[index]
            for edge in self.edges.values()
        )
        return 4 * self.hidden**2 + alive * 2 * self.hidden**2


def _spread(s: Tensor, mask: Tensor | None, fan: Fan) -> tuple[Tensor, ...]:
    """What a state [B, H] adds to each of the fan's nodes: n times [B, H], of one matrix product."""
    both = (times(s, mask) @ fan.matrix).view(s.shape[0], len(fan.nodes), -1)
    gates, h = both.to(s.dtype).chunk(2, dim=2)
    parts = []
    for names, first, last in fan.runs:
        span = h if last - first == len(fan.nodes) else h[:, first:last]
        mixed: Tensor | None = None
        for name in names:
            y = ACTIVATIONS[name](span)
            if fan.z is not None:
                z = fan.z[name][first:last]
                mixed = z * y if mixed is None else torch.addcmul(mixed, z, y)
            else:
                mixed = y
        assert mixed is not None
        parts.append(mixed)
    new = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
    old = s.unsqueeze(1) if fan.total is None else s.unsqueeze(1) * fan.total
    return torch.lerp(old, new, torch.sigmoid(gates)).unbind(dim=1)


def darts_rnn(
    pick: Pick,
    shape: tuple[int, ...],
    classes: int,
    hidden: int = 850,
    nodes: int = 8,
    candidates: Sequence[str] = RNN_CANDIDATES,
    norm: bool = False,
    concat: Sequence[int] | None = None,
    dropout_embedding: float = 0.0,
    dropout_input: float = 0.0,
    dropout_x: float = 0.0,
    dropout_hidden: float = 0.0,
    dropout_output: float = 0.0,
    dropout_weight: float = 0.0,
) -> LanguageModel:
    """A language model whose recurrent cell is searched.

    Args:
        pick: the decision maker.
        shape: (T,), words of a window; the network is the same for every T.
        classes: words of the vocabulary.
        hidden: units of every state, and numbers of an embedding (published: 300 search, 850 training).
        nodes: nodes of the cell (published: 8).
        candidates: `none` and activations.
        norm: whether states are normalised over the batch (search: yes).
        concat: the nodes whose mean is the output; None means all (ENAS' cell: its leaves).
        dropout_embedding, dropout_input, dropout_x, dropout_hidden, dropout_output, dropout_weight: see
            `Dropouts`.

    Raises:
        UserError: `hidden` or `nodes` below 1, candidates that are unknown or given twice, nodes in
            `concat` that are none or given twice, a dropout that is no probability below 1.
    """
    check_counts(hidden=hidden, nodes=nodes)
    check_different(candidates)
    if concat is not None and (
        not concat or len(set(concat)) < len(concat) or not set(concat) <= set(range(1, nodes + 1))
    ):
        raise UserError(f"concat: different nodes of the cell, from 1 to {nodes}; got {list(concat)}")
    if unknown := [c for c in candidates if c not in ("none", *ACTIVATIONS)]:
        raise UserError(
            f"candidates: unknown {', '.join(map(repr, unknown))}; a recurrent cell has none, "
            f"{', '.join(ACTIVATIONS)}"
        )
    dropouts = Dropouts(
        dropout_embedding, dropout_input, dropout_x, dropout_hidden, dropout_output, dropout_weight
    )
    core = RecurrentCell(pick, hidden, nodes, candidates, norm, concat)
    return LanguageModel(core, classes, hidden, dropouts)


_SMALL_DROPOUTS = {"dropout_input": 0.1, "dropout_x": 0.1, "dropout_hidden": 0.1, "dropout_output": 0.2}
_DROPOUTS = {"dropout_input": 0.2, "dropout_x": 0.75, "dropout_hidden": 0.25, "dropout_output": 0.75}

DARTS_RNN = Space(
    darts_rnn,
    reads="text",
    search={"hidden": 300, "norm": True, **_DROPOUTS},
    train={"hidden": 850, "dropout_embedding": 0.1, **_DROPOUTS},
    searching={
        "search": {"batch_size": 256},
        "weights": {
            "learning_rate": 20.0,
            "final_learning_rate": 20.0,
            "momentum": 0.0,
            "nesterov": False,
            "weight_decay": 5e-7,
            "clip": 0.25,
        },
        "architecture": {"learning_rate": 3e-3, "betas": (0.9, 0.999)},
    },
    training={
        "epochs": 8000,
        "batch_size": 64,
        "learning_rate": 20.0,
        "weight_decay": 8e-7,
        "clip": 0.25,
    },
    small_search={"hidden": 64, **_SMALL_DROPOUTS},
    small_train={"hidden": 128, "dropout_embedding": 0.0, **_SMALL_DROPOUTS},
    rule="rnn",
)
