"""Samplers: the contract for every entry, closed forms and enumerations, and the contract's own teeth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest
import torch
from torch import Tensor

from archgrad.choice import Sample
from archgrad.errors import UserError
from archgrad.samplers import SAMPLERS
from archgrad.samplers.binary_concrete import BinaryConcrete
from archgrad.samplers.decoupled_straight_through import DecoupledStraightThrough
from archgrad.samplers.dirichlet import Dirichlet
from archgrad.samplers.gumbel_noise import gumbel_noise
from archgrad.samplers.gumbel_rao import GumbelRao
from archgrad.samplers.gumbel_softmax import GumbelSoftmax
from archgrad.samplers.sampler import Law, Sampler, active_rows, law_of
from archgrad.samplers.softmax import Softmax
from archgrad.samplers.straight_through import StraightThrough
from archgrad.samplers.two_path import TwoPath
from archgrad.samplers.uniform import Uniform
from archgrad.samplers.wrong_noise import WrongNoise
from archgrad.testing import BrokenLaw, check_sampler
from archgrad.testing import samplers as laws
from archgrad.testing.samplers import chi_square_p, mean_p

LOGITS = torch.tensor([[0.0, 0.5, 1.0, -1.0], [2.0, -0.3, 0.1, 0.4]], dtype=torch.float64)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@dataclass(frozen=True)
class Surrogate:
    """The soft counterpart of a hard sampler, as its paper writes it; not meant for large logits."""

    uses_temperature: ClassVar[bool] = True
    one_active: ClassVar[bool] = False

    def probabilities(self, logits: Tensor) -> Tensor:
        return torch.softmax(logits, dim=-1)


class HeunOfStraightThrough(Surrogate):
    """ReinMax's algorithm 2: the softmax moved to where it is (D + π)/2."""

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        drawn = torch.zeros_like(logits)
        noise = gumbel_noise(logits, generator)
        drawn.scatter_(-1, (logits + noise).argmax(-1, keepdim=True), 1.0)
        middle = (drawn + torch.softmax(logits / tau, dim=-1)) / 2
        moved = torch.softmax((middle.log() - logits).detach() + logits, dim=-1)
        return Sample(2 * moved - torch.softmax(logits, dim=-1) / 2)


class ConditionalMixture(Surrogate):
    """Gumbel-Rao's mean of softmax((α + G_s)/τ) over noise given the draw, in exponentials and sums."""

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        k = (logits + gumbel_noise(logits, generator)).argmax(-1, keepdim=True)
        z = logits.detach().exp().sum(-1, keepdim=True)
        softs = []
        x = torch.exp(-gumbel_noise(logits.detach().expand(10, *logits.shape), generator))
        for x_s in x:
            top = x_s.gather(-1, k) / z
            y = -(x_s / logits.detach().exp() + top).log()
            y.scatter_(-1, k, -top.log())
            softs.append(torch.softmax((logits + (y - logits).detach()) / tau, dim=-1))
        return Sample(torch.stack(softs).mean(0))


class NoiselessSoftmax(Surrogate):
    """softmax(α/τ_b) with τ_b = 1, the default; the temperature it is called with is another's."""

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        return Softmax()(logits, 1.0, generator)


class SoftmaxOfThePair(Surrogate):
    """two_path's q, the softmax over the two candidates that it draws; the others have weight 0."""

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        pair = (logits + gumbel_noise(logits, generator)).topk(2, dim=-1).indices
        outside = torch.ones_like(logits, dtype=torch.bool).scatter(-1, pair, False)
        return Sample(torch.softmax(logits.masked_fill(outside, -torch.inf), dim=-1))


class LogProbability(Surrogate):
    """1 + log p: on the drawn candidate the gradient of score_gate."""

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        return Sample(1 + torch.log_softmax(logits, dim=-1))


SURROGATES = {
    "straight_through": GumbelSoftmax(),
    "reinmax": HeunOfStraightThrough(),
    "gumbel_rao": ConditionalMixture(),
    "decoupled_straight_through": NoiselessSoftmax(),
    "score_gate": LogProbability(),
    "two_path": SoftmaxOfThePair(),
}


