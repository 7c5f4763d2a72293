"""Landscapes: the contract for every entry, what is planted, noise, the task, the contract's own teeth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytest
import torch
from scipy.stats import kendalltau, normaltest
from torch import Tensor

from archgrad.choice import Group, Sample
from archgrad.errors import UserError
from archgrad.hypergradients.first_order import FirstOrder
from archgrad.landscapes import LANDSCAPES, NOISES
from archgrad.landscapes.build import build
from archgrad.landscapes.landscape import Landscape, architecture_at, exact_gradient
from archgrad.landscapes.multilinear import MultilinearLandscape
from archgrad.landscapes.nasbench201 import NASBench201
from archgrad.landscapes.noise import additive, correlated, per_step, tabulate
from archgrad.landscapes.pairwise import best_path, pairwise
from archgrad.landscapes.plateau import plateau
from archgrad.landscapes.separable import separable
from archgrad.landscapes.task import LandscapeObjective, LandscapeTask, shares
from archgrad.landscapes.tensor_train import TensorTrain
from archgrad.problem import Outcome, Problem
from archgrad.randomness import Streams
from archgrad.samplers.binary_concrete import BinaryConcrete
from archgrad.samplers.gumbel_max import GumbelMax
from archgrad.samplers.noisy_gumbel_softmax import NoisyGumbelSoftmax
from archgrad.samplers.sampler import Sampler, law_of
from archgrad.samplers.softmax import Softmax
from archgrad.samplers.straight_through import StraightThrough
from archgrad.samplers.two_path import TwoPath
from archgrad.testing import landscapes as laws
from archgrad.testing.landscapes import check_landscape
from archgrad.testing.law import BrokenLaw

PLANTED = ("separable", "pairwise", "deceptive", "plateau")
SIZES = [(1, 2), (2, 2), (2, 3), (3, 2), (4, 3), (5, 2), (6, 5), (7, 3)]


def sized(name: str, choices: int, candidates: int) -> bool:
    return name != "deceptive" or (choices > 1 and (choices, candidates) != (2, 2))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def leaf(*shape: int, scale: float = 1e-3) -> Tensor:
    """Logits of independent searches."""
    return (scale * torch.randn(shape, generator=seeded())).requires_grad_()


def regret(landscape: Landscape, index: Tensor) -> Tensor:
    """How much worse than the best architecture, on the truth: index [..., E] -> [...]."""
    return landscape.truth.values(index) - landscape.truth.best


# the contract, over the table


def test_the_table_is_what_is_tested() -> None:
    assert (*PLANTED, "nasbench201") == (*PLANTED, *(n for n in LANDSCAPES if n not in PLANTED))
    assert len(LANDSCAPES) == 5
    assert list(NOISES) == ["additive", "correlated"]


@pytest.mark.parametrize("name", LANDSCAPES)
def test_every_landscape_keeps_the_contract(name: str) -> None:
    landscape = LANDSCAPES[name]()
    check_landscape(landscape)
    check_landscape(landscape.truth)


@pytest.mark.parametrize(
    "noise", [{"name": "additive", "sigma": 0.1}, {"name": "correlated", "kendall_tau": 0.5}]
)
@pytest.mark.parametrize("name", ["pairwise", "nasbench201"])
def test_noisy_landscapes_keep_it_too(name: str, noise: dict[str, Any]) -> None:
    check_landscape(build(name, noise))


@pytest.mark.parametrize("name", PLANTED)
def test_large_landscapes_keep_it(name: str) -> None:
    check_landscape(LANDSCAPES[name](choices=40, candidates=8))


# what is planted


@pytest.mark.parametrize(("choices", "candidates"), SIZES)
@pytest.mark.parametrize("name", PLANTED)
def test_planted_against_the_enumerated_table(name: str, choices: int, candidates: int) -> None:
    """The closed form is the table's extension, and optimum, best and worst are those of the table."""
    if not sized(name, choices, candidates):
        with pytest.raises(UserError, match=r"at least 2 choice|too few to deceive"):
            LANDSCAPES[name](choices, candidates)
        return
    z = torch.randn(3, choices, candidates, generator=seeded(), dtype=torch.float64)
    for seed in range(3):
        landscape = LANDSCAPES[name](choices, candidates, seed)
        table = tabulate(landscape)
        enumerated = MultilinearLandscape(table)
        torch.testing.assert_close(landscape.value(z), enumerated.value(z), rtol=1e-11, atol=1e-11)
        assert enumerated.optimum == landscape.optimum
        assert int((table <= table.min() + 1e-9).sum()) == 1  # no other is as good
        assert landscape.best == pytest.approx(0, abs=1e-12)
        assert float(table.max()) == pytest.approx(landscape.worst, abs=1e-12)


