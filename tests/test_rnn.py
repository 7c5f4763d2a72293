"""The recurrent space: a literal reference, one-hot supernets, the published count, dropout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from archgrad.architecture import Architecture
from archgrad.choice import Sample, Supernet, concrete, supernet
from archgrad.errors import UserError
from archgrad.randomness import seeded_modules
from archgrad.samplers import SAMPLERS
from archgrad.spaces.language_model import Dropouts, LanguageModel, Masks, Reading, Window
from archgrad.spaces.lstm import LstmCore, lstm_size
from archgrad.spaces.rnn import ACTIVATIONS, RNN_CANDIDATES, Activation, RecurrentCell, darts_rnn
from archgrad.testing import inherit
from archgrad.testing.spaces import random_architecture, uniform_architectures

T, B, V, H = 5, 3, 11, 4
NAMES = [f"recurrent/{i}<-{j}" for i in range(1, 9) for j in range(i)]
DARTS_V2 = (
    ["sigmoid", "relu", "relu", "identity", "tanh", "sigmoid", "tanh", "relu"],
    [0, 1, 1, 1, 2, 5, 3, 5],
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cell_of(operations: list[str], sources: list[int]) -> Architecture:
    """The architecture of a published cell."""
    chosen = dict.fromkeys(NAMES, "none")
    for node, (name, source) in enumerate(zip(operations, sources, strict=True), start=1):
        chosen[f"recurrent/{node}<-{source}"] = name
    return Architecture(chosen)


def window(seed: int = 0, state: Tensor | None = None, masks: bool = False) -> Window:
    words = torch.randint(V, (T, B), generator=generator(seed))
    before = torch.randn(B, H, generator=generator(seed + 1), dtype=torch.float64) if state is None else state
    return Window(words, before, generator(seed + 2) if masks else None)


def searched(norm: bool = True, **settings: Any) -> Supernet:
    with seeded_modules(1):
        network = supernet(darts_rnn, (T,), V, hidden=H, norm=norm, **settings).double()
    for parameter in network.parameters():  # published initial weights are so small that all is linear
        nn.init.normal_(parameter, std=0.5, generator=generator(7))
    return network


def model_of(network: Supernet) -> LanguageModel:
    return cast(LanguageModel, network.network)


def read(network: nn.Module, x: Window, samples: list[Sample] | None = None) -> Reading:
    arguments = (x,) if samples is None else (x, samples)
    return cast(Reading, network(*arguments))


# --- a slow, literal transcription of the definition -----------------------------------------------


def reference(model: LanguageModel, x: Window, z: Tensor, norm: bool) -> tuple[Tensor, Tensor, Tensor]:
    """(logits [T, B, V], outputs [T, B, H], state) of edge weights z [36, 5], one edge and step at a time."""
    core, drops = cast(RecurrentCell, model.core), model.dropouts
    rows = numbers = at_x = at_h = at_w = last = torch.ones(())
    if x.generator is not None:

        def draw(p: float, *shape: int) -> Tensor:
            return (
                (torch.rand(*shape, generator=x.generator) < 1 - p).double() / (1 - p)
                if p
                else torch.ones(())
            )

        rows = draw(drops.embedding, V, 1)
        numbers = draw(drops.input, B, H)
        at_x, at_h = draw(drops.x, B, H), draw(drops.hidden, B, H)
        at_w, last = draw(drops.weight, H, 2 * H), draw(drops.output, B, H)

    def normal(s: Tensor) -> Tensor:
        return (s - s.mean(0)) / (s.var(0, unbiased=False) + 1e-5).sqrt() if norm else s

    first = torch.cat([core.first[:H], core.first[H:] * at_w])
    table = model.embedding.weight * rows
    h, outputs = x.state, []
    for word in x.words:
        joined = torch.cat([table[word] * numbers * at_x, h * at_h], dim=1) @ first
        c, new = joined[:, :H].sigmoid(), joined[:, H:].tanh()
        states = [normal(h + c * (new - h))]
        row = 0
        for node in range(8):
            total = torch.zeros_like(h)
            for source in range(node + 1):
                product = (states[source] * at_h) @ core.matrices[node]
                c, inner = product[:, :H].sigmoid(), product[:, H:]
                for k, name in enumerate(RNN_CANDIDATES):
                    if name != "none":
                        moved = states[source] + c * (ACTIVATIONS[name](inner) - states[source])
                        total = total + z[row, k] * moved
                row += 1
            states.append(normal(total))
        h = torch.stack(states[1:]).mean(0)
        outputs.append(h)
    read_out = torch.stack(outputs)
    return (read_out * last) @ model.embedding.weight.T + model.decoder_bias, read_out, h


ALL = {"embedding": 0.3, "input": 0.2, "x": 0.4, "hidden": 0.25, "output": 0.5, "weight": 0.1}


@pytest.mark.parametrize("norm", [True, False], ids=["norm", "bare"])
@pytest.mark.parametrize("drop", [{}, {f"dropout_{k}": p for k, p in ALL.items()}], ids=["plain", "dropout"])
def test_the_supernet_equals_a_step_by_step_reference(norm: bool, drop: dict[str, float]) -> None:
    """Loss, outputs, state, and the gradients of weights and of z, in float64."""
    network = searched(norm, **drop)
    alpha = torch.randn(36, 5, generator=generator(3), dtype=torch.float64).requires_grad_()
    z = torch.softmax(alpha, dim=1)
    targets = torch.randint(V, (T * B,), generator=generator(4))
    x = window(masks=bool(drop))
    found = read(network, x, [Sample(z)])
    logits, outputs, state = reference(model_of(network), window(masks=bool(drop)), z, norm)
    torch.testing.assert_close(found.logits, logits, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found.outputs, outputs, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found.state, state, rtol=1e-10, atol=1e-10)
    leaves = [alpha, *network.parameters()]
    ours = torch.autograd.grad(
        F.cross_entropy(found.logits.flatten(0, 1), targets), leaves, retain_graph=True
    )
    theirs = torch.autograd.grad(F.cross_entropy(logits.flatten(0, 1), targets), leaves)
    assert len(ours) == 1 + 3 + 8
    for got, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-11)
        assert bool(wanted.any())


def test_the_published_size_has_22_960_000_parameters() -> None:
    """DARTS' cell of 850 units on Penn Treebank's 10,000 words, decoder tied to the embedding."""
    with torch.device("meta"):
        network = cast(LanguageModel, concrete(darts_rnn, cell_of(*DARTS_V2), (35,), 10_000))
    assert sum(p.numel() for p in network.parameters()) == 22_960_000
    # the recurrent matrices, and the decoder
    assert network.macs() == (2 * 850 * 2 * 850 + 8 * 850 * 1700) + 10_000 * 850


def test_choices_are_the_36_edges_of_8_nodes() -> None:
    (group,) = searched().groups
    assert group.names == tuple(NAMES)
    assert len(NAMES) == 36
    assert group.candidates == RNN_CANDIDATES


@pytest.mark.parametrize("norm", [True, False], ids=["norm", "bare"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_one_hot_supernet_equals_the_derived_network(norm: bool, training: bool) -> None:
    """With copied parameters, to 1e-10: outputs and weight gradients, running all candidates or one."""
    drop = {f"dropout_{k}": p for k, p in ALL.items()}
    network = searched(norm, **drop).train(training)
    architectures = [
        cell_of(*DARTS_V2),
        *uniform_architectures(network.groups),
        *(random_architecture(network.groups, generator(seed)) for seed in range(3)),
    ]
    assert len(architectures) == 9
    for architecture in architectures:
        target = cast(
            LanguageModel, concrete(darts_rnn, architecture, (T,), V, hidden=H, norm=norm, **drop)
        ).double()
        target.train(training)
        inherit(network, target, architecture)
        samples = network.one_hot(architecture)
        theirs = read(target, window(masks=True))
        for sample in (samples, [Sample(s.weights.requires_grad_()) for s in samples]):
            ours = read(network, window(masks=True), sample)
            torch.testing.assert_close(ours.logits, theirs.logits, rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(ours.state, theirs.state, rtol=1e-10, atol=1e-10)
            wanted = torch.autograd.grad(
                theirs.logits.square().sum(),
                list(target.parameters()),
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
            got = torch.autograd.grad(
                ours.logits.square().sum(),
                list(network.parameters()),
                allow_unused=True,
                materialize_grads=True,
            )
            for a, b in zip(got, wanted, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def counted_products(network: Supernet, samples: list[Sample]) -> int:
    """Columns of all matrix products with a node's matrices in a window."""
    core = cast(RecurrentCell, model_of(network).core)
    fans, _ = _with_rows(network, samples, core)
    return sum(fan.matrix.shape[1] for fan in fans)