def test_the_table_has_fourteen_samplers() -> None:
    assert list(SAMPLERS) == [
        "softmax",
        "gumbel_softmax",
        "straight_through",
        "gumbel_max",
        "reinmax",
        "gumbel_rao",
        "decoupled_straight_through",
        "score_gate",
        "two_path",
        "sigmoid",
        "binary_concrete",
        "noisy_gumbel_softmax",
        "dirichlet",
        "uniform",
    ]


def test_the_laws_of_the_samplers() -> None:
    """Every other sampler's argmax follows its probabilities."""
    laws_declared = {name: law_of(SAMPLERS[name]()) for name in SAMPLERS}
    assert {n: law for n, law in laws_declared.items() if law != "argmax"} == {
        "decoupled_straight_through": "tempered argmax",
        "dirichlet": "mean",
        "sigmoid": "gates",
        "binary_concrete": "gates",
    }


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_keeps_the_contract(name: str) -> None:
    check_sampler(SAMPLERS[name](), surrogate=SURROGATES.get(name))


RANDOM = [name for name in SAMPLERS if name not in ("softmax", "sigmoid", "dirichlet")]


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("tau", [0.1, 1.0, 10.0])
def test_argmax_frequencies_at_other_seeds(name: str, tau: float) -> None:
    """One seed could be lucky: p-values of three are not all small, at every temperature."""
    assert max(chi_square_p(SAMPLERS[name](), tau, 10_000, seed) for seed in (11, 12, 13)) > 0.05


def test_the_mean_law_at_other_seeds() -> None:
    for p_values in zip(*(mean_p(Dirichlet(), 1.0, 10_000, seed) for seed in (11, 12, 13)), strict=True):
        assert max(p_values) > 0.05


# --- values and gradients in closed form ---------------------------------------------------------


@pytest.mark.parametrize("tau", [0.25, 1.0, 4.0])
def test_softmax_value_and_jacobian(tau: float) -> None:
    """∂z_j/∂α_k = z_j(δ_jk − z_k)/τ, zero between choices."""
    z = Softmax()(LOGITS, tau, seeded()).weights
    exponentials = [[torch.exp(a / tau) for a in row] for row in LOGITS]
    expected = torch.stack([torch.stack([e / sum(row) for e in row]) for row in exponentials])
    torch.testing.assert_close(z, expected, rtol=0, atol=1e-14)
    jacobian = torch.autograd.functional.jacobian(lambda a: Softmax()(a, tau, seeded()).weights, LOGITS)
    for e in range(2):
        for f in range(2):
            wanted = (torch.diag(z[e]) - torch.outer(z[e], z[e])) / tau if e == f else torch.zeros(4, 4)
            torch.testing.assert_close(jacobian[e, :, f], wanted.to(z), rtol=0, atol=1e-14)


@pytest.mark.parametrize("tau", [0.5, 2.0])
def test_gumbel_softmax_is_the_softmax_of_perturbed_logits(tau: float) -> None:
    noise = gumbel_noise(LOGITS, seeded(3))
    z = GumbelSoftmax()(LOGITS, tau, seeded(3)).weights
    torch.testing.assert_close(z, Softmax()(LOGITS + noise, tau, seeded()).weights, rtol=0, atol=1e-15)
    jacobian = torch.autograd.functional.jacobian(
        lambda a: GumbelSoftmax()(a, tau, seeded(3)).weights, LOGITS
    )
    for e in range(2):
        wanted = (torch.diag(z[e]) - torch.outer(z[e], z[e])) / tau
        torch.testing.assert_close(jacobian[e, :, e], wanted, rtol=0, atol=1e-14)


