"""The derivation rule of recurrent cells, and what is said of recurrent cells as graphs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from archgrad.architecture import Architecture
from archgrad.architecture_warnings import architecture_warnings, is_connected, skip_share
from archgrad.choice import Group
from archgrad.config_problems import rule_problem
from archgrad.derive import derive, random_derivation
from archgrad.errors import UserError
from archgrad.randomness import Streams
from archgrad.rules import RULES
from archgrad.spaces.rnn import RNN_CANDIDATES

NAMES = tuple(f"recurrent/{i}<-{j}" for i in range(1, 9) for j in range(i))
GROUP = Group(RNN_CANDIDATES, NAMES)


def literal(p: torch.Tensor) -> dict[str, str]:
    """The published rule, row by row: the edge whose best candidate but `none` is the best of the node's."""
    chosen, start = {}, 0
    for node in range(1, 9):
        rows = p[start : start + node, 1:]
        source = int(rows.max(dim=1).values.argmax())
        name = RNN_CANDIDATES[1 + int(rows[source].argmax())]
        chosen |= {f"recurrent/{node}<-{j}": name if j == source else "none" for j in range(node)}
        start += node
    return chosen


def test_the_rule_equals_the_published_one() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        p = torch.softmax(torch.randn(36, 5, generator=generator, dtype=torch.float64), dim=1)
        found = derive([GROUP], [p], "rnn")
        assert dict(found.architecture) == literal(p)
        assert sum(d.kept for d in found.decisions) == 8


def test_it_is_idempotent_on_published_cells(request: pytest.FixtureRequest) -> None:
    path = Path(request.config.rootpath).parent / "shared" / "genotypes.json"
    if not path.exists():
        pytest.skip("no genotypes.json beside the repository")
    for cell in ("DARTS_V1", "DARTS_V2"):
        p = torch.zeros(36, 5)
        p[:, 0] = 1.0
        chosen = dict.fromkeys(NAMES, "none")
        for node, (name, source) in enumerate(
            json.loads(path.read_text())["rnn"][cell]["recurrent"], start=1
        ):
            edge = f"recurrent/{node}<-{source}"
            p[NAMES.index(edge)] = torch.eye(5)[RNN_CANDIDATES.index(name)]
            chosen[edge] = name
        assert dict(derive([GROUP], [p], "rnn").architecture) == chosen


def test_ties_go_to_the_earlier_state_and_are_said() -> None:
    found = derive([GROUP], [torch.full((36, 5), 0.2)], "rnn")
    kept = [d.name for d in found.decisions if d.kept]
    assert kept == [f"recurrent/{i}<-0" for i in range(1, 9)]
    assert any(
        "which predecessor to keep was decided by less than 0.05 at 7 of 8 nodes" in w for w in found.warnings
    )
    none = torch.tensor([0.6, 0.25, 0.05, 0.05, 0.05]).repeat(36, 1)
    assert any(
        "`none` is the most probable candidate of 8 of 8" in w
        for w in derive([GROUP], [none], "rnn").warnings
    )


def test_choices_that_are_no_edges_are_refused() -> None:
    with pytest.raises(UserError, match="the rnn rule ranks the edges of recurrent cells"):
        derive([Group(("none", "tanh"), ("width",))], [torch.tensor([[0.5, 0.5]])], "rnn")


def test_which_rules_fit_the_space() -> None:
    """Only that of its authors leaves one edge a node; a user's own may do what it likes."""
    own = f"{__name__}:test_which_rules_fit_the_space"
    assert [rule_problem("darts_rnn", rule) is None for rule in (*RULES, own)] == [False] * 4 + [True] * 2
    assert all(rule_problem("darts", rule) is None for rule in RULES)


def test_a_recurrent_cell_puts_out_all_its_nodes() -> None:
    """Leaves of the tree carry something; identity is an activation there, and no skip connection."""
    chosen = dict.fromkeys(NAMES, "none") | {f"recurrent/{i}<-0": "identity" for i in range(1, 9)}
    star = Architecture(chosen)
    assert architecture_warnings(star) == []
    assert skip_share(star) == 0.0
    assert is_connected(star)
    drawn = random_derivation([GROUP], "rnn", Streams(0), "control", 0)
    assert sum(candidate != "none" for candidate in drawn.architecture.values()) == 8
