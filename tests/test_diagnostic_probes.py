"""Probes: read-only, of known cost, right where the answer is known. S searches, E choices × K candidates."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from archgrad.choice import Sample
from archgrad.config import Config
from archgrad.config_layers import layered, merge
from archgrad.config_problems import check
from archgrad.datasets.text import TextData, numbered
from archgrad.derive import derive
from archgrad.diagnostics import DIAGNOSTICS, PROBES, RECORDS
from archgrad.diagnostics.agreement import Agreement
from archgrad.diagnostics.gap import Gap
from archgrad.diagnostics.lanczos import hutchinson, lanczos
from archgrad.diagnostics.ranking import Ranking
from archgrad.diagnostics.schedule import Watch
from archgrad.diagnostics.shared_weights import shared_accuracy
from archgrad.diagnostics.sharpness import Sharpness
from archgrad.diagnostics.signal import Signal
from archgrad.diagnostics.subject import Subject, untouched
from archgrad.errors import ConfigError, UserError
from archgrad.hypergradients.first_order import FirstOrder
from archgrad.landscapes.multilinear import MultilinearLandscape
from archgrad.landscapes.nasbench201 import landscape
from archgrad.landscapes.task import LandscapeTask
from archgrad.language_parts import TextParts
from archgrad.language_settings import TextSize
from archgrad.method_parts import architecture_optimizer, search_plan
from archgrad.methods import METHODS
from archgrad.parts import Parts
from archgrad.planted import quadratic_problem
from archgrad.policy import Policy
from archgrad.problem import Outcome
from archgrad.randomness import Streams
from archgrad.runs import Run
from archgrad.samplers.softmax import Softmax
from archgrad.search_state import SearchPlan, SearchState
from archgrad.settings import DataSize, resolve
from archgrad.testing import BrokenLaw, check_probe
from archgrad.verbs import search_run

# forward, backward and second-order passes of a look, as the docstrings state them
CASES = {
    "gap": (Gap(batches=2, calibration=3, samples=2), (2 + 2) * (3 + 2), 0, 0),
    "sharpness": (Sharpness(batches=2, iterations=5, trace_samples=3, tolerance=0.0), 2, 2, 2 * (5 + 3)),
    "signal": (Signal(batches=3), 3, 3, 0),  # of a first-order hypergradient
    "agreement": (Agreement(batches=2), 2 * 4, 2 * 4, 2 * 1),
    "ranking": (Ranking(cells=3, batches=2, calibration=1), 3 * (1 + 2), 0, 0),
}


def beginning(settings, data):
    """A function that makes the search of these settings afresh."""
    given = merge(settings, {"data": {"name": "given:few"}})

    def begin() -> Subject:
        config = resolve(given, DataSize("few", len(data.train), data.shape, True)).config
        parts = Parts.of(config, data)
        network = parts.supernet()
        network.train()
        task, state, plan = parts.task(network), parts.state(network), parts.plan(network.groups)
        return Subject(task, state, plan, parts.streams, 0)

    return begin


def on_landscape(land, searches=None, method="snas", scale=1.0, **settings):
    """A search on a landscape, one epoch of three steps done."""
    config = Config.model_validate(layered(METHODS[method].settings, {"search": {"epochs": 1}}, settings))
    plan = search_plan(config, land.groups, searches=searches)
    (group,) = land.groups
    shape = (len(group.names), len(group.candidates))
    generator = torch.Generator().manual_seed(5)
    start = torch.randn(*(() if searches is None else (searches,)), *shape, generator=generator)
    theta = [(scale * start.double()).requires_grad_()]
    state = SearchState(theta, None, architecture_optimizer(theta, config.architecture))
    task = LandscapeTask(land, searches, steps_per_epoch=3)
    return Subject(task, state, plan, Streams(0), 0)


def test_there_are_five_and_all_are_listed():
    assert list(PROBES) == ["gap", "sharpness", "signal", "agreement", "ranking"]
    assert list(DIAGNOSTICS) == [*RECORDS, *PROBES]
    assert set(CASES) == set(PROBES)


# ---- the contract


@pytest.mark.parametrize("name", PROBES)
def test_every_probe_keeps_the_contract(name, tiny, few_digits):
    probe, *passes = CASES[name]
    reading = check_probe(probe, beginning(tiny(method="darts"), few_digits), passes=tuple(passes))
    assert reading


# a sampler that runs one candidate, one with gates, a controller, edge weights, drop path and dropped edges
OTHERS = {
    "gdas": {"method": "gdas"},
    "snas": {
        "method": "snas",
        "space": {"name": "darts", "channels": 2, "cells": 3, "nodes": 2, "stem_multiplier": 1},
        "search": {"drop_path": 0.3},
        "train": {"space": {"channels": 2, "cells": 3, "stem_multiplier": 1}},
    },
    "fairdarts": {"method": "fairdarts"},
    "enas": {"method": "enas"},
    "second order": {"method": "darts-2nd"},
}


@pytest.mark.parametrize("case", OTHERS)
@pytest.mark.parametrize("name", ["gap", "sharpness", "signal"])
def test_probes_look_at_other_methods_without_a_trace(name, case, tiny, few_digits):
    settings = OTHERS[case]
    if "space" in settings:
        settings = {**settings, "search": {"epochs": 2, "batch_size": 20, **settings["search"]}}
        settings = {**settings, "seed": 3, "device": {"name": "cpu", "threads": 1}}
    else:
        settings = tiny(**settings)
    probe = {"gap": Gap(1, 1, 1), "sharpness": Sharpness(1, 2, 1), "signal": Signal(2)}[name]
    assert check_probe(probe, beginning(settings, few_digits), interrupt=False)


def little_text(words: int = 700) -> TextData:
    """A text of 7 words, each of which mostly decides the next."""
    generator, chosen = torch.Generator().manual_seed(0), [0]
    for free, other in torch.stack(
        [torch.rand(words, generator=generator), 7 * torch.rand(words, generator=generator)], dim=1
    ).tolist():
        chosen.append(int(other) if free < 0.3 else (3 * chosen[-1] + 1) % 7)
    lines = [" ".join(f"w{i}" for i in chosen[k : k + 9]) for k in range(0, len(chosen), 9)]
    return numbered("little", lines[:30], lines[30:70], lines[70:])


@pytest.mark.parametrize("name", ["gap", "sharpness", "signal", "agreement"])
def test_probes_look_at_a_text_without_a_trace(name):
    """Its states move from window to window, and its masks are drawn."""
    data = little_text()
    settings = {
        "method": "darts",
        "space": {"name": "darts_rnn", "hidden": 5, "nodes": 3},
        "text": {"window": 4},
        "search": {"epochs": 2, "batch_size": 8},
        "data": {"name": "given:little"},
        "device": {"name": "cpu", "threads": 1},
    }

    def begin() -> Subject:
        config = resolve(settings, TextSize("little", len(data.train), len(data.vocabulary))).config
        parts = TextParts.of(config, data)
        network = parts.supernet()
        network.train()
        task, state, plan = parts.task(network), parts.state(network), parts.plan(network.groups)
        return Subject(task, state, plan, parts.streams, 0)

    probe = {"gap": Gap(samples=1), "sharpness": Sharpness(2, 2, 1), "signal": Signal(2)}
    reading = check_probe(probe.get(name, Agreement(1)), begin, interrupt=name != "gap")
    assert reading


def test_the_contract_sees_a_probe_that_writes(tiny, few_digits):
    begin = beginning(tiny(method="darts"), few_digits)

    def logits(subject):
        subject.state.logits[0].data[0, 0] += 1e-7
        return {"x": 1.0}

    def momentum(subject):
        for values in subject.state.weight_optimizer.state.values():
            values["momentum_buffer"][...] = 0
        return {"x": 1.0}

    def mode(subject):
        subject.network.eval()
        return {"x": 1.0}

    def global_state(subject):
        return {"x": float(torch.rand(()))}  # put back by `untouched`, so that this is repeatable

    def not_a_number(subject):
        return {"x": math.nan}

    def swallows(subject):
        with contextlib.suppress(Exception):
            subject.pairs(1)[0][1](subject.relaxed(subject.logits()))
        return {"x": 1.0}

    for wrong in (logits, momentum, mode, not_a_number, swallows):
        with pytest.raises(BrokenLaw):
            check_probe(wrong, begin)
    check_probe(global_state, begin)
    with pytest.raises(BrokenLaw, match="passes"):
        check_probe(Signal(3), begin, passes=(3, 4, 0))


def test_untouched_puts_back_weights_and_buffers_also_after_an_error(tiny, few_digits):
    subject = beginning(tiny(method="darts"), few_digits)()
    before = [t.detach().clone() for t in (*subject.task.weights, *subject.network.buffers())]

    def spoil():
        with untouched(subject), torch.no_grad():
            for t in (*subject.task.weights, *subject.network.buffers()):
                t.add_(1)
            raise KeyError

    with pytest.raises(KeyError):
        spoil()
    after = [*subject.task.weights, *subject.network.buffers()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


# ---- Lanczos and Hutchinson


@pytest.mark.parametrize("seed", range(3))
def test_lanczos_finds_the_extreme_eigenvalues_of_several_matrices_at_once(seed):
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(4, 30, 30, generator=generator, dtype=torch.float64)
    matrices = root + root.mT
    values = torch.linalg.eigvalsh(matrices)

    def product(v):
        return torch.einsum("snm,sm->sn", matrices, v)

    exact = lanczos(product, (4, 30), 100, 0.0, generator)
    assert exact.iterations == 30
    torch.testing.assert_close(exact.largest, values[:, -1], atol=1e-10, rtol=0)
    torch.testing.assert_close(exact.smallest, values[:, 0], atol=1e-10, rtol=0)
    early = lanczos(product, (4, 30), 100, 1e-2, generator)
    assert early.iterations < 30
    assert bool((early.residual <= 1e-2 * values.abs().amax(dim=1)).all())
    assert bool((early.largest <= values[:, -1] + 1e-10).all())
    # the residual bounds the distance to some eigenvalue
    distance = (early.largest[:, None] - values).abs().amin(dim=1)
    assert bool((distance <= early.residual + 1e-10).all())


def test_the_residual_is_that_of_the_vector():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    matrix = root + root.T
    found = lanczos(lambda v: v @ matrix, (1, 6), 1, 0.0, torch.Generator().manual_seed(1))
    begin = torch.randn((1, 6), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = torch.nn.functional.normalize(begin)[0]
    value = float(x @ matrix @ x)
    assert float(found.largest) == pytest.approx(value, rel=1e-12)
    assert float(found.residual) == pytest.approx(float((matrix @ x - value * x).norm()), rel=1e-12)


def test_lanczos_goes_on_where_a_subspace_is_exhausted():
    """All eigenvalues but one are −1: two vectors span all that the first one reaches."""
    diagonal = torch.tensor([[-1.0] * 7 + [-0.5], [2.0] * 8], dtype=torch.float64)
    found = lanczos(lambda v: diagonal * v, (2, 8), 8, 0.0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found.largest, torch.tensor([-0.5, 2.0]).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(found.smallest, torch.tensor([-1.0, 2.0]).double(), atol=1e-12, rtol=0)


def test_hutchinson_is_right_on_average_and_knows_its_error():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(20, 20, generator=generator, dtype=torch.float64)
    matrix = root + root.T
    trace, error = hutchinson(lambda v: v @ matrix, (50, 20), 200, generator)
    wanted = float(matrix.trace())
    off = matrix - matrix.diag().diag()
    deviation = math.sqrt(2 * float(off.square().sum()) / 200)  # in closed form, for random signs
    assert float(error.mean()) == pytest.approx(deviation, rel=0.05)
    assert float(trace.mean()) == pytest.approx(wanted, abs=4 * deviation / math.sqrt(50))
    diagonal = torch.arange(4.0).double()
    exact, none = hutchinson(lambda v: diagonal * v, (1, 4), 1, generator)
    assert float(exact) == 6.0
    assert math.isnan(float(none))


# ---- known answers


class PlantedTask:
    """The planted quadratic problem as something to search, with `slopes` of its own for every batch."""

    def __init__(self, seed=0, slopes=((),)):
        self.planted = quadratic_problem(seed)
        problem = self.planted.problem
        self.groups = problem.policy.groups
        self.weights, self.buffers = list(problem.weights), []
        self.steps_per_epoch = len(slopes)
        self.slopes = slopes

    def steps(self, epoch, start):
        for slope in self.slopes[start:]:
            yield self.planted.problem.train, self.tilted(slope)

    def tilted(self, slope):
        def objective(samples):
            outcome = self.planted.problem.valid(samples)
            z = torch.cat([s.weights.flatten() for s in samples])
            loss = outcome.loss + (z * slope).sum() if len(slope) else outcome.loss
            return Outcome(loss, loss.detach(), torch.tensor(0), 1)

        return objective

    def evaluate(self, draw):
        outcome = self.planted.problem.valid(draw(0))
        return float(outcome.task_loss), 0.0


def planted_subject(seed=0, slopes=((),), optimizer=None, **plan):
    task = PlantedTask(seed, slopes)
    theta = [a.detach().clone().requires_grad_() for a in task.planted.alpha]
    adam = torch.optim.Adam(theta, weight_decay=0.25)
    state = SearchState(theta, optimizer, adam)
    fields = {"hypergradient": FirstOrder(), **plan}
    parts = SearchPlan(
        Policy(task.groups, Softmax()),
        epochs=1,
        temperature=lambda e: 1.0,
        learning_rate=lambda e: 0.1,
        **fields,
    )
    return Subject(task, state, parts, Streams(0), 0)


def dense_hessian(subject, objective):
    """∂²L/∂α² of the mixture, by torch.autograd.functional.hessian, [n, n]."""
    shapes = [a.shape for a in subject.state.logits]

    def loss(flat):
        parts = torch.split(flat, [s.numel() for s in shapes])
        alpha = [p.view(s) for p, s in zip(parts, shapes, strict=True)]
        return objective(subject.relaxed(alpha)).loss.sum()

    flat = torch.cat([a.detach().flatten() for a in subject.state.logits])
    return torch.autograd.functional.hessian(loss, flat)


@pytest.mark.parametrize("seed", range(4))
def test_sharpness_is_the_dense_eigenvalue_on_planted_problems(seed):
    subject = planted_subject(seed, slopes=((), torch.arange(10.0).double()))
    found = Sharpness(batches=2, iterations=50, trace_samples=400, tolerance=0.0)(subject)
    matrix = sum(dense_hessian(subject, pair[1]) for pair in subject.pairs(2)) / 2
    values = torch.linalg.eigvalsh(matrix)
    assert found["largest"] == pytest.approx(float(values[-1]), abs=1e-9)
    assert found["smallest"] == pytest.approx(float(values[0]), abs=1e-9)
    assert found["largest_with_decay"] == pytest.approx(float(values[-1]) + 0.25, abs=1e-9)
    # with the decay as part of the loss, the matrix is shifted by it
    decayed = torch.linalg.eigvalsh(matrix + 0.25 * torch.eye(len(matrix), dtype=torch.float64))
    assert found["largest_with_decay"] == pytest.approx(float(decayed[-1]), abs=1e-9)
    assert found["trace"] == pytest.approx(float(matrix.trace()), abs=5 * found["trace_error"])
    assert 0 < found["trace_error"] < 0.2 * float(matrix.norm())


def test_sharpness_of_a_small_network_is_that_of_its_dense_hessian(tiny, few_digits):
    subject = beginning(
        tiny(
            method="gdas",
            space={"candidates": ["skip_connect", "nor_conv_1x1"]},
            train={
                "space": {
                    "channels": 2,
                    "cells": 1,
                    "stages": 2,
                    "candidates": ["skip_connect", "nor_conv_1x1"],
                }
            },
        ),
        few_digits,
    )()
    for w in subject.task.weights:
        w.data = w.data.double()
    for module in subject.network.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_floating_point():
                setattr(module, name, buffer.double())
    subject.state.logits = [
        torch.randn(a.shape, generator=torch.Generator().manual_seed(1)).double()
        for a in subject.state.logits
    ]
    train, _ = subject.pairs(1)[0]

    def double(samples):
        objective = replace(subject.task._objective(*subject.task.valid.batch(0, 0), 0, 0, 1))
        return replace(objective, images=objective.images.double())(samples)

    subject.task.steps = lambda epoch, start: iter([(train, double)])
    found = Sharpness(iterations=50, trace_samples=1, tolerance=0.0)(subject)
    values = torch.linalg.eigvalsh(dense_hessian(subject, double))
    assert found["largest"] == pytest.approx(float(values[-1]), abs=1e-9 + 1e-7 * float(values[-1]))
    assert found["smallest"] == pytest.approx(float(values[0]), abs=1e-9 + 1e-7 * float(values[-1]))
    assert float(values[-1]) > 1e-4


def test_sharpness_of_several_searches_is_the_mean_of_each():
    land = landscape()
    together = on_landscape(land, searches=3)
    found = Sharpness(iterations=40, trace_samples=2, tolerance=0.0)(together)
    each = []
    for s in range(3):
        alone = on_landscape(land)
        alone.state.logits[0].data = together.state.logits[0].data[s].clone()
        each.append(float(torch.linalg.eigvalsh(dense_hessian(alone, alone.pairs(1)[0][1]))[-1]))
    assert found["largest"] == pytest.approx(sum(each) / 3, rel=1e-9)
    assert len({round(x, 9) for x in each}) == 3


def test_the_mixture_is_looked_at_whatever_the_sampler_draws():
    """The landscape's second derivatives do not depend on the method's draws."""
    land = landscape()
    found = [
        Sharpness(iterations=40, tolerance=0.0)(on_landscape(land, method=method))["largest"]
        for method in ("snas", "gdas", "darts")
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-9)
    assert found[0] == pytest.approx(found[2], rel=1e-9)


def test_signal_and_noise_of_planted_gradients():
    """Softmax draws nothing, so the batches' slopes are all the noise: a closed form."""
    generator = torch.Generator().manual_seed(0)
    slopes = tuple(torch.randn(10, generator=generator, dtype=torch.float64) for _ in range(6))
    subject = planted_subject(1, slopes)
    found = Signal(batches=6)(subject)
    z = [torch.softmax(a.detach(), dim=-1) for a in subject.state.logits]

    def through(slope):  # dα_k = z_k (g_k − Σ z g), by row
        parts = torch.split(slope, [a.numel() for a in z])
        rows = [(p.view_as(a), a) for p, a in zip(parts, z, strict=True)]
        return torch.cat([(a * (g - (a * g).sum(-1, keepdim=True))).flatten() for g, a in rows])

    base = torch.cat([g.flatten() for g in subject.task.planted.first_order])
    gradients = torch.stack([base + through(slope) for slope in slopes])
    noise = float(gradients.var(dim=0).sum())
    signal = float(gradients.mean(dim=0).square().sum()) - noise / 6
    assert signal > 0
    assert found["noise"] == pytest.approx(math.sqrt(noise), rel=1e-9)
    assert found["signal"] == pytest.approx(math.sqrt(signal), rel=1e-9)
    assert found["ratio"] == pytest.approx(math.sqrt(signal / noise), rel=1e-9)
    pairs = [(a, b) for a in range(6) for b in range(a)]
    cosines = [float(torch.cosine_similarity(gradients[a], gradients[b], dim=0)) for a, b in pairs]
    assert found["cosine"] == pytest.approx(sum(cosines) / len(cosines), rel=1e-9)