def _with_rows(network: Supernet, samples: list[Sample], core: RecurrentCell) -> Any:
    found: list[Any] = []
    original = core.forward
    core.forward = lambda *a: (found.append(core._drawn()), original(*a))[1]  # type: ignore
    try:
        read(network, window(), samples)
    finally:
        del core.forward
    return found[0]


def test_candidates_that_are_not_active_are_not_run() -> None:
    """A draw of straight-through runs one activation an edge, and no product where it drew `none`."""
    network = searched()
    alpha = torch.zeros(36, 5, dtype=torch.float64)
    sampler = SAMPLERS["straight_through"]()
    sample = sampler(alpha, 1.0, generator(3))
    none = sum(active == (0,) for active in sample.active)
    assert none > 3
    read(network, window(), [Sample(torch.softmax(alpha, 1))])  # what ran before does not count
    assert counted_products(network, [sample]) == (36 - none) * 2 * H
    ran = [
        sum(candidate.ran for candidate in edge.modules() if isinstance(candidate, Activation))
        for edge in cast(RecurrentCell, model_of(network).core).edges.values()
    ]
    assert ran == [1] * 36


@pytest.mark.parametrize("unselected", ["nothing", "scalar"])
def test_the_gates_gradients_are_those_of_the_drawn_edges(unselected: str) -> None:
    """Straight-through, in both of its published forms: an unselected gate has no gradient, or Σ dL/dy."""
    network = searched(norm=False)
    weights = torch.zeros(36, 5, dtype=torch.float64)
    drawn = [k % 5 for k in range(36)]
    weights[torch.arange(36), drawn] = 1.0
    weights.requires_grad_()
    active = tuple((k,) for k in drawn)
    scalars = unselected == "scalar"
    sample = Sample(weights, active, one_hot=True, inactive_as_scalars=scalars)
    found = read(network, window(), [sample])
    (got,) = torch.autograd.grad(found.logits.square().sum(), weights, allow_unused=True)

    gates = weights.detach().clone().requires_grad_()
    wanted = torch.autograd.grad(_loss_with_scalars(model_of(network), gates, drawn, scalars), gates)[0]
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)
    inactive = wanted[gates.detach() == 0]
    assert bool(inactive.any()) == scalars


