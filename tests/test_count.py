"""Counts of published cells to the last digit, the fast count against the slow one, the verb `count`."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from archgrad.architecture import Architecture
from archgrad.choice import Pick, concrete, supernet
from archgrad.cli import main
from archgrad.costs import counting, stand_in
from archgrad.costs.network_counts import NetworkCounts, count_module, count_network
from archgrad.costs.traffic import count_traffic
from archgrad.errors import UserError
from archgrad.genotype import Genotype
from archgrad.genotypes import published
from archgrad.ops import OPS
from archgrad.spaces import SPACES
from archgrad.spaces.cell import DARTS_CANDIDATES, DartsNetwork
from archgrad.spaces.space import as_space
from archgrad.testing.spaces import random_architecture
from archgrad.verbs.count import count_genotype

CIFAR = {"channels": 36, "cells": 20, "auxiliary": True}
IMAGENET = {"channels": 48, "cells": 14, "auxiliary": True, "stem": "imagenet"}
IMAGE, LARGE = (3, 32, 32), (3, 224, 224)
CNN = [name for name, cell in published().items() if cell.genotype.space == "darts"]

# Computed from the genotypes with the published layer definitions: parameters without the auxiliary head, and
# multiply-adds in millions; CIFAR-10 and ImageNet.
TARGETS = {
    "DARTS_V1": (3_169_414, 500.99, 4_510_432, 505.86),
    "DARTS_V2": (3_349_342, 528.36, 4_718_752, 529.91),
    "SNAS_mild": (2_661_382, 422.22, 3_939_328, 438.04),
    "SNAS_mild_edge_all": (2_661_382, 422.22, 3_939_328, 438.04),
    "GDAS_V1": (3_368_782, 519.43, 4_969_216, 537.60),
    "PC_DARTS_cifar": (3_634_678, 556.67, 5_270_560, 571.14),
}


def both(
    genotype: Genotype, shape: tuple[int, int, int], classes: int, given: Mapping[str, Any]
) -> tuple[NetworkCounts, NetworkCounts]:
    """The fast count and the dry run of the whole network."""
    named = {**given, **genotype.settings()}
    fast = count_network(DartsNetwork, genotype.architecture(), shape, classes, named)
    build = partial(concrete, DartsNetwork, genotype.architecture(), shape, classes, **named)
    return fast, count_module(build, shape)


@pytest.mark.parametrize("name", TARGETS)
def test_published_cells_to_the_last_digit(name: str) -> None:
    parameters, macs, large_parameters, large_macs = TARGETS[name]
    genotype = published()[name].genotype
    small, slow = both(genotype, IMAGE, 10, CIFAR)
    assert small == slow
    assert (small.parameters_without_auxiliary, round(small.macs / 1e6, 2)) == (parameters, macs)
    assert small.parameters - small.parameters_without_auxiliary == 476_426
    large, slow = both(genotype, LARGE, 1000, IMAGENET)
    assert large == slow
    assert (large.parameters_without_auxiliary, round(large.macs / 1e6, 2)) == (large_parameters, large_macs)
    assert large.parameters - large.parameters_without_auxiliary == 1_260_776
    assert small.uncounted == large.uncounted == ()


def test_gdas_with_its_own_width_on_imagenet() -> None:
    genotype = published()["GDAS_V1"].genotype
    counts, _ = both(genotype, LARGE, 1000, {**IMAGENET, "channels": 50})
    assert counts.parameters_without_auxiliary == 5_345_075
    assert round(counts.macs / 1e6, 2) == 581.01


@pytest.mark.parametrize("name", CNN)
def test_every_published_cell_trains_and_is_counted_right(name: str) -> None:
    """At a small size: finite gradients for all parameters, and PyTorch's own counter as another opinion."""
    genotype = published()[name].genotype
    for more, shape in (({}, (3, 16, 16)), ({"stem": "imagenet"}, (3, 64, 64))):
        named = {"channels": 4, "cells": 5, "auxiliary": True, **more, **genotype.settings()}
        torch.manual_seed(0)
        network = concrete(DartsNetwork, genotype.architecture(), shape, 7, **named)
        logits, side = network(torch.randn(2, *shape))
        assert logits.shape == side.shape == (2, 7)
        (logits.square().mean() + side.square().mean()).backward()
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in network.parameters())
        # what no path leads through has no gradient: edges from and to nodes that the output does not join
        assert sum(p.grad is not None for p in network.parameters()) > 0.7 * len(list(network.parameters()))
        network.eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.randn(1, *shape))
        fast, slow = both(genotype, shape, 7, {"channels": 4, "cells": 5, "auxiliary": True, **more})
        assert fast == slow
        assert fast.macs == counter.get_total_flops() // 2
        assert fast.parameters == sum(p.numel() for p in network.parameters())


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_the_fast_count_is_the_slow_one(data: st.DataObject) -> None:
    nodes = data.draw(st.integers(1, 3))
    names = st.sampled_from([*DARTS_CANDIDATES, "sep_conv_7x7", "conv_7x1_1x7", "nor_conv_1x1"])

    def cell() -> list[list[tuple[str, int]]]:
        pair = lambda node: st.tuples(names, st.integers(0, node - 1))  # noqa: E731
        return [data.draw(st.lists(pair(node), min_size=1, max_size=3)) for node in range(2, 2 + nodes)]

    joined = tuple(range(2, 2 + nodes))
    genotype = Genotype({"normal": cell(), "reduce": cell()}, {"normal": joined, "reduce": joined})  # type: ignore[dict-item]
    given = {
        "channels": data.draw(st.sampled_from([2, 5, 8])),
        "cells": data.draw(st.integers(3, 6)),
        "auxiliary": data.draw(st.booleans()),
        "affine": data.draw(st.booleans()),
        "pool_norm": data.draw(st.booleans()),
    }
    size = data.draw(st.integers(9, 20))
    fast, slow = both(genotype, (3, size, size + 1), 3, given)
    assert fast == slow


