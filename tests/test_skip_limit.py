"""The rule of P-DARTS against its definition."""

from __future__ import annotations

import torch

from archgrad.choice import Group
from archgrad.derive import derive

CANDIDATES = ("none", "skip_connect", "sep_conv_3x3", "max_pool_3x3")
NAMES = tuple(f"{cell}/{n}<-{s}" for cell in ("normal", "reduce") for n in (2, 3, 4) for s in range(n))
GROUP = Group(CANDIDATES, NAMES)


def kept(p: torch.Tensor, rule: str) -> dict[str, str]:
    architecture = derive((GROUP,), [p], rule).architecture
    return {name: op for name, op in architecture.items() if op != "none"}


def skips(chosen: dict[str, str], cell: str) -> list[str]:
    return [name for name, op in chosen.items() if op == "skip_connect" and name.startswith(cell)]


def test_up_to_two_skip_connections_change_nothing() -> None:
    p = torch.full((len(NAMES), 4), 0.1)
    p[:, 2] = 0.7
    for name in ("normal/2<-0", "normal/3<-1"):
        p[NAMES.index(name)] = torch.tensor([0.05, 0.8, 0.1, 0.05])
    assert kept(p, "pdarts") == kept(p, "darts")
    assert len(skips(kept(p, "pdarts"), "normal")) == 2


def test_the_least_probable_ones_go_and_only_in_the_normal_cell() -> None:
    p = torch.zeros(len(NAMES), 4)
    for e in range(len(NAMES)):
        top = 0.6 + 0.01 * e
        p[e] = torch.tensor([0.05, top, 0.85 - top, 0.1])
    before, after = kept(p, "darts"), kept(p, "pdarts")
    assert len(skips(before, "normal")) == 6
    assert skips(after, "reduce") == skips(before, "reduce")
    left = skips(after, "normal")
    # node 4 has the most probable edges: its two skip connections stay
    assert left == ["normal/4<-2", "normal/4<-3"]
    assert sum(name.startswith("normal") for name in after) == 6
    derivation = derive((GROUP,), [p], "pdarts")
    assert any("above the limit of 2 in the normal cell" in w for w in derivation.warnings)
    plain = {d.name: d.entropy for d in derive((GROUP,), [p], "darts").decisions}
    assert all(d.entropy == plain[d.name] for d in derivation.decisions)
    assert p[0, 1] == torch.tensor(0.6)  # what was given is left alone


def test_an_edge_without_its_skip_connection_may_make_room_for_another() -> None:
    p = torch.full((len(NAMES), 4), 0.0)
    p[:] = torch.tensor([0.0, 0.9, 0.06, 0.04])
    # into node 4: two skip connections, and a convolution that is weaker than they are
    p[NAMES.index("normal/4<-0")] = torch.tensor([0.0, 0.5, 0.3, 0.2])
    p[NAMES.index("normal/4<-1")] = torch.tensor([0.0, 0.55, 0.25, 0.2])
    p[NAMES.index("normal/4<-2")] = torch.tensor([0.3, 0.1, 0.4, 0.2])
    p[NAMES.index("normal/4<-3")] = torch.tensor([0.3, 0.1, 0.35, 0.25])
    after = kept(p, "pdarts")
    assert {n: op for n, op in after.items() if n.startswith("normal/4")} == {
        "normal/4<-2": "sep_conv_3x3",
        "normal/4<-3": "sep_conv_3x3",
    }