@pytest.mark.parametrize("name", PLANTED)
def test_planted_landscapes_are_functions_of_their_seed(name: str) -> None:
    z = torch.rand(6, 5, generator=seeded(), dtype=torch.float64)
    first, again, other = (LANDSCAPES[name](seed=s) for s in (1, 1, 2))
    assert torch.equal(first.value(z), again.value(z))
    assert not torch.equal(first.value(z), other.value(z))
    with pytest.raises(UserError, match=r"at least . choice.* and 2 candidates, got choices=3, candidates=1"):
        LANDSCAPES[name](3, 1)


def means_of(table: Tensor) -> Tensor:
    """The mean loss of each candidate, the others drawn uniformly. [E, K]."""
    return torch.stack([table.movedim(e, 0).flatten(1).mean(dim=1) for e in range(table.dim())])


def test_separable_has_the_same_gradient_everywhere() -> None:
    landscape = separable()
    uniform = torch.full((6, 5), 0.2, dtype=torch.float64)
    table = tabulate(landscape)
    assert means_of(table).argmin(dim=1).tolist() == list(landscape.optimum)
    slopes = MultilinearLandscape(table).gradient(
        torch.softmax(torch.randn(6, 5, generator=seeded()), -1).double()
    )
    wanted = MultilinearLandscape(table).gradient(uniform)
    centred = [g - g.mean(dim=1, keepdim=True) for g in (slopes, wanted)]
    torch.testing.assert_close(*centred)


def test_pairwise_is_not_separable_and_its_path_is_the_best() -> None:
    hessian = (
        MultilinearLandscape(tabulate(pairwise(4, 3))).hessian(torch.full((4, 3), 1 / 3)).view(4, 3, 4, 3)
    )
    for e, other in ((0, 1), (1, 2), (2, 3)):
        block = hessian[e, :, other]
        interaction = block - block.mean(0) - block.mean(1, keepdim=True) + block.mean()
        assert float(interaction.abs().max()) > 0.01
    far = hessian[0, :, 3]
    torch.testing.assert_close(far - far.mean(0) - far.mean(1, keepdim=True) + far.mean(), torch.zeros(3, 3))
    path, least = best_path(torch.tensor([[0.0, 1.0], [5.0, 0.0]]), torch.tensor([[[0.0, 9.0], [0.0, 1.0]]]))
    assert (path, least) == ([1, 1], 2.0)


@pytest.mark.parametrize(("choices", "candidates"), [s for s in SIZES if sized("deceptive", *s)])
def test_deceptive_misleads_in_every_choice(choices: int, candidates: int) -> None:
    for seed in range(3):
        landscape = LANDSCAPES["deceptive"](choices, candidates, seed)
        means = means_of(tabulate(landscape))
        optimum = torch.tensor(landscape.optimum)
        assert bool((means.argmin(dim=1) != optimum).all())
        # gradient descent from the middle goes where the means point, and misses
        logits = torch.zeros(choices, candidates, dtype=torch.float64)
        for _ in range(300):
            logits = logits - 20 * exact_gradient(landscape, logits)
        assert logits.argmax(dim=1).tolist() == means.argmin(dim=1).tolist()


def test_plateau_is_flat_but_for_a_small_region() -> None:
    table = tabulate(plateau())
    assert sorted(set(table.flatten().tolist())) == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert float((table < 1).double().mean()) == pytest.approx(0.01696)  # P(Binomial(6, 1/5) ≥ 4)


