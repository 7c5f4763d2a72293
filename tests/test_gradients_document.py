"""docs/gradients.md and the code agree: equations are numbered, cited, and tested where it says so.

The last part tests formulas of the document that no other test has.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from archgrad.choice import Group
from archgrad.costs.cost_table import CostTable
from archgrad.hypergradients import HYPERGRADIENTS
from archgrad.landscapes.multilinear import MultilinearLandscape
from archgrad.samplers import SAMPLERS
from archgrad.samplers.score_gate import ScoreGate
from archgrad.samplers.two_path import TwoPath

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "archgrad"
TEXT = (ROOT / "docs" / "gradients.md").read_text(encoding="utf-8")
MATH = re.findall(r"^```math\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
PROSE = re.sub(r"^```.*?^```$", "", TEXT, flags=re.MULTILINE | re.DOTALL)
TAG = re.compile(r"\\tag\{(\d+)\}")
CITED = re.compile(r"docs/gradients\.md,\s+eq\.\s+\((\d+)\)(?:-\((\d+)\))?")
WITHOUT_GRADIENT = {"uniform"}  # it has no equation


def sections() -> dict[int, str]:
    """Equation -> the section that it stands in."""
    parts = re.split(r"^## ", TEXT, flags=re.MULTILINE)
    return {int(n): part for part in parts for n in TAG.findall(part)}


def citations(text: str) -> Iterator[int]:
    for first, last in CITED.findall(text):
        yield from range(int(first), int(last or first) + 1)


def test_equations_are_numbered_in_order() -> None:
    numbers = [int(n) for n in TAG.findall(TEXT)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) == len(MATH) >= 40  # one a block


@pytest.mark.parametrize("block", MATH, ids=lambda block: "eq. " + TAG.findall(block)[0])
def test_an_equation_is_well_formed(block: str) -> None:
    assert block.count("{") == block.count("}")
    assert len(re.findall(r"\\left\b", block)) == len(re.findall(r"\\right\b", block))
    assert re.findall(r"\\begin\{(\w+)\}", block) == re.findall(r"\\end\{(\w+)\}", block)
    assert "$" not in block
    assert r"\operatorname" not in block  # GitHub has refused this macro


def test_formulas_within_lines_survive_markdown() -> None:
    """An underscore after a letter or digit never begins emphasis; a backslash before a letter stays."""
    formulas = re.findall(r"\$([^$\n]+)\$", PROSE)
    assert len(formulas) >= 8
    for formula in formulas:
        assert not re.search(r"(?<![A-Za-z0-9])_|\\[^A-Za-z]|[|*`<]", formula), formula
        assert formula == formula.strip()
        assert formula.count("{") == formula.count("}")


def test_what_the_document_refers_to_is_there() -> None:
    known = sections()
    assert not [n for n in re.findall(r"\((\d{1,2})\)", PROSE) if int(n) not in known]
    heads = {int(n) for n in re.findall(r"^## (\d+)\.", TEXT, re.MULTILINE)}
    assert heads == set(range(1, len(heads) + 1))
    named = re.findall(r"[Ss]ections? (\d+)(?: (?:to|and)\s+(\d+))?", PROSE)
    assert named
    assert not [n for pair in named for n in pair if n and int(n) not in heads]


def test_every_citation_in_the_code_is_of_that_equation() -> None:
    """The equation exists, and its section names the file that cites it."""
    known, wrong, count = sections(), [], 0
    for file in sorted(SOURCE.rglob("*.py")):
        name = file.relative_to(SOURCE).as_posix()
        for number in citations(file.read_text(encoding="utf-8")):
            count += 1
            if number not in known:
                wrong.append(f"{name}: no equation ({number})")
            elif f"`{name}`" not in known[number] and not shared(name, number):
                wrong.append(f"{name} cites ({number}), whose section does not name it")
    assert not wrong
    assert count >= 40


def shared(name: str, number: int) -> bool:
    """Whether the section that is the file's own refers to the equation by its number."""
    own = [part for part in set(sections().values()) if f"`{name}`" in part]
    return any(f"({number})" in re.sub(TAG, "", part) for part in own)