def test_straight_through_gradient_by_hand() -> None:
    """With dL/dz = g on the drawn candidate k alone: dL/dα_j = g·z_k(δ_jk − z_j)/τ, z the soft sample."""
    tau, g = 0.7, torch.tensor([1.3, -2.0], dtype=torch.float64)
    logits = LOGITS.clone().requires_grad_()
    sample = StraightThrough()(logits, tau, seeded(5))
    assert sample.active is not None
    drawn = [k for (k,) in sample.active]
    (g * torch.stack([sample.weights[e, k] for e, k in enumerate(drawn)])).sum().backward()
    soft = torch.softmax((LOGITS + gumbel_noise(LOGITS, seeded(5))) / tau, dim=-1)
    for e, k in enumerate(drawn):
        onehot = torch.nn.functional.one_hot(torch.tensor(k), 4)
        assert logits.grad is not None
        torch.testing.assert_close(
            logits.grad[e], g[e] * soft[e, k] * (onehot - soft[e]) / tau, rtol=0, atol=1e-14
        )


def test_straight_through_draws_by_gumbel_max() -> None:
    drawn = StraightThrough()(LOGITS, 0.1, seeded(8)).weights.argmax(-1)
    assert torch.equal(drawn, (LOGITS + gumbel_noise(LOGITS, seeded(8))).argmax(-1))


def test_the_pathwise_gradient_is_unbiased_for_the_soft_objective() -> None:
    """E over noise of d f(z)/dα equals d E[f(z)]/dα: K = 2, where z_0 = σ((α_0 − α_1 + L)/τ), L logistic.

    The expectation is integrated numerically, so no sampling is on its side.
    """
    tau, draws = 1.0, 20_000
    alpha = torch.tensor([0.4, -0.3], dtype=torch.float64)
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    logistic = torch.log(u) - torch.log1p(-u)
    z = torch.sigmoid((alpha[0] - alpha[1] + logistic) / tau)
    exact = (2 * z * z * (1 - z) / tau).mean()  # f(z) = z_0²
    rows = alpha.expand(draws, 2).clone().requires_grad_()
    weights = GumbelSoftmax()(rows, tau, seeded()).weights
    (found,) = torch.autograd.grad(weights[:, 0].square().sum(), rows)
    standard_error = float(found[:, 0].std()) / draws**0.5
    assert abs(float(found[:, 0].mean() - exact)) < 3.5 * standard_error
    assert standard_error < 2e-3


def test_uniform_ignores_the_logits_and_gives_no_gradient() -> None:
    logits = torch.tensor([[1e4, 0.0, 0.0]], requires_grad=True)
    sample = Uniform()(logits.expand(3000, 3), 1.0, seeded())
    assert not sample.weights.requires_grad
    assert torch.bincount(sample.weights.argmax(-1)).min() > 900
    assert torch.equal(Uniform().probabilities(logits), torch.full((1, 3), 1 / 3))


def test_the_softmax_tends_to_one_hot_and_to_uniform() -> None:
    cold, hot = (Softmax()(LOGITS, t, seeded()).weights for t in (1e-3, 1e3))
    assert torch.equal(cold.round(), torch.nn.functional.one_hot(LOGITS.argmax(-1), 4).double())
    torch.testing.assert_close(hot, torch.full_like(hot, 0.25), rtol=0, atol=1e-3)


# --- the noise -----------------------------------------------------------------------------------


def test_gumbel_noise_is_gumbel() -> None:
    """Kolmogorov-Smirnov against F(g) = exp(−exp(−g)), mean γ, variance π²/6."""
    from scipy.stats import gumbel_r, kstest

    noise = gumbel_noise(torch.zeros(20_000, dtype=torch.float64), seeded(2))
    assert kstest(noise.numpy(), gumbel_r.cdf).pvalue > 1e-3
    assert float(noise.mean()) == pytest.approx(0.5772, abs=0.03)
    assert float(noise.var()) == pytest.approx(torch.pi**2 / 6, abs=0.06)


