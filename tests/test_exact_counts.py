"""Parameters and multiply-adds against a benchmark's own columns, and against an independent counter.

The counter is PyTorch's: it sees the operations that run, not the modules, and takes a multiply-add as two.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from archgrad.architecture import NASBENCH201_CANDIDATES, Architecture
from archgrad.choice import concrete, supernet
from archgrad.costs.cost_table import cost_table
from archgrad.costs.network_counts import count_network
from archgrad.genotypes import published
from archgrad.landscapes.nasbench201 import ARCHITECTURES, EDGES, NASBench201
from archgrad.spaces import SPACES
from archgrad.spaces.nasbench201 import NASBENCH201
from archgrad.spaces.space import as_space
from archgrad.testing.spaces import random_architecture

# The three data sets of NAS-Bench-201: size of an image, classes.
DATA_SETS = {"cifar10": (32, 10), "cifar100": (32, 100), "imagenet16_120": (16, 120)}


def expected(name: str, data_set: str, one_hot: Tensor) -> Tensor:
    """The cost of every architecture [N] by our table, one_hot [N, E, K] in the order of EDGES."""
    size, classes = DATA_SETS[data_set]
    table = cost_table(name, NASBENCH201.builder, (3, size, size), classes, NASBENCH201.train)
    (group,) = table.choices
    assert group.names == tuple(f"cell/{edge}" for edge in EDGES)
    assert group.candidates == NASBENCH201_CANDIDATES
    return table.expected([one_hot])


def one_hot_rows(cells: list[Architecture]) -> Tensor:
    index = [[NASBENCH201_CANDIDATES.index(cell[f"cell/{edge}"]) for edge in EDGES] for cell in cells]
    return torch.nn.functional.one_hot(torch.tensor(index), len(NASBENCH201_CANDIDATES)).double()


@pytest.mark.parametrize("data_set", DATA_SETS)
def test_all_nasbench201_networks_cost_what_the_benchmark_says(data_set: str) -> None:
    """Parameters to the last one; multiply-adds too, less the classifier's bias that its FLOPs count."""
    table = NASBench201.open()
    rows = one_hot_rows([table.architecture(index) for index in range(ARCHITECTURES)])
    assert len(np.unique(rows.flatten(1).numpy(), axis=0)) == ARCHITECTURES
    classes = DATA_SETS[data_set][1]
    for name, column, more in (("parameters", "params", 0), ("macs", "flops", classes)):
        published = [table.value(f"{column}_{data_set}", index) for index in range(ARCHITECTURES)]
        assert (expected(name, data_set, rows) + more).tolist() == published


@pytest.mark.parametrize("data_set", DATA_SETS)
def test_the_benchmark_as_it_was_published(data_set: str, shared_data: Path) -> None:
    """The same against the file that the table in the package was made from."""
    file = shared_data / "nasbench201" / "nasbench201.parquet"
    if not file.is_file():
        pytest.skip("there is no nasbench201/nasbench201.parquet in the data folder")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = parquet.read_table(file, columns=["arch", f"params_{data_set}", f"flops_{data_set}"])
    strings, parameters, flops = (column.to_pylist() for column in columns.columns)
    assert len(set(strings)) == ARCHITECTURES
    rows = one_hot_rows([Architecture.from_nasbench201(text) for text in strings])
    assert expected("parameters", data_set, rows).tolist() == parameters
    assert (expected("macs", data_set, rows) + DATA_SETS[data_set][1]).tolist() == flops


def check_built(cells: int, seed: int) -> None:
    """Networks that are built and counted, drawn without replacement, on a data set each in turn."""
    table = NASBench201.open()
    drawn = torch.randperm(ARCHITECTURES, generator=torch.Generator().manual_seed(seed))[:cells]
    for turn, index in enumerate(drawn.tolist()):
        data_set = list(DATA_SETS)[turn % 3]
        size, classes = DATA_SETS[data_set]
        counts = count_network(
            NASBENCH201.builder, table.architecture(index), (3, size, size), classes, NASBENCH201.train
        )
        found = (counts.parameters, counts.parameters_without_auxiliary, counts.macs + classes)
        parameters, flops = (table.value(f"{column}_{data_set}", index) for column in ("params", "flops"))
        assert found == (parameters, parameters, flops), f"{data_set}, cell {index}"
        assert counts.uncounted == ()


def test_networks_that_are_built_cost_what_the_benchmark_says() -> None:
    check_built(400, seed=0)


@pytest.mark.slow
def test_a_thousand_networks_that_are_built_cost_what_the_benchmark_says() -> None:
    check_built(1000, seed=1)


# --- an independent counter ----------------------------------------------------------------------

IMAGES = [name for name in SPACES if as_space(SPACES[name]).reads == "images"]


@pytest.mark.parametrize("phase", ["search", "train"])
@pytest.mark.parametrize("name", IMAGES)
def test_an_independent_counter_agrees(name: str, phase: str) -> None:
    """Every space that takes images, in both of its published forms, at a small and odd size."""
    space = as_space(SPACES[name])
    settings: dict[str, Any] = {**getattr(space, phase), **getattr(space, f"small_{phase}")}
    generator = torch.Generator().manual_seed(7)
    shape, classes = (3, 36, 33), 11
    for _ in range(3):
        architecture = random_architecture(
            supernet(space.builder, shape, classes, **settings).groups, generator
        )
        counts = count_network(space.builder, architecture, shape, classes, settings)
        network = concrete(space.builder, architecture, shape, classes, **settings)
        assert counts.parameters == sum(p.numel() for p in network.parameters())
        network.eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, *shape))
        assert counter.get_total_flops() == 2 * counts.macs > 0
        assert counts.uncounted == ()
        running = sum(p.numel() for p in parameters_that_run(network, shape))  # no auxiliary head
        assert counts.parameters_without_auxiliary == running


def parameters_that_run(network: torch.nn.Module, shape: tuple[int, int, int]) -> list[torch.nn.Parameter]:
    """Those of the modules that a pass in evaluation mode calls, each once."""
    called: dict[int, torch.nn.Parameter] = {}
    hooks = [
        module.register_forward_pre_hook(
            lambda module, _: called.update({id(p): p for p in module.parameters(recurse=False)})
        )
        for module in network.modules()
    ]
    network(torch.zeros(1, *shape))
    for hook in hooks:
        hook.remove()
    return list(called.values())


@pytest.mark.parametrize("name", ["RNN_DARTS_V1", "RNN_DARTS_V2", "RNN_ENAS"])
def test_pytorchs_counter_agrees_on_recurrent_cells(name: str) -> None:
    """The count is for a word; two texts of five words are ten."""
    cell = published()[name].genotype
    network = concrete(
        SPACES["darts_rnn"].builder, cell.architecture(), (5,), 50, hidden=12, **cell.settings()
    ).eval()
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(2, 5, dtype=torch.long))
    assert counter.get_total_flops() == 2 * 10 * network.macs()