@pytest.mark.parametrize(
    ("family", "name"),
    [("samplers", n) for n in SAMPLERS if n not in WITHOUT_GRADIENT]
    + [("hypergradients", n) for n in HYPERGRADIENTS],
)
def test_every_part_cites_its_equation_and_is_in_the_last_table(family: str, name: str) -> None:
    table = {"samplers": SAMPLERS, "hypergradients": HYPERGRADIENTS}[family]
    module = table.entries[name].target.partition(":")[0].removeprefix("archgrad.").replace(".", "/")
    assert list(citations((SOURCE / f"{module}.py").read_text(encoding="utf-8")))
    last = TEXT.rpartition("\n## ")[2]
    assert re.search(rf"^\|.*`{name}`", last, re.MULTILINE)


def test_the_tests_that_are_named_exist() -> None:
    named = set(re.findall(r"`(tests/\w+\.py)::(\w+)`", PROSE))
    assert len(named) >= 50
    functions = {
        file: {
            node.name for node in ast.parse((ROOT / file).read_text("utf-8")).body if hasattr(node, "name")
        }
        for file in {file for file, _ in named}
    }
    assert not [f"{file}::{name}" for file, name in named if name not in functions[file]]
    untested = [
        part.splitlines()[0]
        for part in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]
        if "```math" in part and "Test" not in part
    ]
    assert untested == ["1. The bilevel problem"]


# ---- formulas that are tested nowhere else


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def jacobian(p: Tensor) -> Tensor:
    """(1), of one row."""
    return torch.diag(p) - torch.outer(p, p)


def test_the_gap_of_the_mixture_of_a_quadratic() -> None:
    """(8), exactly, for two choices of three: by enumeration."""
    a, b, alpha = normal(6, 6, seed=1), normal(6, seed=2), normal(2, 3)
    p = torch.softmax(alpha, dim=-1)

    def f(z: Tensor) -> Tensor:
        return z.flatten() @ a @ z.flatten() + b @ z.flatten()

    eye = torch.eye(3, dtype=torch.float64)
    mean = sum(p[0, i] * p[1, j] * f(torch.stack([eye[i], eye[j]])) for i in range(3) for j in range(3))
    hessian = a + a.T
    gap = sum(
        torch.trace(hessian[r, r] @ jacobian(p[e])) / 2 for e, r in enumerate([slice(0, 3), slice(3, 6)])
    )
    assert abs(gap) > 0.1
    torch.testing.assert_close(mean - f(p), gap)


def test_the_forms_of_the_exact_gradient_and_of_reinmax() -> None:
    """(19) against the derivative of Σ p·f; the two forms of (21); (20) in (19) is (21) on average."""
    f, alpha = normal(4, seed=1), normal(4, seed=3).requires_grad_()
    p = torch.softmax(alpha, dim=-1)
    (exact,) = torch.autograd.grad((p * f).sum(), alpha)
    p = p.detach()
    difference = f[:, None] - f[None, :]
    torch.testing.assert_close(p * (difference * p).sum(dim=1), exact)
    torch.testing.assert_close(jacobian(p) @ (difference * p).sum(dim=1), exact)
    eye, slopes = torch.eye(4, dtype=torch.float64), normal(4, 4, seed=4)  # ∇f at each decision
    total = torch.zeros(4, dtype=torch.float64)
    for j in range(4):
        d = eye[j]
        matrix = 2 * jacobian((d + p) / 2) - jacobian(p) / 2
        other = (torch.diag(d) + torch.diag(p) - torch.outer(d, p) - torch.outer(p, d)) / 2
        torch.testing.assert_close(matrix, other)
        total += p[j] * matrix @ slopes[j]
    heun = torch.zeros(4, dtype=torch.float64)
    for i, j in itertools.product(range(4), repeat=2):
        step = (slopes[i] + slopes[j]) @ (eye[i] - eye[j]) / 2
        heun += p[j] * step * jacobian(p)[i]
    torch.testing.assert_close(total, heun)