def test_gumbel_noise_is_finite_where_the_uniform_draw_is_extreme(monkeypatch: pytest.MonkeyPatch) -> None:
    """A standard exponential of exactly 0, as float32 can draw, gives no infinity."""
    monkeypatch.setattr(torch.Tensor, "exponential_", lambda self, generator: self.zero_())
    assert gumbel_noise(torch.zeros(3), seeded()).isfinite().all()


def test_low_precision_noise_is_the_rounded_float32_noise() -> None:
    low, full = (gumbel_noise(torch.zeros(50, dtype=d), seeded(1)) for d in (torch.bfloat16, torch.float32))
    assert torch.equal(low, full.bfloat16())


@pytest.mark.parametrize("kind", ["uniform", "gaussian"])
@pytest.mark.parametrize("tau", [0.1, 1.0, 10.0])
def test_other_noise_does_not_sample_from_the_softmax(
    kind: Literal["uniform", "gaussian"], tau: float
) -> None:
    assert chi_square_p(WrongNoise(kind), tau, 20_000) < 1e-12
    assert chi_square_p(GumbelSoftmax(), tau, 20_000) > 1e-4
    with pytest.raises(BrokenLaw) as caught:
        check_sampler(WrongNoise(kind))
    assert caught.value.law == laws.FREQUENCIES


def test_uniform_noise_never_draws_a_candidate_far_below_the_best() -> None:
    """Softmax gives it 0.27; noise of width 1 gives it nothing."""
    rows = torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(20_000, 2)
    assert float(torch.softmax(rows[0], dim=-1)[1]) == pytest.approx(0.27, abs=0.01)
    assert not bool((WrongNoise("uniform")(rows, 1.0, seeded()).weights.argmax(-1) == 1).any())
    assert bool((WrongNoise("gaussian")(rows, 1.0, seeded()).weights.argmax(-1) == 1).any())


def test_wrong_noise_is_in_no_table() -> None:
    assert not [e for e in SAMPLERS.entries.values() if "WrongNoise" in e.target]
    with pytest.raises(UserError, match="kind is 'uniform' or 'gaussian', got 'gumbel'"):
        WrongNoise("gumbel")  # type: ignore[arg-type]


# --- the contract's own teeth --------------------------------------------------------------------


class Broken:
    """Softmax or straight-through with one thing wrong."""

    uses_temperature: ClassVar[bool] = True
    one_active: ClassVar[bool] = False

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        return GumbelSoftmax()(logits, tau, generator)

    def probabilities(self, logits: Tensor) -> Tensor:
        return torch.softmax(logits, dim=-1)


class Unnormalised(Broken):
    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        return Sample(torch.sigmoid(logits / tau))


class Naive(Broken):
    """exp/sum without the shift: overflows at logits of 1e4."""

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        e = torch.exp(logits / tau)
        return Sample(e / e.sum(-1, keepdim=True))


class GlobalNoise(Broken):
    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        return Sample(torch.nn.functional.gumbel_softmax(logits, tau))


class Stateful(Broken):
    """Remembers how often it was called."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        self.calls += 1
        return Sample(torch.softmax((logits + gumbel_noise(logits, seeded(self.calls))) / tau, dim=-1))


class SoftHard(Broken):
    """Claims to be hard, gives a cold softmax."""

    one_active = True

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        weights = torch.softmax((logits + gumbel_noise(logits, generator)) / (0.1 * tau), dim=-1)
        index = weights.argmax(-1)
        return Sample(weights, active_rows(index) if index.dim() == 1 else None)


class HardButAllRun(Broken):
    """One-hot, but every candidate would run: no memory is saved."""

    one_active = True

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        return Sample(StraightThrough()(logits, tau, generator).weights)


class WrongActive(Broken):
    one_active = True

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        sample = StraightThrough()(logits, tau, generator)
        return replace_active(sample, logits.shape[-1])


def replace_active(sample: Sample, candidates: int) -> Sample:
    active = sample.active and tuple(((k + 1) % candidates,) for (k,) in sample.active)
    return sample._replace(active=active)


class DeafToTemperature(Broken):
    """The option that is never read."""

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        return GumbelSoftmax()(logits, 1.0, generator)


class DetachedLogits(Broken):
    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        soft = GumbelSoftmax()(logits, tau, generator).weights
        return Sample(soft.detach() + 0.5 * (soft - soft.detach()))


class WrongProbabilities(Broken):
    def probabilities(self, logits: Tensor) -> Tensor:
        return torch.sigmoid(logits)


class WrongDtype(Broken):
    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        return GumbelSoftmax()(logits.float(), tau, generator)


class ChangesLogits(Broken):
    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        with torch.no_grad():
            logits -= logits.max()
        return GumbelSoftmax()(logits, tau, generator)


class Shrunk(Broken):
    """A sampler's gradient times 0.9, so that it is biased; under a law of the mean."""

    law: ClassVar[Law] = "mean"

    def __init__(self, inner: Sampler, uses_temperature: bool) -> None:
        self.inner = inner
        self.uses_temperature = uses_temperature  # type: ignore[misc]

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        weights = self.inner(logits, tau, generator).weights
        return Sample(_scale_gradient(weights, 0.9))

    def probabilities(self, logits: Tensor) -> Tensor:
        return self.inner.probabilities(logits)