def test_cores_that_do_not_fit_are_refused() -> None:
    for cores in ([], [torch.zeros(1, 2, 3)], [torch.zeros(1, 2, 1), torch.zeros(1, 3, 1)], [torch.zeros(2)]):
        with pytest.raises(UserError, match="wanted cores"):
            TensorTrain(cores, (0,), 1.0)


# noise


def test_additive_noise_is_a_fixed_normal_error() -> None:
    truth = build("nasbench201")
    noisy = additive(truth, 0.05, seed=3)
    assert isinstance(truth, MultilinearLandscape)
    error = (noisy.table - truth.table).flatten()
    assert float(error.std()) == pytest.approx(0.05, rel=0.03)
    assert normaltest(error.numpy()).pvalue > 1e-3
    assert noisy.truth is truth.truth
    assert torch.equal(additive(truth, 0.05, seed=3).table, noisy.table)
    assert not torch.equal(additive(truth, 0.05, seed=4).table, noisy.table)
    assert torch.equal(additive(truth, 0.0).table, truth.table)


@pytest.mark.parametrize("tau", [-1.0, -0.4, 0.0, 0.2, 0.6, 0.9, 1.0])
@pytest.mark.parametrize("name", ["nasbench201", "separable"])
def test_correlated_noise_has_the_rank_correlation_asked_for(name: str, tau: float) -> None:
    landscape = build(name)
    noisy = correlated(landscape, tau, seed=1)
    truth = tabulate(landscape.truth)
    assert kendalltau(truth.numpy().ravel(), noisy.table.numpy().ravel()).statistic == pytest.approx(
        tau, abs=0.01
    )
    assert torch.equal(noisy.table.flatten().sort().values, truth.flatten().sort().values)
    assert noisy.truth is landscape.truth
    assert torch.equal(correlated(landscape, tau, seed=1).table, noisy.table)