def _loss_with_scalars(model: LanguageModel, gates: Tensor, drawn: list[int], scalars: bool) -> Tensor:
    """Σ logits² where edge e gives gates[e, k]·f_k for its drawn k, plus the other gates as numbers."""
    core = cast(RecurrentCell, model.core)
    x = window()
    h, outputs = x.state, []
    for word in x.words:
        joined = torch.cat([model.embedding.weight[word], h], dim=1) @ core.first
        states = [h + joined[:, :H].sigmoid() * (joined[:, H:].tanh() - h)]
        row = 0
        for node in range(8):
            total = torch.zeros_like(h)
            for source in range(node + 1):
                product = states[source] @ core.matrices[node]
                k = drawn[row]
                if RNN_CANDIDATES[k] != "none":
                    y = ACTIVATIONS[RNN_CANDIDATES[k]](product[:, H:])
                    moved = states[source] + product[:, :H].sigmoid() * (y - states[source])
                    total = total + gates[row, k] * moved
                if scalars:
                    total = total + sum(gates[row, i] for i in range(5) if i != k)
                row += 1
            states.append(total)
        h = torch.stack(states[1:]).mean(0)
        outputs.append(h)
    return (torch.stack(outputs) @ model.embedding.weight.T + model.decoder_bias).square().sum()


# --- dropout ---------------------------------------------------------------------------------------