IMAGES = [name for name in SPACES if name != "darts_rnn"]


@pytest.mark.parametrize("name", IMAGES)
def test_the_fast_count_of_every_space_of_images(name: str) -> None:
    space = as_space(SPACES[name])
    shape = (3, 32, 32)
    named = dict(space.small_train)
    groups = supernet(space.builder, shape, 5, **named).groups
    architecture = random_architecture(groups, torch.Generator().manual_seed(0))
    build = partial(concrete, space.builder, architecture, shape, 5, **named)
    assert count_network(space.builder, architecture, shape, 5, named) == count_module(build, shape)


def test_another_order_of_a_cell_is_another_count() -> None:
    """Guards the memory of candidates: a key that left something out would mix these up."""
    counts = set()
    for stride_and_width in ((1, 8), (2, 8), (1, 16)):
        stride, width = stride_and_width
        for name in ("sep_conv_3x3", "sep_conv_5x5"):
            recipe = stand_in.Recipe(OPS[name], (width, width, stride), ())
            for size in (8, 12):
                counts.add(stand_in._part(recipe, (width, size, size)).macs.value)
    assert len(counts) == 12


def test_what_archgrad_does_not_know_is_counted_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """A space of one's own may look at what it is given; stand-ins are for archgrad's spaces only."""
    seen: list[type] = []

    def mine(pick: Pick, shape: tuple[int, ...], classes: int) -> nn.Module:
        edge = pick("edge", {"conv": partial(OPS["nor_conv_3x3"], 3, 4, 1)})
        seen.append(type(edge))
        return nn.Sequential(edge, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))

    architecture = Architecture({"edge": "conv"})
    first = count_network(mine, architecture, (3, 8, 8), 2)
    assert seen[-1] is not stand_in.StandIn
    mine.__module__ = "archgrad.spaces.mine"
    assert count_network(mine, architecture, (3, 8, 8), 2) == first
    assert seen[-1] is stand_in.StandIn


