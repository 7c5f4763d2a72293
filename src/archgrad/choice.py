"""Decisions in a network: `pick` makes them, `Choice` mixes them, `Supernet` carries them.

A space is one builder ``space(pick, shape, classes, **settings) -> nn.Module``. Wherever the network
has a decision it calls ``pick(name, {candidate: () -> nn.Module})``. `supernet` hands the builder a
`pick` that returns a `Choice` over all candidates; `concrete` hands the same builder a `pick` that
builds the chosen candidate alone. One code path, so the two cannot drift apart.

A candidate may itself call `pick` (nested choices), a choice may be used in several places, and a choice
that is called with several inputs hands all of them to its candidates (`archgrad.ops.take` takes one).

Shapes: E choices with the same K candidates are the rows of one tensor of logits α [E, K].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from archgrad.architecture import Architecture
from archgrad.architecture_warnings import NONE
from archgrad.errors import UserError
from archgrad.randomness import seeded_modules
from archgrad.table import nearest

Pick = Callable[[str, Mapping[str, Callable[[], nn.Module]]], nn.Module]
"""``pick(name, options)``: options map a candidate's name to a function that builds it."""


class Droppable(dict[str, Callable[[], nn.Module]]):
    """Options of a choice that an architecture may leave out: `none` there, though no candidate here.

    dropped: builds what stands in its place, a module without parameters.
    """

    def __init__(self, options: Mapping[str, Callable[[], nn.Module]], dropped: Callable[[], nn.Module]):
        super().__init__(options)
        self.dropped = dropped


class Blend(dict[str, Callable[[], nn.Module]]):
    """Options that are weighted and all kept: softmax of logits in a supernet, 1 each in a derived network.

    No candidate is chosen, so an architecture says nothing of it; whatever the sampler, its weights are
    the softmax. (Xu et al. 2020, PC-DARTS, arXiv 1907.05737, eq. 5: edge normalisation.)
    """


class Sum(nn.Module):
    """Σ_k part_k(inputs): what a `Blend` is in a derived network."""

    def __init__(self, parts: Iterable[nn.Module]):
        super().__init__()
        self.options = nn.ModuleList(parts)

    def forward(self, *inputs: Tensor) -> Tensor:
        """The sum of the parts' outputs, all of one shape."""
        total: Tensor = self.options[0](*inputs)
        for part in list(self.options)[1:]:
            total = total + part(*inputs)
        return total


class Sample(NamedTuple):
    """What a sampler draws for one group of choices.

    weights: [E, K], the weight of every candidate. Rows sum to 1, but those of gates: each is in [0, 1] by
        itself. Of S independent searches on a landscape [S, E, K].
    active: for each of the E choices the candidates that have to run, on the host; None means all.
    one_hot: each choice has one active candidate, of weight exactly 1: the product need not be computed.
    inactive_as_scalars: a candidate that is not active adds its weight, exactly 0, as a number to every
        output, as if it were the constant 1: its weight has the gradient Σ dL/dy and nothing more runs.
    ran: what `active` is, for weights [S, E, K], where that is None: bool of their shape, on their device.
        None means that the candidates that have a weight ran, and no others.
    """

    weights: Tensor
    active: tuple[tuple[int, ...], ...] | None = None
    one_hot: bool = False
    inactive_as_scalars: bool = False
    ran: Tensor | None = None


class Group(NamedTuple):
    """Choices that have the same candidates, hence one tensor of logits [E, K].

    kind: "droppable" where `none` may stand for a choice though it is no candidate (`Droppable`), "blend"
        where nothing is chosen (`Blend`).
    """

    candidates: tuple[str, ...]  # K names
    names: tuple[str, ...]  # E names
    kind: Literal["choice", "droppable", "blend"] = "choice"

    @property
    def chosen(self) -> bool:
        """Whether an architecture says which candidate each of these choices has."""
        return self.kind != "blend"


def of_choices(groups: Sequence[Group], tensors: Sequence[Tensor]) -> list[Tensor]:
    """Of one tensor per group those of the groups in which something is chosen, that is, not of blends."""
    return [tensor for group, tensor in zip(groups, tensors, strict=True) if group.chosen]


class _Row(NamedTuple):
    """One choice's part of a sample: K scalar weights, and what `Sample` says of them."""

    weights: tuple[Tensor, ...]
    active: tuple[int, ...] | None
    one_hot: bool
    inactive_as_scalars: bool = False

    def inactive_sum(self) -> Tensor | None:
        """Σ of the weights that are added as scalars; None where there are none or no gradient is wanted."""
        if not self.inactive_as_scalars or self.active is None:
            return None
        rest = [w for k, w in enumerate(self.weights) if k not in self.active and w.requires_grad]
        return torch.stack(rest).sum() if rest else None


