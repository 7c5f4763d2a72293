"""Gates that open independently: sigmoid and binary concrete, in a supernet and on channels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from archgrad.choice import Pick, Supernet, supernet
from archgrad.errors import UserError
from archgrad.samplers.binary_concrete import BinaryConcrete
from archgrad.samplers.sigmoid import Sigmoid
from archgrad.testing import BrokenLaw, check_sampler
from archgrad.testing import samplers as laws
from archgrad.testing.samplers import chi_square_p

DOUBLE = torch.float64
ALPHA = torch.tensor([[0.0, 0.7, -1.2], [2.0, -0.3, 0.4]], dtype=DOUBLE)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- sigmoid -------------------------------------------------------------------------------------


def test_sigmoid_is_elementwise() -> None:
    """∂z_k/∂α_k = z_k(1 − z_k), zero between candidates: no competition."""
    z = Sigmoid()(ALPHA, 1.0, seeded()).weights
    torch.testing.assert_close(z, 1 / (1 + torch.exp(-ALPHA)), rtol=0, atol=1e-15)
    assert torch.equal(Sigmoid().probabilities(ALPHA), z)
    jacobian = torch.autograd.functional.jacobian(lambda a: Sigmoid()(a, 1.0, seeded()).weights, ALPHA)
    wanted = torch.diag((z * (1 - z)).flatten()).view(2, 3, 2, 3)
    torch.testing.assert_close(jacobian, wanted, rtol=0, atol=1e-15)


# --- binary concrete, relaxed --------------------------------------------------------------------


@pytest.mark.parametrize("tau", [0.4, 1.0, 2.5])
def test_a_relaxed_gate_has_the_binary_concrete_distribution(tau: float) -> None:
    """P(z ≤ t) = σ(τ·logit(t) − α), Maddison et al. appendix B: Kolmogorov-Smirnov, 5,000 draws a gate."""
    from scipy.special import expit, logit
    from scipy.stats import kstest

    drawn = BinaryConcrete()(ALPHA[0].expand(5000, 3), tau, seeded(2)).weights
    for k, alpha in enumerate(ALPHA[0].tolist()):
        found = kstest(drawn[:, k].numpy(), lambda t, alpha=alpha: expit(tau * logit(t) - alpha))
        assert found.pvalue > 1e-3


def test_the_gradient_of_a_relaxed_gate_by_hand() -> None:
    """dz/dα = z(1 − z)/τ."""
    for tau in (0.3, 2.0):
        alpha = ALPHA.clone().requires_grad_()
        z = BinaryConcrete()(alpha, tau, seeded(3)).weights
        (found,) = torch.autograd.grad((z * ALPHA).sum(), alpha)
        z = z.detach()
        torch.testing.assert_close(found, ALPHA * z * (1 - z) / tau, rtol=1e-12, atol=1e-14)


# --- binary concrete, hard -----------------------------------------------------------------------


def test_hard_gates_keep_the_contract_with_the_relaxed_gradient() -> None:
    check_sampler(BinaryConcrete(hard=True), surrogate=BinaryConcrete())


def test_the_contract_sees_a_wrong_gradient_of_hard_gates() -> None:
    class Halved(BinaryConcrete):
        def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> object:  # type: ignore[override]
            sample = super().__call__(logits, tau, generator)
            hard = sample.weights.detach()
            return sample._replace(weights=hard + 0.5 * (sample.weights - hard))

    with pytest.raises(BrokenLaw) as caught:
        check_sampler(Halved(hard=True), surrogate=BinaryConcrete())  # type: ignore[arg-type]
    assert caught.value.law == laws.SURROGATE


@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tau", [0.1, 1.0, 10.0])
def test_hard_gates_are_the_relaxed_ones_rounded(dtype: torch.dtype, tau: float) -> None:
    rows = torch.randn(200, 8, generator=seeded(9)).to(dtype)
    soft, hard = (BinaryConcrete(h)(rows, tau, seeded(4)).weights for h in (False, True))
    assert set(hard.flatten().tolist()) == {0.0, 1.0}
    decided = soft != 0.5  # σ rounds to ½ near 0 in low precision
    assert torch.equal(hard[decided], (soft > 0.5).to(dtype)[decided])


@pytest.mark.parametrize("seed", [21, 22])
@pytest.mark.parametrize("tau", [0.2, 5.0])
def test_hard_gates_open_with_the_sigmoid_and_independently(tau: float, seed: int) -> None:
    assert chi_square_p(BinaryConcrete(hard=True), tau, 20_000, seed) > 1e-3


class Add(nn.Module):
    def __init__(self, number: float) -> None:
        super().__init__()
        self.number = nn.Parameter(torch.tensor(number, dtype=DOUBLE))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.number


@pytest.fixture
def network() -> Supernet:
    def space(pick: Pick) -> nn.Module:
        return pick("op", {"one": lambda: Add(1.0), "two": lambda: Add(2.0), "four": lambda: Add(4.0)})

    return supernet(space)


def test_closed_candidates_do_not_run_and_open_ones_add_up(network: Supernet) -> None:
    x, seen = torch.zeros(2, dtype=DOUBLE), set()
    for seed in range(60):
        sample = BinaryConcrete(hard=True)(torch.zeros(1, 3, dtype=DOUBLE), 1.0, seeded(seed))
        assert sample.active is not None
        opened = tuple(k for k, z in enumerate(sample.weights[0].tolist()) if z)
        if opened:
            assert sample.active == (opened,)
        assert torch.equal(network(x, [sample]), x + sum(2.0**k for k in opened))
        seen.add(opened)
    assert len(seen) == 8  # every subset, the empty one too


def test_a_choice_with_all_gates_closed_is_zero_and_can_open_again(network: Supernet) -> None:
    """The candidate nearest to open runs with weight 0; its gate has the gradient of the relaxed one."""
    alpha = torch.tensor([[-4.0, -3.0, -5.0]], dtype=DOUBLE, requires_grad=True)
    x = torch.ones(2, dtype=DOUBLE)
    empty = 0
    for seed in range(20):
        sample = BinaryConcrete(hard=True)(alpha, 1.0, seeded(seed))
        if bool(sample.weights.any()):
            continue
        empty += 1
        soft = BinaryConcrete()(alpha.detach(), 1.0, seeded(seed)).weights[0]
        nearest = int(soft.argmax())
        assert sample.active == ((nearest,),)
        output = network(x, [sample])
        assert torch.equal(output, torch.zeros_like(x))
        (found,) = torch.autograd.grad(output.sum(), alpha)
        wanted = torch.zeros(3, dtype=DOUBLE)
        wanted[nearest] = 2 * (1 + 2.0**nearest) * soft[nearest] * (1 - soft[nearest])
        torch.testing.assert_close(found[0], wanted, rtol=1e-12, atol=1e-14)
    assert empty > 10


@pytest.mark.parametrize("wrong", [1, 0, "yes", None])
def test_hard_is_checked(wrong: bool) -> None:
    with pytest.raises(UserError, match="hard is true or false, got"):
        BinaryConcrete(hard=wrong)


# --- gates made from an input --------------------------------------------------------------------


class ChannelGates(nn.Module):
    """Keeps or drops each channel of each image [B, C, H, W] by gates that a linear layer makes from it."""

    def __init__(self, channels: int, sampler: BinaryConcrete) -> None:
        super().__init__()
        self.score = nn.Linear(channels, channels)
        self.sampler = sampler

    def forward(self, x: Tensor, tau: float, generator: torch.Generator) -> Tensor:
        logits = self.score(x.mean(dim=(2, 3)))  # [B, C]
        gates: Tensor = self.sampler(logits, tau, generator).weights
        return x * gates[:, :, None, None]


@pytest.fixture
def images() -> Tensor:
    return torch.randn(64, 6, 4, 4, generator=seeded(5))


def gating(hard: bool) -> ChannelGates:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ChannelGates(6, BinaryConcrete(hard=hard))


@pytest.mark.parametrize("hard", [True, False])
def test_channel_gates_train_the_module_that_makes_their_logits(hard: bool, images: Tensor) -> None:
    """dL/dlogit of image b, channel c is Σ x_bc²·z(1 − z)/τ · 2z_hard, z the relaxed gate."""
    module, tau = gating(hard), 0.8
    module(images, tau, seeded(6)).square().sum().backward()
    assert module.score.weight.grad is not None
    pooled = images.mean(dim=(2, 3))
    with torch.no_grad():
        logits = module.score(pooled)
        soft = BinaryConcrete()(logits, tau, seeded(6)).weights
        value = BinaryConcrete(hard)(logits, tau, seeded(6)).weights
    to_logits = 2 * value * images.square().sum(dim=(2, 3)) * soft * (1 - soft) / tau
    torch.testing.assert_close(module.score.weight.grad, to_logits.T @ pooled, rtol=1e-4, atol=1e-3)
    assert float(module.score.weight.grad.abs().min()) > 0


def test_each_image_has_channels_of_its_own(images: Tensor) -> None:
    output = gating(True)(images, 1.0, seeded(7))
    kept = output.ne(0).any(dim=3).any(dim=2)
    assert torch.equal(output[kept], images[kept])
    assert len({tuple(row) for row in kept.tolist()}) > 20
    assert 0.3 < float(kept.float().mean()) < 0.7


def test_a_gate_of_an_image_opens_with_the_sigmoid_of_its_logit() -> None:
    """Binomial test of every gate of 4 images × 3 channels, 5,000 draws, smallest p-value of the 12."""
    from scipy.stats import binomtest

    logits = torch.randn(4, 3, generator=seeded(8))
    opened = BinaryConcrete(hard=True)(logits.expand(5000, 4, 3), 0.5, seeded(9)).weights.sum(dim=0)
    p_values = [
        binomtest(int(opened[b, c]), 5000, float(torch.sigmoid(logits[b, c]))).pvalue
        for b in range(4)
        for c in range(3)
    ]
    assert min(p_values) > 1e-4