def test_a_layer_that_stand_ins_do_not_know_is_left_to_the_dry_run() -> None:
    def normed(pick: Pick, shape: tuple[int, ...], classes: int) -> nn.Module:
        edge = pick("edge", {"conv": partial(OPS["nor_conv_3x3"], 3, 4, 1)})
        return nn.Sequential(edge, nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(4 * 64, classes))

    architecture = Architecture({"edge": "conv"})
    normed.__module__ = "archgrad.spaces.mine"
    build = partial(concrete, normed, architecture, (3, 8, 8), 2)
    with pytest.raises(RuntimeError):
        counting.light_run(build, (3, 8, 8))
    assert count_network(normed, architecture, (3, 8, 8), 2) == count_module(build, (3, 8, 8))


class Twice(nn.Module):
    """A convolution that runs twice, between an identity and a view."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.conv, self.after = nn.Identity(), nn.Conv2d(2, 2, 1, bias=False), nn.Flatten()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.after(self.relu(self.conv(self.conv(self.before(x)))))
        return y


def test_traffic_by_hand() -> None:
    run = counting.dry_run(Twice, (2, 3, 3))
    # each convolution reads 18 numbers and 4 weights and writes 18; ReLU reads 18 and writes 18
    assert count_traffic(run.network.modules(), run).value == 4 * (2 * (18 + 4 + 18) + 36)


def test_traffic_leaves_out_the_auxiliary_head() -> None:
    genotype = published()["DARTS_V1"].genotype
    with_head, _ = both(genotype, (3, 16, 16), 10, {"channels": 4, "cells": 4, "auxiliary": True})
    without, _ = both(genotype, (3, 16, 16), 10, {"channels": 4, "cells": 4})
    assert with_head.traffic == without.traffic > 4 * without.parameters


def seconds(work: Callable[[], object], repeats: int = 7) -> float:
    """Median of processor seconds, after one call that fills the memory."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times)


@pytest.mark.parametrize(("shape", "classes", "named"), [(IMAGE, 10, CIFAR), (LARGE, 1000, IMAGENET)])
def test_counting_takes_a_moment(shape: tuple[int, int, int], classes: int, named: dict[str, Any]) -> None:
    """About 50 ms on a machine that does nothing else (benchmarks/genotype_counts.py); here with slack."""
    architecture = published()["DARTS_V2"].genotype.architecture()
    fast = seconds(lambda: count_network(DartsNetwork, architecture, shape, classes, named))
    build = partial(concrete, DartsNetwork, architecture, shape, classes, **named)
    assert fast < 0.2
    assert fast < 0.6 * seconds(lambda: count_module(build, shape), 3)
    assert math.isfinite(fast)


# the verb


