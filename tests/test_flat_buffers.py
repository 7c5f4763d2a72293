"""Buffers that live in one flat tensor are the same buffers."""

from __future__ import annotations

import torch
from torch import nn

from archgrad.flat_buffers import flatten_buffers


class Odd(nn.Module):
    """Buffers of two dtypes, one shared by two names, one empty, one scalar."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.register_buffer("scalar", torch.tensor(2.5))
        self.register_buffer("empty", torch.empty(0))
        self.register_buffer("shared", torch.arange(6.0).reshape(2, 3))
        self.inner = nn.Module()
        self.inner.register_buffer("alias", self.shared)
        self.register_buffer("hidden", torch.ones(2), persistent=False)

    def forward(self, x):
        return self.norm(x) * self.scalar


def test_values_names_and_shapes_stay():
    network = Odd()
    before = {name: b.clone() for name, b in network.named_buffers(remove_duplicate=False)}
    keys = list(network.state_dict())
    flats = flatten_buffers(network)
    assert sorted(str(f.dtype) for f in flats) == ["torch.float32", "torch.int64"]
    assert [f.dim() for f in flats] == [1, 1]
    assert sum(f.numel() for f in flats) == 3 + 3 + 1 + 1 + 0 + 6 + 2  # the shared one once
    after = dict(network.named_buffers(remove_duplicate=False))
    assert list(after) == list(before)
    for name, value in before.items():
        assert torch.equal(after[name], value), name
        assert after[name].shape == value.shape
    assert list(network.state_dict()) == keys
    assert "hidden" not in keys
    assert network.inner.alias.data_ptr() == network.shared.data_ptr()


def test_flat_and_module_see_each_others_changes():
    network = Odd()
    flats = flatten_buffers(network)
    saved = [f.clone() for f in flats]
    x = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0)) + 5
    network.train()(x)
    assert float(network.norm.running_mean.abs().min()) > 0.3
    assert int(network.norm.num_batches_tracked) == 1
    assert any(not torch.equal(f, s) for f, s in zip(flats, saved, strict=True))
    for flat, old in zip(flats, saved, strict=True):
        flat.copy_(old)
    assert torch.equal(network.norm.running_mean, torch.zeros(3))
    assert int(network.norm.num_batches_tracked) == 0


def test_a_saved_state_loads_into_the_flat_tensors():
    source, target = Odd(), Odd()
    source.norm.running_mean.fill_(7.0)
    flats = flatten_buffers(target)
    target.load_state_dict(source.state_dict())
    assert torch.equal(target.norm.running_mean, torch.full((3,), 7.0))
    assert any(bool((f == 7.0).sum() == 3) for f in flats)


def test_training_with_flat_buffers_is_the_same_training():
    outcomes = []
    for flat in (False, True):
        network = Odd()
        if flat:
            flatten_buffers(network)
        for step in range(3):
            network.train()(torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(step)))
        outcomes.append({k: v.clone() for k, v in network.state_dict().items()})
    assert all(torch.equal(outcomes[0][k], outcomes[1][k]) for k in outcomes[0])


def test_a_network_without_buffers():
    assert flatten_buffers(nn.Linear(2, 2)) == []