def test_without_noise_there_is_no_ratio_and_without_signal_it_is_zero():
    same = Signal(batches=2)(planted_subject(0, ((), ())))
    assert same["noise"] == 0
    assert same["cosine"] == pytest.approx(1)
    assert "ratio" not in same
    slope = torch.ones(10).double() * torch.arange(10)
    opposed = planted_subject(0, (1000 * slope, -1000 * slope))
    assert Signal(batches=2)(opposed)["ratio"] == 0


def test_the_estimate_of_the_signal_has_no_bias():
    """Over many sets of batches the mean of ‖ḡ‖² − noise/B is ‖E g‖²: without clamping, by the parts."""
    generator = torch.Generator().manual_seed(3)
    true = torch.zeros(10).double()
    found = []
    for _ in range(300):
        slopes = tuple(true + torch.randn(10, generator=generator, dtype=torch.float64) for _ in range(4))
        subject = planted_subject(2, slopes)
        reading = Signal(batches=4)(subject)
        found.append(reading["signal"] ** 2)
    base = torch.cat([g.flatten() for g in planted_subject(2).task.planted.first_order])
    wanted, values = float(base.square().sum()), torch.tensor(found)
    error = float(values.std()) / math.sqrt(300)
    assert float(values.mean()) == pytest.approx(wanted, abs=4 * error)
    assert error < 0.1 * wanted