def test_noise_per_step_has_its_deviation_at_every_architecture() -> None:
    """10,000 errors at one architecture: the relative error of a deviation is 0.7 %."""
    landscape = separable()
    z = torch.nn.functional.one_hot(torch.tensor([0, 1, 2, 3, 4, 0]), 5).double()
    errors = per_step(landscape, 0.3, seeded(), (10_000,))(z)
    assert errors.shape == (10_000,)
    assert float(errors.std()) == pytest.approx(0.3, rel=0.03)
    assert float(errors.mean()) == pytest.approx(0, abs=4 * 0.3 / 100)
    assert normaltest(errors.numpy()).pvalue > 1e-3
    error = per_step(landscape, 0.3, seeded())
    assert torch.equal(error(z), error(z))
    one = z.clone().requires_grad_()
    (slope,) = torch.autograd.grad(error(one), one)
    assert bool((slope != 0).all())


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: additive(separable(), -0.1), "sigma=-0.1"),
        (lambda: additive(separable(), float("nan")), "sigma=nan"),
        (lambda: per_step(separable(), float("inf"), seeded()), "sigma=inf"),
        (lambda: additive(separable(20, 5), 0.1), "too many for a table"),
        (lambda: correlated(separable(), 1.5), "kendall_tau=1.5"),
        (lambda: correlated(separable(2, 2), 0.5), "the nearest has"),
        (lambda: correlated(MultilinearLandscape(torch.zeros(3, 3)), 0.5), "too many equal losses"),
    ],
)
def test_noise_that_cannot_be(call: Callable[[], object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        call()


def test_building_by_name() -> None:
    built = build("separable", {"name": "additive", "sigma": 0.1, "seed": 2}, choices=3, candidates=4)
    assert torch.equal(tabulate(built), additive(separable(3, 4), 0.1, 2).table)
    for call, said in (
        (lambda: build("seperable"), "did you mean 'separable'"),
        (lambda: build("separable", choice=3), "has no setting 'choice' - did you mean 'choices'"),
        (lambda: build("separable", {"sigma": 1}), "noise needs a name, one of additive, correlated"),
        (
            lambda: build("separable", {"name": "additive"}),
            "noise 'additive' needs the setting 'sigma'",
        ),
        (lambda: build("separable", {"name": "additive", "sigma": 1, "landscape": 2}), "no setting"),
        (lambda: build("separable", {"name": "adaptive"}), "did you mean 'additive'"),
    ):
        with pytest.raises(UserError, match=said):
            call()


class Crater(TensorTrain):
    """A landscape of somebody's own, as a class."""

    def __init__(self, depth: float) -> None:
        super().__init__([torch.tensor([[[0.0], [depth]]])], [0], depth)


def untyped(depth):  # type: ignore[no-untyped-def]
    return Crater(depth)


@pytest.mark.parametrize(
    ("name", "noise", "settings", "said"),
    [
        ("separable", None, {"choices": "abc"}, "'separable': choices should be a valid integer, got 'abc'"),
        ("separable", None, {"choices": 2.5}, "choices should be a valid integer, got 2.5"),
        ("separable", None, {"choices": True}, "choices should be a valid integer, got True"),
        ("deceptive", None, {"seed": "x"}, "'deceptive': seed should be a valid integer, got 'x'"),
        ("nasbench201", None, {"column": 3}, "column should be a valid string, got 3"),
        ("separable", None, {"name": "pairwise"}, "has no setting 'name'; it takes choices"),
        ("separable", None, {"noise": {"name": "additive"}}, "has no setting 'noise' - did"),
        ("separable", {"name": "additive", "sigma": "abc"}, {}, "'additive': sigma should be a valid number"),
        ("separable", {"name": "additive", "sigma": True}, {}, "sigma should be a valid number, got True"),
        ("separable", {"name": "correlated", "kendall_tau": "abc"}, {}, "kendall_tau should be a valid num"),
        ("separable", {"name": "additive", "sigma": 1, "seed": 0.5}, {}, "seed should be a valid integer"),
        ("separable", {"name": 3}, {}, "noise needs a name, one of additive"),
        (f"{__name__}:Crater", None, {"depth": "deep"}, "depth should be a valid number, got 'deep'"),
    ],
)
def test_settings_of_a_wrong_type_are_refused(
    name: str, noise: dict[str, Any] | None, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        build(name, noise, **settings)


def test_what_fits_is_built_with_its_types_or_without() -> None:
    assert build("separable", {"name": "additive", "sigma": 1}, choices=2).best < 0  # a whole number, too
    assert build(f"{__name__}:Crater", depth=2).worst == 2
    assert build(f"{__name__}:untyped", depth=0.5).worst == 0.5


# the task


def test_the_objective_is_the_landscape() -> None:
    landscape = separable()
    task = LandscapeTask(landscape, searches=7, steps_per_epoch=3)
    alpha = leaf(7, 6, 5, scale=1.0)
    assert (task.groups, task.weights, task.buffers) == (landscape.groups, [], [])
    pairs = list(task.steps(0, 1))
    assert len(pairs) == 2
    for objective in pairs[0]:
        outcome: Outcome = objective([Softmax()(alpha, 1.0, seeded())])
        p = torch.softmax(alpha, dim=-1)
        assert torch.equal(outcome.loss, landscape.value(p))
        assert outcome.images == 1
        assert not outcome.task_loss.requires_grad
        torch.testing.assert_close(outcome.task_loss, landscape.value(p).mean())
        torch.testing.assert_close(outcome.correct, 1 - outcome.task_loss)
        (gradient,) = torch.autograd.grad(outcome.loss.sum(), alpha)
        torch.testing.assert_close(gradient, exact_gradient(landscape, alpha))
    loss, accuracy = task.evaluate(lambda step: [Softmax()(alpha, 1.0, seeded())])
    mean = float(landscape.value(p.detach()).mean())
    assert (loss, accuracy) == pytest.approx((mean, 1 - mean))


@pytest.mark.parametrize("batched", [False, True])
def test_active_leaves_out_what_did_not_run(batched: bool) -> None:
    landscape = pairwise()
    shape = (4, 6, 5) if batched else (6, 5)
    logits = torch.randn(shape, generator=seeded(1), dtype=torch.float64)
    sample = GumbelMax()(logits, 1.0, seeded())
    z = sample.weights.detach().requires_grad_()
    slopes = {}
    for observe in ("all", "active"):
        loss = LandscapeObjective(landscape, observe)([sample._replace(weights=z)]).loss
        (slopes[observe],) = torch.autograd.grad(loss.sum(), z)
    assert bool((slopes["all"] != 0).sum() > (slopes["active"] != 0).sum())
    torch.testing.assert_close(slopes["active"], slopes["all"] * z.detach())


def test_active_takes_the_sample_at_its_word() -> None:
    """A candidate that ran with weight 0 has a gradient, and a choice may have no active one."""
    z = torch.eye(3, dtype=torch.float64)[:2].requires_grad_()
    sample = Sample(z, active=((0, 2), ()))
    loss = LandscapeObjective(pairwise(2, 3), "active")([sample]).loss
    (slope,) = torch.autograd.grad(loss, z)
    assert (slope != 0).tolist() == [[True, False, True], [False, False, False]]


@pytest.mark.parametrize(
    "sampler", [TwoPath(), BinaryConcrete(hard=True), NoisyGumbelSoftmax(candidate_dropout=0.5)], ids=repr
)
def test_of_many_searches_each_sees_the_gates_that_it_sees_alone(sampler: Sampler) -> None:
    """Also of what ran with weight 0: the second of a pair, the nearest of a choice that is closed."""
    landscape = pairwise()
    alone = (torch.randn(6, 5, generator=seeded(1), dtype=torch.float64) - 2).requires_grad_()
    batch = alone.detach()[None].clone().requires_grad_()
    objective = LandscapeObjective(landscape, "active", gates=law_of(sampler) == "gates", offset=0.4)
    for seed in range(20):
        found, wanted = (
            torch.autograd.grad(objective([sampler(a, 0.7, seeded(seed))]).loss.sum(), a)[0]
            for a in (batch, alone)
        )
        torch.testing.assert_close(found[0], wanted, rtol=1e-12, atol=1e-14)
        assert bool(wanted.any())


def test_a_sample_of_another_shape_than_what_ran_is_refused() -> None:
    sample = Sample(torch.full((2, 6, 5), 0.2), ran=torch.ones(2, 1, 5, dtype=torch.bool))
    with pytest.raises(UserError, match=r"the shape of its weights, \[2, 6, 5\]; got \[2, 1, 5\]"):
        LandscapeObjective(pairwise(), "active")([sample])


def test_a_pair_has_the_gradient_that_it_has_with_all_gates_seen() -> None:
    """Two paths looks at its pair only, so nothing is lost by leaving out the others."""
    landscape = pairwise()
    alpha = torch.randn(50, 6, 5, generator=seeded(1), dtype=torch.float64).requires_grad_()
    sample = [TwoPath()(alpha, 1.0, seeded(2))]
    found, wanted = (
        torch.autograd.grad(objective(sample).loss.sum(), alpha, retain_graph=True)[0]
        for objective in (LandscapeObjective(landscape, "active"), LandscapeObjective(landscape, "all"))
    )
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("observe", ["all", "active"])
def test_an_undrawn_gate_cannot_be_added_to_a_landscape(observe: Literal["all", "active"]) -> None:
    sample = StraightThrough("scalar")(torch.zeros(3, 6, 5), 1.0, seeded())
    with pytest.raises(UserError, match=r"no output.*set sampler\.unselected to nothing"):
        LandscapeObjective(pairwise(), observe)([sample])


def test_the_shares_of_gates_and_their_slopes() -> None:
    """Open rows as z / Σ z, s_j' = (δ_jk − s_j)/Σ z; closed ones uniform, with the slope of a sum of 1."""
    gates = torch.tensor([[1.0, 0, 1, 0], [0.2, 0.1, 0.0, 0.7], [0, 0, 0, 0]], dtype=torch.float64)
    wanted = torch.tensor([[0.5, 0, 0.5, 0], [0.2, 0.1, 0.0, 0.7], [0.25] * 4], dtype=torch.float64)
    torch.testing.assert_close(shares(gates), wanted, rtol=0, atol=4e-6)
    for row, share in zip(gates, wanted, strict=True):
        found = torch.autograd.functional.jacobian(shares, row)
        slope = (torch.eye(4).double() - share[:, None]) / max(1.0, float(row.sum()))
        torch.testing.assert_close(found, slope, rtol=0, atol=5.001e-6)  # (K + 1)·1e-6


@pytest.mark.parametrize("observe", ["all", "active"])
def test_hard_gates_have_bounded_gradients(observe: Literal["all", "active"]) -> None:
    """|dL/dα_k| ≤ (spread of the losses)·max dz/dα = 1·1/(4τ), also where whole rows are closed."""
    alpha = (leaf(2000, 4, 3, scale=1.0).detach() - 2).requires_grad_()
    sample = BinaryConcrete(hard=True)(alpha, 0.5, seeded(1))
    closed = (sample.weights == 0).all(dim=-1)
    assert 0.5 < float(closed.double().mean()) < 0.9
    loss = LandscapeObjective(separable(4, 3), observe, gates=True)([sample]).loss
    (found,) = torch.autograd.grad(loss.sum(), alpha)
    assert bool(found[closed].any())
    assert float(found.abs().max()) <= 0.5


def test_first_order_on_many_searches_is_the_exact_gradient() -> None:
    landscape = pairwise()
    task = LandscapeTask(landscape, searches=7)
    alpha = leaf(7, 6, 5, scale=1.0)
    train, valid = next(task.steps(0, 0))

    def draw(logits: Sequence[Tensor], repeat: int = 0) -> list[Sample]:
        return [Softmax()(a, 1.0, seeded()) for a in logits]

    found = FirstOrder()(Problem(train, valid, draw, task.weights, task.buffers), [alpha])
    torch.testing.assert_close(found.gradients[0], exact_gradient(landscape, alpha))
    assert found.outcome.loss.shape == (7,)


def searched(observe: Literal["all", "active"], rate: float, steps: int) -> Tensor:
    """Regrets [200] of straight-through searches of a separable landscape by plain gradient descent."""
    landscape = separable(4, 3, seed=1)
    task = LandscapeTask(landscape, searches=200, observe=observe, steps_per_epoch=steps)
    alpha = leaf(200, 4, 3)
    streams = Streams(0)
    for step, (_, valid) in enumerate(task.steps(0, 0)):
        outcome = valid([StraightThrough()(alpha, 1.0, streams.generator("draw", step))])
        (gradient,) = torch.autograd.grad(outcome.loss.sum(), alpha)
        with torch.no_grad():
            alpha -= rate * gradient
    return regret(landscape, alpha.argmax(dim=-1))


def test_two_hundred_searches_at_once() -> None:
    """With all gates seen every search succeeds. With the drawn ones only, a gate's slope is the loss of the
    whole architecture, nothing is there to compare it with, and large steps lock in what was drawn
    early: 49 % succeed at rate 2, 90 % at rate ½, all at 0.05 (a slower test).
    """
    assert searched("all", 2.0, 150).tolist() == [0.0] * 200
    hasty, patient = (
        float((searched("active", rate, steps) == 0).double().mean())
        for rate, steps in ((2.0, 150), (0.5, 600))
    )
    assert patient > 0.85
    assert hasty < patient - 0.2


def test_the_steps_error_is_fresh_and_repeatable() -> None:
    landscape = separable()
    task = LandscapeTask(landscape, searches=2, step_noise=0.2, streams=Streams(1), steps_per_epoch=4)
    sample = [Softmax()(torch.zeros(2, 6, 5), 1.0, seeded())]
    losses = [objective(sample).loss for pair in task.steps(0, 0) for objective in pair]
    assert len({round(float(x), 6) for loss in losses for x in loss}) == 4 * 2 * 2  # step, part, search
    again = [objective(sample).loss for pair in task.steps(0, 2) for objective in pair]
    assert all(torch.equal(a, b) for a, b in zip(again, losses[4:], strict=True))
    first = next(task.steps(1, 0))[0]
    assert torch.equal(first(sample).loss, first(sample).loss)
    assert not torch.equal(first(sample).loss, losses[0])
    quiet = LandscapeTask(landscape).evaluate(lambda step: sample)
    assert task.evaluate(lambda step: sample) == quiet


def test_regret_is_of_the_truth() -> None:
    landscape = build("nasbench201", column="cifar100_valid_12ep", truth="cifar100_test_200ep")
    assert float(regret(landscape, torch.tensor(landscape.truth.optimum))) == 0
    table = NASBench201.open()
    found = architecture_at(landscape, landscape.optimum)
    wanted = table.regret("cifar100_test_200ep", found) / 100
    assert wanted > 0
    assert float(regret(landscape, torch.tensor(landscape.optimum))) == pytest.approx(wanted, abs=1e-7)
    every = torch.cartesian_prod(*[torch.arange(5)] * 6)
    assert float(regret(landscape, every).min()) == 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"observe": "some"}, "observe is one of all, active, got 'some'"),
        ({"searches": 0}, "searches=0"),
        ({"steps_per_epoch": 0}, "steps_per_epoch=0"),
        ({"step_noise": 0.1}, "needs streams"),
        ({"step_noise": -0.1, "streams": Streams(0)}, "sigma=-0.1"),
    ],
)
def test_a_task_that_cannot_be(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        LandscapeTask(separable(), **settings)


# the contract's own teeth


class Broken(MultilinearLandscape):
    """A good landscape that the cases below break in one place each."""

    def __init__(self) -> None:
        table = torch.rand(3, 3, 3, generator=seeded(), dtype=torch.float64)
        super().__init__(table)


class WrongPrecision(Broken):
    def value(self, z: Tensor) -> Tensor:
        return super().value(z).double()


class Scribbling(Broken):
    def value(self, z: Tensor) -> Tensor:
        if not z.requires_grad:
            z.mul_(0.5)
        return super().value(z)


class OtherOrder(Broken):
    def values(self, index: Tensor) -> Tensor:
        return super().values(index.flip(-1))


class Normalising(Broken):
    def value(self, z: Tensor) -> Tensor:
        return super().value(z / z.sum(dim=-1, keepdim=True))


class Detached(Broken):
    def value(self, z: Tensor) -> Tensor:
        return super().value(torch.cat([z[..., :1, :].detach(), z[..., 1:, :]], dim=-2))


class SecondBest(Broken):
    @property
    def optimum(self) -> tuple[int, ...]:
        second = int(self.table.flatten().argsort()[1])
        return tuple(int(k) for k in torch.unravel_index(torch.tensor(second), self.table.shape))

    @property
    def best(self) -> float:
        return float(self.values(torch.tensor(self.optimum)))


class WrongBest(Broken):
    @property
    def best(self) -> float:
        return float(self.table.min()) - 0.1


class TooMildAWorst(Broken):
    @property
    def worst(self) -> float:
        return float(self.table.max()) - 0.01


class Mixing(Broken):
    def value(self, z: Tensor) -> Tensor:
        value = super().value(z)
        return value if value.dim() == 0 else value + 1e-6 * (value.sum() - value)


class OtherTruth(Broken):
    @property
    def truth(self) -> MultilinearLandscape:
        return MultilinearLandscape(torch.zeros(3, 3, 3), Group(("a", "b", "c"), ("x", "y", "z")))


class EndlessTruth(Broken):
    @property
    def truth(self) -> EndlessTruth:
        return EndlessTruth()


BROKEN: Sequence[tuple[type[Broken], str]] = [
    (WrongPrecision, laws.FORM),
    (Scribbling, laws.FORM),
    (OtherOrder, laws.LOOK_UP),
    (Normalising, laws.LINEAR),
    (Detached, laws.GRADIENT),
    (SecondBest, laws.OPTIMUM),
    (WrongBest, laws.OPTIMUM),
    (TooMildAWorst, laws.OPTIMUM),
    (OtherTruth, laws.TRUTH),
    (EndlessTruth, laws.TRUTH),
]


@pytest.mark.parametrize(("part", "law"), BROKEN, ids=[part.__name__ for part, _ in BROKEN])
def test_a_broken_landscape_is_caught(part: type[Broken], law: str) -> None:
    check_landscape(Broken())
    with pytest.raises(BrokenLaw) as caught:
        check_landscape(part())
    assert caught.value.law == law


def test_members_that_touch_are_caught() -> None:
    with pytest.raises(BrokenLaw) as caught:
        laws._check_batch(Mixing(), torch.rand(3, 2, 3, 3, generator=seeded(), dtype=torch.float64), 1.0)
    assert caught.value.law == laws.BATCH