class MeanOfGumbelSoftmax(Broken):
    """The argmax follows softmax(α), the mean does not."""

    law: ClassVar[Law] = "mean"


class ArgmaxOfDirichlet(Dirichlet):
    law: ClassVar[Law] = "argmax"


class UntemperedDraw(DecoupledStraightThrough):
    law: ClassVar[Law] = "argmax"


class TemperedGumbelSoftmax(Broken):
    law: ClassVar[Law] = "tempered argmax"


class GatesOfGumbelSoftmax(Broken):
    """Between 0 and 1, but no gates: they compete."""

    law: ClassVar[Law] = "gates"


class WideGates(Broken):
    """Gates up to 2."""

    law: ClassVar[Law] = "gates"
    uses_temperature: ClassVar[bool] = False

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        return Sample(2 * torch.sigmoid(logits))


class BoundGates(BinaryConcrete):
    """One noise for all gates of a row: each has its probability, but they open together."""

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        uniform = torch.rand((*logits.shape[:-1], 1), generator=generator, dtype=torch.float64)
        return Sample(torch.sigmoid((logits + torch.logit(uniform, eps=1e-15).to(logits)) / tau))


class GumbelGates(BinaryConcrete):
    """One Gumbel variable in place of the difference of two."""

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        return Sample(torch.sigmoid((logits + gumbel_noise(logits, generator)) / tau))


class UnboundProbabilities(BinaryConcrete):
    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.exp()


class Shifted(Broken):
    """Candidate 0 favoured: draws do not follow the logits even where these are equal."""

    law: ClassVar[Law] = "perturbed"

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        shift = torch.zeros_like(logits)
        shift[..., 0] = 0.5
        return GumbelSoftmax()(logits + shift, tau, generator)


class Misspelt(Broken):
    law: ClassVar[str] = "argmx"


class ForgetfulTwoPath(TwoPath):
    """In a batch it does not say that the second candidate ran."""

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        return super().__call__(logits, tau, generator)._replace(ran=None)


class ForgetfulGates(BinaryConcrete):
    """In a batch it does not say which candidate of a closed choice ran."""

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        return super().__call__(logits, tau, generator)._replace(ran=None)


class RunsAsNumbers(TwoPath):
    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        sample = super().__call__(logits, tau, generator)
        return sample if sample.ran is None else sample._replace(ran=sample.ran.to(logits))


class SoftDraws(GumbelSoftmax):
    """Follows softmax(α) by its argmax, but is not one-hot."""

    draws_from_softmax: ClassVar[bool] = True


class TemperedDraws(DecoupledStraightThrough):
    draws_from_softmax: ClassVar[bool] = True


class OtherDraws(Uniform):
    draws_from_softmax: ClassVar[bool] = True


class UndeclaredTemperature(GumbelSoftmax):
    log_prob_uses_temperature: ClassVar[bool] = False