def call(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def test_the_verb_prints_one_document() -> None:
    result = call(
        "count", "--genotype", "DARTS_V2", "--network", "cifar", "--channels", 36, "--cells", 20, "--json"
    )
    assert json.loads(result.stdout) == {
        "genotype": "DARTS_V2",
        "source": "Liu et al. 2019, DARTS (arXiv 1806.09055)",
        "network": "cifar",
        "channels": 36,
        "cells": 20,
        "size": 32,
        "classes": 10,
        "parameters": 3_349_342,
        "parameters_with_auxiliary": 3_825_768,
        "macs": 528_359_040,
        "traffic_bytes": 208_977_248,
        "uncounted": [],
        "notes": [],
        "remarks": [],
    }


def test_the_verb_says_what_does_not_follow_from_the_code() -> None:
    text = call("count", "--genotype", "DARTS_V2", "--network", "imagenet").stdout
    assert "4,718,752" in text
    assert "529.91 M" in text
    assert "574 M" in text
    assert "2.9 M" in call("count", "--genotype", "SNAS_mild").stdout


def test_sizes_are_those_given() -> None:
    smaller = count_genotype("DARTS_V1", channels=8, cells=5, classes=100, size=16)
    genotype = published()["DARTS_V1"].genotype
    counts, _ = both(genotype, (3, 16, 16), 100, {"channels": 8, "cells": 5, "auxiliary": True})
    assert (smaller["parameters"], smaller["macs"]) == (counts.parameters_without_auxiliary, counts.macs)
    assert smaller["classes"] == 100


CHAIN = "|nor_conv_3x3~0|"


@pytest.mark.parametrize(
    ("genotype", "network", "smallest"),
    [
        ("DARTS_V2", "cifar", 5),  # 5 -> 3 -> 2; 2x2 moved by a pixel is 1x1, as a reduction has it
        ("NASNet", "cifar", 5),
        ("DARTS_V2", "imagenet", 33),  # 33 -> 17 -> 9 -> 5 -> 3 -> 2
        (CHAIN, "nasbench201", 3),
    ],
)
def test_images_too_small_for_the_reductions_are_not_counted(
    genotype: str, network: str, smallest: int
) -> None:
    count_genotype(genotype, network, size=smallest)
    for size in (1, smallest - 1):
        with pytest.raises(UserError, match=rf"{size}×{size} pixels are too small .* larger --size"):
            count_genotype(genotype, network, size=size)


def test_nasbench201_and_recurrent_cells() -> None:
    conv = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
    document = count_genotype(conv)
    assert (document["network"], document["parameters"], document["macs"]) == (
        "nasbench201",
        1_531_546,
        220_119_680,
    )
    recurrent = json.loads(call("count", "--genotype", "RNN_DARTS_V2", "--json").stdout)
    assert (recurrent["network"], recurrent["hidden"], recurrent["parameters"]) == ("ptb", 850, 22_960_000)
    # the first state's matrix [2H, 2H], one [H, 2H] for each of 8 nodes, and the decoder
    assert recurrent["macs"] == 4 * 850**2 + 8 * 2 * 850**2 + 10_000 * 850


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a run folder or a genotype"),
        (["--genotype", "DARTS_V2", "runs/x"], "one of them"),
        (["--genotype", "DARTS_V9"], "did you mean"),
        (["--genotype", "DARTS_V2", "--network", "nasbench201"], "cifar or imagenet"),
        (["--genotype", "RNN_DARTS_V1", "--cells", 3], "no cells"),
        (["--genotype", "DARTS_V2", "--cells", 2], "cells >= 3"),
        (["runs/nothing"], "holds no run"),
        (["runs/nothing", "--channels", 3], "leave out --channels"),
    ],
)
def test_wrong_input_to_the_verb(arguments: list[object], message: str, tmp_path: Path) -> None:
    result = call("count", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_run_is_counted_as_it_was_derived(finished_run: Path) -> None:
    document = json.loads(call("count", finished_run, "--json").stdout)
    derived = json.loads((finished_run / "derivation.json").read_text("utf-8"))
    assert (document["parameters"], document["macs"]) == (derived["parameters"], derived["macs"])


def of_ones_own(c_in: int, c_out: int) -> nn.Module:
    """A candidate that archgrad knows nothing of."""
    return nn.Conv2d(c_in, c_out, 1)


@pytest.mark.parametrize(
    ("build", "known"),
    [
        (partial(OPS["nor_conv_1x1"], 2, 2, 1), True),
        (partial(of_ones_own, 2, 2), False),
        (partial(OPS["nor_conv_1x1"], 2, 2, stride="mine:stride"), False),
        (lambda: nn.Conv2d(2, 2, 1), False),
    ],
)
def test_only_candidates_of_archgrads_own_functions_are_kept(
    build: Callable[[], nn.Module], known: bool
) -> None:
    assert (stand_in._recipe(build) is not None) == known
