"""The candidate `noise`: what it draws, from which stream, and that a search repeats it."""

from __future__ import annotations

import torch
from scipy import stats

from archgrad.choice import Sample, supernet
from archgrad.datasets.augmentation import Augmentation
from archgrad.datasets.batches import Batches
from archgrad.datasets.images import MemoryImages
from archgrad.datasets.normalisation import Normalisation
from archgrad.objectives import NetworkTask
from archgrad.ops.noise import Noise
from archgrad.randomness import Streams, seeded_modules
from archgrad.spaces import SPACES
from archgrad.spaces.drop_path import set_drop_path


def test_it_is_standard_normal_and_has_no_gradient() -> None:
    noise = Noise(3, 5, 2).train()
    noise.generator = torch.Generator().manual_seed(0)
    x = torch.full((16, 3, 21, 20), 7.0, requires_grad=True)
    y = noise(x)
    assert y.shape == (16, 5, 11, 10)
    assert not y.requires_grad
    assert stats.kstest(y.flatten().numpy(), "norm").pvalue > 0.01


def test_training_draws_anew_evaluation_does_not_and_the_global_stream_is_left_alone() -> None:
    noise, x = Noise(1, 1, 1).train(), torch.zeros(1, 1, 4, 4)
    state = torch.random.get_rng_state()
    set_drop_path(noise, 0.0, torch.Generator().manual_seed(3))
    first, second = noise(x), noise(x)
    assert not torch.equal(first, second)
    set_drop_path(noise, 0.0, torch.Generator().manual_seed(3))
    assert torch.equal(noise(x), first)
    noise.eval()
    assert torch.equal(noise(x), noise(x))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_an_objective_of_s4_is_a_function_and_its_steps_differ() -> None:
    """One objective has the same noise at every call, as finite differences need."""
    images = MemoryImages(torch.zeros(8, 3, 8, 8, dtype=torch.uint8), torch.arange(8) % 2)
    streams = Streams(0)
    with seeded_modules(0):
        network = supernet(SPACES["s4"].builder, (3, 8, 8), 2, channels=4, cells=3, nodes=2)
    batches = Batches(
        images,
        torch.arange(8),
        4,
        normalisation=Normalisation((0.0,) * 3, (1.0,) * 3),
        augmentation=Augmentation(),
        streams=streams,
        name="search/weights",
    )
    task = NetworkTask(network, batches, batches, streams)
    noise_only = [Sample(torch.tensor([[1.0, 0.0]]).expand(len(g.names), 2)) for g in network.groups]
    losses = [
        [objective(noise_only).loss.item() for _ in range(2)]
        for step in task.steps(0, 0)
        for objective in step
    ]
    assert all(first == second for first, second in losses)
    assert len({first for first, _ in losses}) == 4  # two steps, the two parts of each