@pytest.mark.parametrize(("power", "order"), [(1, 2), (2, 1)])
def test_how_bias_and_variance_of_the_relaxation_depend_on_the_temperature(power: int, order: int) -> None:
    """K = 2, z = σ((a + L)/τ), f = z^power, by quadrature in u = (a + L)/τ: bias ~ τ^order, E[ĝ²] ~ 1/τ."""
    a = 0.7
    u = torch.linspace(-60.0, 60.0, 200_001, dtype=torch.float64)
    z = torch.sigmoid(u)
    slope = power * z ** (power - 1) * z * (1 - z)  # df/du

    def moments(tau: float) -> tuple[float, float]:
        noise = torch.sigmoid(tau * u - a)
        density = noise * (1 - noise)
        exact = float(torch.sigmoid(torch.tensor(a)) * torch.sigmoid(torch.tensor(-a)))
        mean = float(torch.trapezoid(density * slope, u))
        square = float(torch.trapezoid(density * slope**2, u)) / tau
        return mean - exact, square

    (bias, square), (half_bias, half_square) = moments(0.02), moments(0.01)
    assert bias / half_bias == pytest.approx(2**order, rel=0.03)
    assert half_square / square == pytest.approx(2.0, rel=0.03)


def test_score_gate_is_the_score_function_on_a_landscape() -> None:
    """(26) = f(D)·∇log p(D) for a multilinear f, draw by draw; for c + a linear f the c is left out."""
    landscape = MultilinearLandscape(normal(3, 3, 3, 3, seed=5))
    alpha = normal(4, 3).requires_grad_()
    for seed in range(5):
        weights = ScoreGate()(alpha, 1.0, torch.Generator().manual_seed(seed)).weights
        value = landscape.value(weights)
        (found,) = torch.autograd.grad(value, alpha, retain_graph=True)
        score = weights.detach() - torch.softmax(alpha.detach(), dim=-1)
        torch.testing.assert_close(found, value.detach() * score)
        linear = normal(4, 3, seed=6)
        (found,) = torch.autograd.grad(7.0 + (linear * weights).sum(), alpha)
        slopes = (linear * weights.detach()).sum(dim=-1, keepdim=True)
        torch.testing.assert_close(found, slopes * score)


@pytest.mark.parametrize(("candidates", "unbiased"), [(2, True), (3, False)])
def test_two_paths_are_unbiased_given_the_pair_alone(candidates: int, unbiased: bool) -> None:
    """The mean of (30) over pairs, for a linear loss, against the gradient of the mean loss under (31)."""
    losses, alpha = normal(candidates, seed=7), normal(candidates).requires_grad_()
    (wanted,) = torch.autograd.grad((TwoPath().probabilities(alpha) * losses).sum(), alpha)
    p = torch.softmax(alpha.detach(), dim=-1)
    mean = torch.zeros(candidates, dtype=torch.float64)
    for i, j in itertools.combinations(range(candidates), 2):
        both = p[i] * p[j] / (1 - p[i]) + p[j] * p[i] / (1 - p[j])
        row = alpha.detach()[[i, j]].requires_grad_()
        (given,) = torch.autograd.grad((torch.softmax(row, dim=-1) * losses[[i, j]]).sum(), row)
        mean[[i, j]] += both * given
    assert torch.allclose(mean, wanted, rtol=1e-9) == unbiased


def test_the_gradient_of_the_entropy() -> None:
    """(35)."""
    alpha = normal(5).requires_grad_()
    p = torch.softmax(alpha, dim=-1)
    entropy = -(p * p.log()).sum()
    (found,) = torch.autograd.grad(entropy, alpha)
    torch.testing.assert_close(found, -p * (p.log() + entropy))


def test_the_gradient_of_the_expected_cost() -> None:
    """(45)."""
    costs = normal(2, 3, seed=8).abs()
    group = Group(("a", "b", "c"), ("first", "second"))
    table = CostTable("parameters", "parameters", 5.0, (group,), (costs,))
    alpha = normal(2, 3).requires_grad_()
    p = torch.softmax(alpha, dim=-1)
    (found,) = torch.autograd.grad(table.expected([p]), alpha)
    torch.testing.assert_close(found, p * (costs - (p * costs).sum(dim=-1, keepdim=True)))