def test_dropout_comes_from_its_generator_and_touches_nothing_else() -> None:
    network = searched(**{f"dropout_{k}": p for k, p in ALL.items()})
    samples = network.one_hot(cell_of(*DARTS_V2))
    before = torch.random.get_rng_state()
    first, second = (read(network, window(masks=True), samples).logits for _ in range(2))
    other = read(network, window()._replace(generator=generator(99)), samples).logits
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.random.get_rng_state())
    network.eval()
    a, b = (read(network, window(masks=masks), samples).logits for masks in (True, False))
    assert torch.equal(a, b)


@pytest.mark.parametrize("name", ALL)
def test_every_dropout_does_something_and_keeps_the_mean(name: str) -> None:
    """A mask is 0 or 1/(1−p), one for all words of a window; its mean is 1."""
    seen: dict[str, Tensor] = {}

    class Spy(nn.Module):
        state_size, recurrent_shape = 400, (400, 400)

        def forward(self, x: Tensor, state: Tensor, masks: Masks) -> tuple[Tensor, Tensor]:
            seen["input"] = x
            seen.update({k: m for k, m in masks._asdict().items() if m is not None})
            return torch.ones_like(x), state

    model = LanguageModel(Spy(), 500, 400, Dropouts(**{name: 0.25}))
    nn.init.ones_(model.embedding.weight)
    words = torch.randint(500, (7, 50), generator=generator(1))
    with torch.no_grad():
        found = read(model, Window(words, torch.zeros(50, 400), generator(5)))
    if name == "output":  # an embedding of ones: a logit is the sum of a text's mask
        assert bool((found.logits == found.logits[:1]).all())
        decisions = found.logits[0, :, 0] / 400
        count = 50 * 400
    elif name == "embedding":  # one decision a word of the vocabulary, wherever it stands
        along = seen["input"][..., 0]
        decisions = torch.stack([along[words == word].unique() for word in words.unique()])
        count = len(words.unique())
        assert decisions.shape == (count, 1)
    else:
        decisions = seen[name]
        if name == "input":
            assert bool((decisions == decisions[:1]).all())
            decisions = decisions[0]
        count = decisions.numel()
    if name != "output":
        torch.testing.assert_close(decisions.unique(), torch.tensor([0.0, 1 / 0.75]))
    deviation = (0.25 / 0.75 / count) ** 0.5
    assert abs(float(decisions.mean()) - 1) < 4 * deviation
    read(model.eval(), Window(words, torch.zeros(50, 400), generator(5)))
    assert bool((seen["input"] == 1).all())


# --- calls and errors ------------------------------------------------------------------------------


def test_a_plain_call_reads_words_from_a_zero_state() -> None:
    network = cast(LanguageModel, concrete(darts_rnn, cell_of(*DARTS_V2), (T,), V, hidden=H)).double().eval()
    words = window().words
    from_window = read(network, Window(words, network.zero_state(B)))
    plain = network(words.t())
    assert isinstance(plain, Tensor)
    assert plain.shape == (B, T, V)
    torch.testing.assert_close(plain, from_window.logits.transpose(0, 1))
    # two windows in a row are one long window
    halves = read(network, Window(words[:2], network.zero_state(B)))
    rest = read(network, Window(words[2:], halves.state))
    torch.testing.assert_close(torch.cat([halves.logits, rest.logits]), from_window.logits)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(UserError, match="unknown 'swish'; a recurrent cell has none, tanh"):
        supernet(darts_rnn, (T,), V, hidden=H, candidates=["tanh", "swish"])
    with pytest.raises(UserError, match=r"concat: different nodes of the cell, from 1 to 8; got \[3, 9\]"):
        supernet(darts_rnn, (T,), V, hidden=H, concat=[3, 9])
    with pytest.raises(UserError, match=r"concat: different nodes of the cell, from 1 to 8; got \[1, 1\]"):
        supernet(darts_rnn, (T,), V, hidden=H, concat=[1, 1])
    with pytest.raises(UserError, match="dropout_hidden: a probability of at least 0 and below 1; got 1"):
        supernet(darts_rnn, (T,), V, hidden=H, dropout_hidden=1.0)