def test_agreement_is_the_cosine_of_the_closed_forms():
    subject = planted_subject(3)
    weights = subject.task.weights
    optimizer = torch.optim.SGD(weights, lr=0.1, momentum=0.9, weight_decay=0.03)
    for w, v in zip(weights, subject.task.planted.problem.weight_step.velocities, strict=True):
        optimizer.state[w]["momentum_buffer"] = v
    subject = replace(subject, state=replace(subject.state, weight_optimizer=optimizer))
    found = Agreement(batches=1)(subject)
    first, unrolled = (
        torch.cat([g.flatten() for g in getattr(subject.task.planted, name)])
        for name in ("first_order", "unrolled")
    )
    assert found["cosine"] == pytest.approx(float(torch.cosine_similarity(first, unrolled, dim=0)), rel=1e-9)
    assert found["correction"] == pytest.approx(float((unrolled - first).norm() / first.norm()), rel=1e-9)
    assert found["cosine"] < 0.999


def test_agreement_needs_weights():
    with pytest.raises(UserError, match="landscape"):
        Agreement()(on_landscape(landscape()))


# ---- the gap


def test_the_gap_on_a_landscape_is_exact():
    table = torch.rand(3, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    land = MultilinearLandscape(table)
    subject = on_landscape(land, searches=2)
    (p,) = subject.plan.policy.probabilities([a.detach() for a in subject.state.logits])
    found = Gap(samples=3)(subject)
    mixture = [float(torch.einsum("abc,a,b,c->", table, *rows)) for rows in p]
    derived = [float(table[tuple(rows.argmax(dim=-1).tolist())]) for rows in p]
    assert found["mixture_loss"] == pytest.approx(sum(mixture) / 2, rel=1e-9)
    assert found["derived_loss"] == pytest.approx(sum(derived) / 2, rel=1e-9)
    assert found["drop"] == pytest.approx((sum(derived) - sum(mixture)) / 2, rel=1e-9)
    assert found["best"] >= found["sampled"]


def test_random_architectures_of_the_gap_are_drawn_by_the_probabilities():
    """Chi-square at a fixed seed: of 3 candidates over 3 000 draws; 13.8 is the 0.1 % point of 2 degrees."""
    from archgrad.diagnostics.gap import _drawn

    p = torch.tensor([[0.6, 0.3, 0.1], [0.05, 0.15, 0.8]], dtype=torch.float64)
    subject = on_landscape(MultilinearLandscape(torch.rand(3, 3).double()))
    counts = torch.zeros(2, 3)
    for index in range(3000):
        (drawn,) = _drawn(subject, [p], index)
        counts[torch.arange(2), drawn.argmax(dim=-1)] += 1
    statistic = ((counts - 3000 * p).square() / (3000 * p)).sum(dim=-1)
    assert bool((statistic < 13.8).all()), statistic
    architecture = derive(subject.task.groups, [_drawn(subject, [p], 0)[0]], "argmax").architecture
    assert set(architecture) == set(subject.task.groups[0].names)


def test_statistics_are_the_plain_mean_over_the_training_batches(tiny, few_digits):
    """As PyTorch has them in a network that saw only these batches with momentum 1/n."""
    subject = beginning(tiny(method="darts"), few_digits)()
    network = subject.network
    samples = [
        Sample(p) for p in subject.plan.policy.probabilities([a.detach() for a in subject.state.logits])
    ]
    norm = next(m for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    norm.running_mean.add_(3)  # as of earlier steps
    norm.num_batches_tracked.add_(7)
    seen, inputs = [], []
    hook = norm.register_forward_hook(lambda m, x, y: inputs.append((m.training, x[0].detach().clone())))
    with untouched(subject):
        loss, accuracy = shared_accuracy(subject, samples, batches=2, calibration=3)
        seen = [norm.running_mean.clone(), norm.running_var.clone()]
    hook.remove()
    assert [training for training, _ in inputs] == [True] * 3 + [False] * 2
    means = [x.mean(dim=(0, 2, 3)) for training, x in inputs if training]
    variances = [x.var(dim=(0, 2, 3)) for training, x in inputs if training]
    torch.testing.assert_close(seen[0], torch.stack(means).mean(dim=0), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(seen[1], torch.stack(variances).mean(dim=0), atol=1e-6, rtol=1e-5)
    assert 0 <= accuracy <= 1
    assert loss > 0
    assert network.training
    assert norm.momentum == 0.1


def test_the_derived_architecture_runs_alone(tiny, few_digits):
    """The candidates that the architecture has not are not executed."""
    subject = beginning(tiny(method="darts"), few_digits)()
    ran = []
    for choice in subject.network.choices():
        for k, option in enumerate(choice.options):
            option.register_forward_hook(lambda m, x, y, k=k, n=choice.name: ran.append((n, k)))
    with untouched(subject):
        Gap(batches=1, calibration=1, samples=1)(subject)
    (group,) = subject.task.groups
    choices, cells = len(group.names), len(subject.network.choices()) // len(group.names)
    # two passes of the mixture, and two of each of two architectures
    assert len(ran) == 2 * cells * choices * len(group.candidates) + 2 * 2 * cells * choices


# ---- ranking


def test_ranking_is_of_connected_cells_and_perfect_where_accuracy_is_true(monkeypatch, tiny, few_digits):
    import archgrad.diagnostics.ranking as module
    from archgrad.landscapes.nasbench201 import NASBench201

    subject = beginning(tiny(method="darts"), few_digits)()
    table, cells = NASBench201.open(), Ranking(cells=20).drawn()
    assert len({table.index_of(a) for a in cells}) == 20
    truth = [table.value("cifar10_test_200ep", a) / 100 for a in cells]
    # a cell whose output does not depend on its input is at 10 %, as one in 45 of all are
    assert min(table.value("cifar10_test_200ep", a) for a in Ranking(cells=300).drawn()) > 11

    def known(sign):
        def accuracy(subject, samples, batches, calibration):
            index = cells_of[tuple(samples[0].weights.argmax(dim=-1).tolist())]
            return 0.0, sign * truth[index]

        return accuracy

    cells_of = {
        tuple(subject.network.one_hot(a)[0].weights.argmax(dim=-1).tolist()): n for n, a in enumerate(cells)
    }
    monkeypatch.setattr(module, "shared_accuracy", known(1))
    found = Ranking(cells=20)(subject)
    assert found["kendall_tau"] == pytest.approx(1)
    assert found["chosen"] == found["best"] == max(truth)
    monkeypatch.setattr(module, "shared_accuracy", known(-1))
    found = Ranking(cells=20)(subject)
    assert found["kendall_tau"] == pytest.approx(-1)
    assert found["chosen"] == min(truth)


def test_ranking_refuses_other_choices():
    with pytest.raises(UserError, match="NAS-Bench-201"):
        Ranking()(planted_subject())


# ---- the schedule


@dataclass(frozen=True)
class Counting:
    """A probe of one's own."""

    start: int = 1

    def __call__(self, subject):
        return {"seen": float(self.start + subject.epoch)}


@dataclass(frozen=True)
class Failing:
    """A probe that needs more memory than there is."""

    def __call__(self, subject):
        with torch.no_grad():
            subject.task.weights[0].add_(1)
        raise RuntimeError("out of memory\nsecond line")


def subject_at(epoch, epochs, warmup=0):
    subject = planted_subject()
    plan = replace(subject.plan, epochs=epochs, warmup_epochs=warmup)
    return replace(subject, plan=plan, epoch=epoch)


def test_probes_look_every_so_many_epochs_and_at_the_last():
    watch = Watch({"a": (3, Counting()), "b": (1, Counting())})
    found = [watch.due(subject_at(epoch, 8, warmup=2)) for epoch in range(8)]
    assert found == [[], [], ["a", "b"], ["b"], ["b"], ["a", "b"], ["b"], ["a", "b"]]


def test_a_probe_that_fails_is_left_out_and_said_once():
    watch = Watch({"failing": (1, Failing()), "counting": (1, Counting(7))})
    line = {"epoch": 0, "seconds": 1.0, "probabilities": {}, "architecture": {}}
    subject = subject_at(0, 5)
    before = subject.task.weights[0].detach().clone()
    found = watch.complete(line, [], subject)
    assert found["diagnostics"] == {"counting": {"seen": 7.0}}
    assert torch.equal(before, subject.task.weights[0])
    (sentence,) = watch.news()
    assert "'failing'" in sentence
    assert "out of memory" in sentence
    assert "second line" not in sentence
    assert watch.news() == []
    assert watch.due(subject_at(1, 5)) == ["counting"]
    assert found["seconds"] >= 1.0 == line["seconds"]


def test_a_run_is_the_same_with_probes_and_without(tiny, few_digits, tmp_path):
    settings = tiny(method="darts", search={"epochs": 3})
    looked = {**settings, "diagnostics": {"gap": 2, "sharpness": {"every": 1, "iterations": 3}, "signal": 3}}
    for name, given in (("plain", settings), ("looked", looked)):
        search_run(given, tmp_path / name, data=few_digits)
    plain, other = (Run(tmp_path / name).read_lines("metrics.jsonl") for name in ("plain", "looked"))
    names = [sorted(set(line["diagnostics"]) - set(RECORDS)) for line in other]
    assert names == [["sharpness"], ["gap", "sharpness"], ["gap", "sharpness", "signal"]]
    for a, b in zip(plain, other, strict=True):
        assert {k: v for k, v in a.items() if k not in ("seconds", "diagnostics")} == {
            k: v for k, v in b.items() if k not in ("seconds", "diagnostics")
        }
        assert a["diagnostics"] == {k: v for k, v in b["diagnostics"].items() if k in RECORDS}
    for name in ("logits.safetensors", "best.safetensors"):
        assert (tmp_path / "plain" / name).read_bytes() == (tmp_path / "looked" / name).read_bytes()
    stored = Run(tmp_path / "looked").read_config()["diagnostics"]
    assert stored == looked["diagnostics"]
    assert "diagnostics" not in Run(tmp_path / "plain").read_config()


# ---- the configuration


def refused(**diagnostics):
    with pytest.raises(ConfigError) as error:
        check(diagnostics.pop("given", {}) | {"diagnostics": diagnostics})
    return str(error.value)


def test_wrong_probes_are_refused_with_what_there_is():
    text = refused(sharpnes=1)
    assert "unknown 'sharpnes' - did you mean 'sharpness'?" in text
    assert "known: gap, sharpness, signal, agreement, ranking" in text
    assert "always on" in refused(entropy=1)
    assert "diagnostics.gap.batch: 'gap' has no such setting - did you mean 'batches'?" in refused(
        gap={"batch": 1}
    )
    assert "diagnostics.gap.samples: should be above 0" in refused(gap={"samples": 0})
    assert "batches=2 or more" in refused(signal={"batches": 1})
    assert "diagnostics.gap" in refused(gap=-1)
    assert "diagnostics.gap" in refused(gap="often")
    assert "diagnostics.gap" in refused(gap={"every": 0})


def test_probes_that_cannot_look_are_refused_with_the_reason():
    assert "true accuracies are known for" in refused(ranking=1)
    check({"data": {"name": "cifar10"}, "diagnostics": {"ranking": 1}})
    assert "does not train the logits" in refused(given={"method": "random"}, gap=1)
    assert "no gradient through the sampler" in refused(given={"method": "enas"}, agreement=1)
    text = {"space": {"name": "darts_rnn"}, "data": {"name": "wikitext2"}, "method": "darts"}
    assert "nothing reads batches" in refused(given=text, gap={"batches": 2})
    check({**text, "diagnostics": {"gap": 1, "sharpness": 2}})
    check({"method": "random", "diagnostics": {"gap": 0}})


def test_a_probe_of_ones_own_needs_no_registration():
    name = f"{__name__}:Counting"
    config = check({"diagnostics": {name: {"every": 2, "start": 3}}})
    watch = Watch.of(config)
    every, probe = watch.probes[name]
    assert (every, probe.start) == (2, 3)
    assert "has no such setting" in refused(**{name: {"begin": 3}})
    assert check(config.document()).diagnostics == config.diagnostics