class _TimesOne(torch.autograd.Function):
    """y · w for a scalar w that is exactly 1: forward is y itself, backward that of the product.

    A pass over every edge's output saved: about a tenth of a straight-through step on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, y: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(y, w)
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (g,) = gradient
        y, w = ctx.saved_tensors
        # with create_graph the product's dependence on w must stay in the graph
        to_y = (g * w if torch.is_grad_enabled() else g) if ctx.needs_input_grad[0] else None
        return to_y, (g * y).sum() if ctx.needs_input_grad[1] else None


class Choice(nn.Module):
    """One decision: Σ_k z_k · candidate_k(x) over the active candidates.

    The weights z come from the enclosing `Supernet` for the duration of its forward pass. Choices of
    the same name share their logits, not their parameters.
    """

    def __init__(self, name: str, options: Mapping[str, Callable[[], nn.Module]], rows: dict[str, _Row]):
        super().__init__()
        self.name = name
        self.candidates = tuple(options)
        self.options = nn.ModuleList(build() for build in options.values())
        self.dropped = options.dropped() if isinstance(options, Droppable) else None
        self._rows = rows  # shared by all choices of a supernet; filled by Supernet.forward

    def forward(self, *inputs: Tensor) -> Tensor:
        """Mix the candidates' outputs, all of one shape; every candidate gets all inputs."""
        if self.name not in self._rows:
            raise RuntimeError(f"choice {self.name!r} ran outside Supernet.forward, which gives it weights")
        row = self._rows[self.name]
        if row.one_hot and row.active:
            (k,) = row.active
            y: Tensor = self.options[k](*inputs)
            if not row.weights[k].requires_grad:
                return y
            gated: Tensor = _TimesOne.apply(y, row.weights[k])  # type: ignore[no-untyped-call]
            rest = row.inactive_sum()
            return gated if rest is None else gated + rest
        total: Tensor | None = None
        for k in range(len(self.options)) if row.active is None else row.active:
            term = row.weights[k] * self.options[k](*inputs)
            if total is None:
                total = term
                continue
            if term.shape != total.shape:
                raise UserError(
                    f"candidates of choice {self.name!r} disagree: {self.candidates[k]!r} gives "
                    f"{tuple(term.shape)}, those before it {tuple(total.shape)}; they are added, so "
                    "every candidate must give the same shape"
                )
            total = total + term
        if total is None and self.dropped is not None:
            total = self.dropped(*inputs)
        if total is None:
            raise RuntimeError(f"no active candidate for choice {self.name!r}")
        rest = row.inactive_sum()
        return total if rest is None else total + rest

    def extra_repr(self) -> str:
        """Name and candidates, for ``print(network)``."""
        return f"{self.name!r}, candidates={list(self.candidates)}"


class Supernet(nn.Module):
    """A network whose decisions are `Choice` modules; call it with one `Sample` per group.

    Operation weights are `parameters()`. Architecture logits are not: the caller owns them.
    """

    def __init__(self, network: nn.Module, groups: tuple[Group, ...], rows: dict[str, _Row]):
        super().__init__()
        self.network = network
        self.groups = groups
        self._rows = rows

    def forward(self, x: Tensor, samples: Sequence[Sample]) -> Tensor:
        """Run the network on x [B, C, H, W] with samples[g].weights [E_g, K_g] for each group g.

        Raises:
            UserError: the samples are not one per group, or not of the groups' shapes.
        """
        shapes = [tuple(sample.weights.shape) for sample in samples]
        wanted = [(len(group.names), len(group.candidates)) for group in self.groups]
        if shapes != wanted:
            raise UserError(f"the supernet's groups need samples of shapes {wanted} (E, K), got {shapes}")
        try:
            for group, sample in zip(self.groups, samples, strict=True):
                weights = [row.unbind() for row in sample.weights.unbind()]
                active = sample.active or (None,) * len(group.names)
                rows = (
                    _Row(w, a, sample.one_hot, sample.inactive_as_scalars)
                    for w, a in zip(weights, active, strict=True)
                )
                self._rows.update(zip(group.names, rows, strict=True))
            output: Tensor = self.network(x)
        finally:
            self._rows.clear()  # nothing outlives the pass: no stale weights, no graph kept alive
        return output

    def choices(self) -> list[Choice]:
        """All `Choice` modules, blends too, in order of construction; shared logits repeat a name."""
        return [m for m in self.network.modules() if isinstance(m, Choice)]

    def initial_logits(
        self, generator: torch.Generator, scale: float = 1e-3, mean: float = 0.0
    ) -> list[Tensor]:
        """α ~ N(mean, scale²), one [E, K] leaf per group (DARTS: 1e-3·randn; SNAS: N(1, 0.01²))."""
        return [
            (
                mean + scale * torch.randn(len(g.names), len(g.candidates), generator=generator)
            ).requires_grad_()
            for g in self.groups
        ]

    def one_hot(self, architecture: Architecture) -> list[Sample]:
        """The samples that put all weight on `architecture`, only its candidates active.

        Raises:
            UserError: the architecture lacks a choice of the supernet, or names an unknown candidate.
        """
        like = next(self.parameters(), torch.empty(0))  # for its device and dtype
        samples = []
        for group in self.groups:
            shape = len(group.names), len(group.candidates)
            if not group.chosen:
                samples.append(Sample(torch.ones(shape).to(like)))
                continue
            weights, active = torch.zeros(shape), []
            for row, name in enumerate(group.names):
                candidate = _chosen(architecture, name, group.candidates, group.kind == "droppable")
                kept = tuple(k for k, known in enumerate(group.candidates) if known == candidate)
                weights[row, list(kept)] = 1.0
                active.append(kept)
            samples.append(Sample(weights.to(like), tuple(active), one_hot=all(active)))
        return samples