class NeedlessTemperature(StraightThrough):
    log_prob_uses_temperature: ClassVar[bool] = True


@pytest.mark.parametrize(
    ("sampler", "law"),
    [
        (Shrunk(Dirichlet(), False), laws.MEAN_GRADIENT),
        (Shrunk(Softmax(), True), laws.PATHWISE),  # not random: finite differences are not waived
        (MeanOfGumbelSoftmax(), laws.MEAN),
        (ArgmaxOfDirichlet(), laws.FREQUENCIES),
        (UntemperedDraw(), laws.FREQUENCIES),
        (TemperedGumbelSoftmax(), laws.FREQUENCIES),
        (GatesOfGumbelSoftmax(), laws.GATE_FREQUENCIES),
        (WideGates(), laws.GATES),
        (BoundGates(), laws.GATE_FREQUENCIES),
        (GumbelGates(), laws.GATE_FREQUENCIES),
        (UnboundProbabilities(), laws.GATES),
        (Shifted(), laws.PERTURBED),
        (Misspelt(), laws.LAW),
        (ForgetfulTwoPath(), laws.BATCH_ACTIVE),
        (ForgetfulGates(hard=True), laws.BATCH_ACTIVE),
        (RunsAsNumbers(), laws.BATCH_ACTIVE),
        (SoftDraws(), laws.SOFTMAX_DRAWS),
        (TemperedDraws(), laws.SOFTMAX_DRAWS),
        (OtherDraws(), laws.SOFTMAX_DRAWS),
        (UndeclaredTemperature(), laws.LOG_PROB_TEMPERATURE),
        (NeedlessTemperature(), laws.LOG_PROB_TEMPERATURE),
        (Unnormalised(), laws.SIMPLEX),
        (Naive(), laws.SIMPLEX),
        (GlobalNoise(), laws.GLOBAL),
        (Stateful(), laws.REPEATABLE),
        (SoftHard(), laws.ONE_HOT),
        (HardButAllRun(), laws.ACTIVE),
        (WrongActive(), laws.ACTIVE),
        (DeafToTemperature(), laws.TEMPERATURE),
        (DetachedLogits(), laws.PATHWISE),
        (WrongProbabilities(), laws.PROBABILITIES),
        (WrongDtype(), laws.FORM),
        (ChangesLogits(), laws.FORM),
    ],
    ids=lambda part: type(part).__name__,
)
def test_the_contract_catches(sampler: Sampler, law: str) -> None:
    state = torch.get_rng_state()
    try:
        with pytest.raises(BrokenLaw) as caught:
            check_sampler(sampler)
    finally:
        torch.set_rng_state(state)
    assert caught.value.law == law
    assert law in str(caught.value)


@pytest.mark.parametrize("wrong", [{"samples": 11}, {"samples": 1}], ids=str)
def test_the_surrogate_of_gumbel_rao_tells_the_number_of_samples(wrong: dict[str, int]) -> None:
    with pytest.raises(BrokenLaw) as error:
        check_sampler(GumbelRao(**wrong), surrogate=SURROGATES["gumbel_rao"])
    assert error.value.law == laws.SURROGATE


@pytest.mark.parametrize(("scale", "caught"), [(1.0, False), (1.001, True)])
def test_the_contract_compares_a_hard_gradient_with_its_surrogate(scale: float, caught: bool) -> None:
    class Scaled(Broken):
        one_active = True

        def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
            sample = StraightThrough()(logits, tau, generator)
            return sample._replace(weights=_scale_gradient(sample.weights, scale))

    if not caught:
        check_sampler(Scaled(), surrogate=GumbelSoftmax())
        return
    with pytest.raises(BrokenLaw) as error:
        check_sampler(Scaled(), surrogate=GumbelSoftmax())
    assert error.value.law == laws.SURROGATE


def _scale_gradient(weights: Tensor, scale: float) -> Tensor:
    hard = weights.detach()
    return hard + scale * (weights - hard)
