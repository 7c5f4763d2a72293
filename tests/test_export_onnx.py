import sys
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from archgrad.architecture import Architecture
from archgrad.choice import concrete
from archgrad.errors import MissingExtra, UserError, WorkError
from archgrad.export.onnx import TOLERANCE, export_onnx
from archgrad.randomness import seeded_modules
from archgrad.spaces.cell import DartsNetwork
from archgrad.spaces.drop_path import set_drop_path
from archgrad.spaces.nasbench201 import NasBench201Network

CELL = Architecture.from_nasbench201(
    "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|skip_connect~2|"
)


def trained_statistics(network: nn.Module, shape: tuple[int, int, int]) -> nn.Module:
    """Running statistics other than 0 and 1, without which a lost BatchNorm would go unnoticed."""
    generator = torch.Generator().manual_seed(1)
    network.train()
    network(2 * torch.rand(8, *shape, generator=generator))
    return network


def small_network(shape: tuple[int, int, int]) -> nn.Module:
    with seeded_modules(0):
        network = concrete(NasBench201Network, CELL, shape, 4, channels=4, cells=1)
    return trained_statistics(network, shape)


# First in the file, because some of the exporter's remarks are made once per process only.
def test_export_is_silent_and_names_no_path_of_this_machine(tmp_path, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check = export_onnx(small_network((1, 8, 8)), (1, 8, 8), tmp_path / "m.onnx", None)
    assert capfd.readouterr() == ("", "")
    data = check.path.read_bytes()
    for trace in (b"site-packages", b"archgrad", b".py", str(tmp_path).encode()):
        assert trace not in data


def test_darts_network_runs_alike_in_onnx_runtime(tmp_path):
    shape, choices = (3, 32, 32), {}
    for kind, first, second in (
        ("normal", "sep_conv_3x3", "skip_connect"),
        ("reduce", "max_pool_3x3", "dil_conv_5x5"),
    ):
        for node in (2, 3):
            choices |= {f"{kind}/{node}<-{source}": "none" for source in range(node)}
            choices |= {f"{kind}/{node}<-0": first, f"{kind}/{node}<-1": second}
    with seeded_modules(0):
        network = concrete(
            DartsNetwork, Architecture(choices), shape, 10, channels=4, cells=3, nodes=2, auxiliary=True
        )
    trained_statistics(network, shape)
    set_drop_path(network, 0.3, torch.Generator().manual_seed(0))  # as training leaves it behind
    real = torch.randn(5, *shape, generator=torch.Generator().manual_seed(2))
    check = export_onnx(network, shape, tmp_path / "m.onnx", real)
    assert check.inputs == 4 + 5
    assert check.size_bytes == check.path.stat().st_size
    assert check.opset >= 18
    onnx.checker.check_model(onnx.load(check.path), full_check=True)
    session = onnxruntime.InferenceSession(check.path, providers=["CPUExecutionProvider"])
    network.eval()
    for batch in (1, 5, 11):  # 11 was not among the sizes that the export itself compares
        images = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(batch))
        with torch.no_grad():
            expected = network(images).numpy()
        (found,) = session.run(["logits"], {"images": images.numpy()})
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


def test_network_and_random_state_are_left_as_they_were(tmp_path):
    network = small_network((2, 7, 9))  # odd sizes
    network.stem.eval()
    flags = [m.training for m in network.modules()]
    weights = {k: v.clone() for k, v in network.state_dict().items()}
    state = torch.get_rng_state()
    export_onnx(network, (2, 7, 9), tmp_path / "m.onnx", None)
    assert [m.training for m in network.modules()] == flags
    assert True in flags
    assert False in flags
    assert all(torch.equal(weights[k], v) for k, v in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


class Counting(nn.Module):
    """Computes something else at each call, which no exported graph can follow."""

    def __init__(self, growth: float) -> None:
        super().__init__()
        self.growth, self.calls = growth, 0.0
        self.linear = nn.Linear(4, 2)

    def forward(self, x):
        self.calls += self.growth
        return self.linear(x.flatten(1)) + self.calls


@pytest.mark.parametrize("growth", [1.0, float("nan")])
def test_a_graph_that_computes_something_else_is_refused(tmp_path, growth):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"before")
    with pytest.raises(WorkError, match=r"ONNX Runtime differs from the network.*not written"):
        export_onnx(Counting(growth), (1, 2, 2), path, None)
    assert path.read_bytes() == b"before"


@pytest.mark.parametrize("library", ["onnx", "onnxscript", "onnxruntime"])
def test_missing_library_names_the_extra(tmp_path, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtra, match=rf"{library}: pip install 'archgrad\[onnx\]'"):
        export_onnx(small_network((1, 8, 8)), (1, 8, 8), tmp_path / "m.onnx", None)


def test_real_images_of_another_size_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"\[N, 1, 8, 8\], got a tensor of shape \[2, 3, 8, 8\]"):
        export_onnx(small_network((1, 8, 8)), (1, 8, 8), tmp_path / "m.onnx", torch.zeros(2, 3, 8, 8))


class Pair(nn.Module):
    def forward(self, x):
        return x, x


def test_two_outputs_are_refused(tmp_path):
    with pytest.raises(UserError, match="returns tuple"):
        export_onnx(Pair(), (1, 2, 2), tmp_path / "m.onnx", None)