def supernet(space: Callable[..., nn.Module], *args: Any, **settings: Any) -> Supernet:
    """Build ``space(pick, *args, **settings)`` with every candidate of every choice in it.

    Raises:
        UserError: a choice has no candidates, a name is reused with other candidates, or the space
            has no choice at all.
    """
    rows: dict[str, _Row] = {}
    known: dict[str, tuple[tuple[str, ...], Literal["choice", "droppable", "blend"]]] = {}

    def pick(name: str, options: Mapping[str, Callable[[], nn.Module]]) -> nn.Module:
        if not options:
            raise UserError(f"choice {name!r} has no candidates: give pick at least one")
        found = known.setdefault(name, (tuple(options), _kind(options)))
        if found[0] != tuple(options):
            raise UserError(
                f"choice {name!r} is used with candidates {list(found[0])} and with {list(options)}: "
                "give the second decision another name"
            )
        if found[1] != _kind(options):
            raise UserError(
                f"choice {name!r} is used as a {found[1]} and as a {_kind(options)}: "
                "give the second decision another name"
            )
        return Choice(name, options, rows)

    network = space(pick, *args, **settings)
    if not any(kind != "blend" for _, kind in known.values()):
        raise UserError("the space made no choice: call pick(name, {candidate: builder}) at least once")
    groups: dict[tuple[tuple[str, ...], Literal["choice", "droppable", "blend"]], list[str]] = {}
    for name, row in known.items():
        groups.setdefault(row, []).append(name)
    return Supernet(network, tuple(Group(k, tuple(names), kind) for (k, kind), names in groups.items()), rows)


def _kind(options: Mapping[str, Callable[[], nn.Module]]) -> Literal["choice", "droppable", "blend"]:
    return (
        "droppable" if isinstance(options, Droppable) else "blend" if isinstance(options, Blend) else "choice"
    )


def concrete(
    space: Callable[..., nn.Module], architecture: Architecture, *args: Any, **settings: Any
) -> nn.Module:
    """Build ``space(pick, *args, **settings)`` with only the chosen candidate at each choice.

    Choices that stand inside candidates which were not chosen are not built; the architecture may name them.

    Raises:
        UserError: the architecture lacks a choice of the space, names an unknown candidate, or has
            choices that the space does not make.
    """
    used: set[str] = set()

    def pick(name: str, options: Mapping[str, Callable[[], nn.Module]]) -> nn.Module:
        if isinstance(options, Blend):
            return Sum(build() for build in options.values())
        candidate = _chosen(architecture, name, options, isinstance(options, Droppable))
        used.add(name)
        if isinstance(options, Droppable) and candidate not in options:
            return options.dropped()
        return options[candidate]()

    network = space(pick, *args, **settings)
    unused = [name for name in architecture if name not in used]
    if unused:
        inner = all_choices(space, *args, **settings)
        unused = [name for name in unused if name not in inner]
    if unused:
        raise UserError(
            f"the space makes no choice called {', '.join(map(repr, unused[:5]))}; "
            "was the architecture derived from another space?"
        )
    return network


def all_choices(space: Callable[..., nn.Module], *args: Any, **settings: Any) -> set[str]:
    """Names of all choices of a space, also of those inside candidates; nothing is allocated."""
    names: set[str] = set()

    def pick(name: str, options: Mapping[str, Callable[[], nn.Module]]) -> nn.Module:
        names.add(name)
        return nn.ModuleList(build() for build in options.values())

    with seeded_modules(0), torch.device("meta"):
        space(pick, *args, **settings)
    return names


def _chosen(architecture: Architecture, name: str, candidates: Iterable[str], droppable: bool = False) -> str:
    """The candidate at choice `name`, or a `UserError` when the two do not fit."""
    if name not in architecture:
        raise UserError(
            f"the architecture has no choice {name!r}{nearest(name, architecture)}; "
            "was it derived from another space?"
        )
    candidate = architecture[name]
    if candidate not in candidates and not (droppable and candidate == NONE):
        raise UserError(
            f"choice {name!r} has no candidate {candidate!r}{nearest(candidate, candidates)}; "
            f"it has {', '.join(candidates)}"
        )
    return candidate