def test_published_recurrent_cells_build(request: pytest.FixtureRequest) -> None:
    path = Path(request.config.rootpath).parent / "shared" / "genotypes.json"
    if not path.exists():
        pytest.skip("no genotypes.json beside the repository")
    genotypes = json.loads(path.read_text())["rnn"]
    for name in ("DARTS_V1", "DARTS_V2", "ENAS"):
        pairs, concat = genotypes[name]["recurrent"], genotypes[name]["concat"]
        nodes = range(1, len(pairs) + 1)
        chosen = {f"recurrent/{i}<-{j}": "none" for i in nodes for j in range(i)}
        chosen |= {f"recurrent/{i}<-{j}": f for i, (f, j) in zip(nodes, pairs, strict=True)}
        settings = {"hidden": H, "nodes": len(pairs), "concat": concat}
        network = concrete(darts_rnn, Architecture(chosen), (T,), V, **settings)
        assert network(window().words.t()).shape == (B, T, V)


def test_the_output_may_be_the_mean_of_some_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """ENAS' cell puts out its leaves."""
    arguments = ((T,), V), {"hidden": H, "norm": False}
    some = supernet(darts_rnn, *arguments[0], **arguments[1], concat=[2, 8]).double()
    full = supernet(darts_rnn, *arguments[0], **arguments[1]).double()
    full.load_state_dict(some.state_dict())
    z = [Sample(torch.full((36, 5), 0.2, dtype=torch.float64))]
    core = cast(RecurrentCell, model_of(full).core)
    states: list[Tensor] = []
    x = window()._replace(words=window().words[:1])
    original = torch.stack
    monkeypatch.setattr(torch, "stack", lambda t, *a, **k: (states.extend(t), original(t, *a, **k))[1])
    read(full, x, z)
    nodes = [s for s in states if s.shape == (B, H)][:8]
    found = read(some, x, z)
    torch.testing.assert_close(found.outputs[0], (nodes[1] + nodes[7]) / 2)
    assert core.concat == tuple(range(1, 9))


# --- the LSTM control ------------------------------------------------------------------------------


def test_the_lstm_equals_its_equations() -> None:
    """Hochreiter & Schmidhuber 1997 with a forget gate: i, f, g, o in PyTorch's order."""
    with seeded_modules(3):
        model = LanguageModel(LstmCore(H), V, H, Dropouts(**{**ALL, "weight": 0.3})).double()
    core = cast(LstmCore, model.core)
    x = Window(window().words, torch.randn(B, 2 * H, generator=generator(2), dtype=torch.float64))
    found = read(model, x)
    h, c = x.state.chunk(2, dim=1)
    for word in x.words:
        w = core.lstm
        gates = (
            model.embedding.weight[word] @ w.weight_ih_l0.T
            + w.bias_ih_l0
            + h @ w.weight_hh_l0.T
            + w.bias_hh_l0
        )
        i, f, g, o = gates.chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
    torch.testing.assert_close(found.state, torch.cat([h, c], dim=1), rtol=1e-10, atol=1e-10)
    dropped = read(model, x._replace(generator=generator(1)))
    again = read(model, x._replace(generator=generator(1)))
    assert torch.equal(dropped.logits, again.logits)
    assert not torch.equal(dropped.logits, found.logits)


def test_the_lstm_drops_entries_of_its_recurrent_matrix_only() -> None:
    with seeded_modules(3):
        model = LanguageModel(LstmCore(H), V, H, Dropouts(weight=0.4)).double()
    core = cast(LstmCore, model.core)
    x = Window(window().words, torch.zeros(B, 2 * H, dtype=torch.float64))
    found = read(model, x._replace(generator=generator(1)))
    mask = (torch.rand(4 * H, H, generator=generator(1)) < 0.6).double() / 0.6
    with torch.no_grad():
        core.lstm.weight_hh_l0.mul_(mask)
    torch.testing.assert_close(found.logits, read(model, x).logits)


@pytest.mark.parametrize(("vocabulary", "wanted"), [(10_000, 22_960_000), (500, 60_000)])
def test_the_lstm_has_about_the_wanted_parameters(vocabulary: int, wanted: int) -> None:
    hidden = lstm_size(vocabulary, wanted)
    with torch.device("meta"):
        model = LanguageModel(LstmCore(hidden), vocabulary, hidden, Dropouts())
    assert abs(sum(p.numel() for p in model.parameters()) / wanted - 1) < 0.01
