"""The multilinear extension of a table against enumeration, finite differences and closed forms."""

from __future__ import annotations

import itertools
import math
import time

import pytest
import torch
from torch import Tensor

from archgrad.architecture import Architecture
from archgrad.choice import Group
from archgrad.errors import UserError
from archgrad.landscapes.landscape import architecture_at, exact_gradient, index_in, plain_group
from archgrad.landscapes.multilinear import MultilinearLandscape

SIZES = [(1, 1), (1, 4), (2, 3), (3, 2), (4, 3), (5, 2), (6, 1)]


def table(choices: int, candidates: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn([candidates] * choices, generator=generator, dtype=torch.float64)


def points(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def enumerated(losses: Tensor, z: Tensor) -> Tensor:
    """Σ_a Π_e z[e, a_e] T[a], term by term, for z [E, K]."""
    total = torch.zeros((), dtype=z.dtype)
    for a in itertools.product(range(losses.shape[0]), repeat=losses.dim()):
        total = total + losses[a] * math.prod(z[e, k] for e, k in enumerate(a))
    return total


def differences(landscape: MultilinearLandscape, z: Tensor) -> Tensor:
    """Central differences; exact but for rounding, for f is linear in each entry."""
    found = torch.zeros_like(z)
    for e, k in itertools.product(range(z.shape[0]), range(z.shape[1])):
        step = torch.zeros_like(z)
        step[e, k] = 0.5
        found[e, k] = landscape.value(z + step) - landscape.value(z - step)
    return found


@pytest.mark.parametrize(("choices", "candidates"), SIZES)
def test_value_gradient_and_hessian(choices: int, candidates: int) -> None:
    losses = table(choices, candidates)
    landscape = MultilinearLandscape(losses)
    z = points(2, 3, choices, candidates).requires_grad_()
    value = landscape.value(z)
    assert value.shape == (2, 3)
    wanted = torch.stack([enumerated(losses, row) for row in z.detach().flatten(0, 1)]).view(2, 3)
    torch.testing.assert_close(value, wanted, rtol=1e-12, atol=1e-12)

    (by_autograd,) = torch.autograd.grad(value.sum(), z)
    closed = landscape.gradient(z)
    slopes = torch.stack([differences(landscape, row) for row in z.detach().flatten(0, 1)]).view_as(z)
    torch.testing.assert_close(by_autograd, slopes, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(closed, slopes, rtol=1e-10, atol=1e-10)

    numbers = choices * candidates
    hessian = landscape.hessian(z)
    assert hessian.shape == (2, 3, numbers, numbers)
    (entry,) = torch.autograd.functional.hessian(landscape.value, z.detach()[1, 2:]).reshape(
        1, numbers, numbers
    )
    torch.testing.assert_close(hessian[1, 2], entry, rtol=1e-10, atol=1e-10)


def test_one_hot_is_a_look_up() -> None:
    landscape = MultilinearLandscape(table(3, 4))
    index = torch.cartesian_prod(*[torch.arange(4)] * 3)
    z = torch.nn.functional.one_hot(index, 4).double()
    assert torch.equal(landscape.value(z), landscape.table.flatten())
    assert torch.equal(landscape.values(index), landscape.table.flatten())
    assert landscape.values(index.view(16, 4, 3)).shape == (16, 4)
    assert float(landscape.values(torch.tensor(landscape.optimum))) == landscape.best
    assert landscape.best == float(landscape.table.min())
    assert landscape.worst == float(landscape.table.max())


def test_precision_follows_the_weights() -> None:
    landscape = MultilinearLandscape(table(6, 5))
    z = torch.softmax(points(20, 6, 5), dim=-1)
    exact = landscape.value(z)
    for dtype, error in ((torch.float32, 1e-6), (torch.bfloat16, 3e-2)):
        got = landscape.value(z.to(dtype))
        assert got.dtype == dtype
        assert float((got.double() - exact).abs().max()) < error
    assert exact.dtype == torch.float64


def test_exact_gradient_is_that_of_the_expected_loss() -> None:
    """By enumeration: Σ_a T[a] ∇_α Π_e p_e(a_e) with ∇_α log p = onehot − p."""
    losses = table(3, 3)
    landscape = MultilinearLandscape(losses)
    logits = points(4, 3, 3).requires_grad_()
    found = exact_gradient(landscape, logits)
    p = torch.softmax(logits.detach(), dim=-1)
    wanted = torch.zeros_like(p)
    for a in itertools.product(range(3), repeat=3):
        drawn = torch.nn.functional.one_hot(torch.tensor(a), 3).double()
        probability = (p * drawn).sum(-1).prod(-1)
        wanted += losses[a] * probability[:, None, None] * (drawn - p)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    assert logits.grad is None

    step = 1e-5  # float64: error about 1e-10
    by_differences = torch.zeros_like(p)
    for e, k in itertools.product(range(3), range(3)):
        delta = torch.zeros(3, 3, dtype=torch.float64)
        delta[e, k] = step
        up, down = (landscape.value(torch.softmax(logits.detach() + s * delta, -1)) for s in (1, -1))
        by_differences[:, e, k] = (up - down) / (2 * step)
    torch.testing.assert_close(found, by_differences, rtol=1e-8, atol=1e-8)

    tempered = exact_gradient(landscape, logits, lambda a: torch.softmax(a / 2, dim=-1))
    torch.testing.assert_close(tempered, exact_gradient(landscape, logits / 2) / 2)


def test_a_thousand_searches_at_once_are_fast() -> None:
    """Measured 3 ms on one thread; a factor of ten for a busy machine."""
    landscape = MultilinearLandscape(table(6, 5))
    z = torch.softmax(points(1000, 6, 5).float(), dim=-1).requires_grad_()
    threads, fastest = torch.get_num_threads(), math.inf
    torch.set_num_threads(1)
    try:
        for _ in range(10):
            started = time.perf_counter()
            landscape.value(z).sum().backward()
            fastest = min(fastest, time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
    assert fastest < 0.030


def test_architectures_and_indices() -> None:
    group = Group(("a", "b"), ("x", "y", "z"))
    landscape = MultilinearLandscape(table(3, 2), group)
    found = architecture_at(landscape, (1, 0, 1))
    assert found == Architecture({"x": "b", "y": "a", "z": "b"})
    assert index_in(landscape, found) == (1, 0, 1)
    with pytest.raises(UserError, match="choices are x, y, z; the architecture has x, y"):
        index_in(landscape, Architecture({"x": "a", "y": "b"}))
    with pytest.raises(UserError, match="choice 'y' has no candidate 'c'; it has a, b"):
        index_in(landscape, Architecture({"x": "a", "y": "c", "z": "a"}))
    with pytest.raises(UserError, match="from 0 to 1"):
        architecture_at(landscape, (0, 2, 0))


def test_truth() -> None:
    truth = MultilinearLandscape(table(2, 3))
    assert truth.truth is truth
    assert MultilinearLandscape(table(2, 3, 5), truth=truth).truth is truth
    with pytest.raises(UserError, match="give both the same"):
        MultilinearLandscape(table(3, 2), truth=truth)


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        (torch.zeros(2, 3), "all dimensions must be equal"),
        (torch.zeros(()), "one dimension of K candidates per choice"),
        (torch.zeros(0, 0), "at least 1"),
        (torch.tensor([0.0, math.nan]), r"the entry at \[1\] is nan"),
    ],
)
def test_a_bad_table_is_refused(losses: Tensor, said: str) -> None:
    with pytest.raises(UserError, match=said):
        MultilinearLandscape(losses)


def test_bad_calls_are_refused() -> None:
    landscape = MultilinearLandscape(table(3, 2))
    with pytest.raises(UserError, match="the group has 2 × 2"):
        MultilinearLandscape(table(3, 2), plain_group(2, 2))
    for z in (torch.zeros(2, 3), torch.zeros(3), torch.zeros(3, 2, dtype=torch.int64)):
        with pytest.raises(UserError, match=r"needs weights \[..., 3, 2\]"):
            landscape.value(z)
    for index in ([0, 1], [0, 1, 2], [0, -1, 0], [0.0, 1.0, 0.0]):
        with pytest.raises(UserError, match="wanted candidate indices"):
            landscape.values(torch.tensor(index))
    with pytest.raises(UserError, match="give two positive numbers"):
        plain_group(0, 3)
