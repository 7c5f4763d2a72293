"""The feature pyramid on networks of every kind, and the detector that stands on one."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from archgrad.architecture import Architecture
from archgrad.choice import concrete, supernet
from archgrad.errors import UserError
from archgrad.randomness import seeded_modules
from archgrad.spaces import SPACES
from archgrad.spaces.mobile import MobileNetwork, fbnet
from archgrad.spaces.pyramid import FeaturePyramid, feature_maps
from archgrad.spaces.residual import ResidualNetwork

DETECTOR = Path(__file__).resolve().parents[1] / "examples" / "detector.py"


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mobile(size: int = 64) -> nn.Module:
    architecture, _ = fbnet("FBNet-A")
    with seeded_modules(0):
        return concrete(MobileNetwork, architecture, (3, size, size), 10, channels=2, head=64)


# --- which maps ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [64, 70, 96])
def test_the_maps_of_a_mobile_network_are_the_last_of_each_size(size: int) -> None:
    """Blocks 5-8 put out 1/8, 9-16 1/16, 17-21 1/32, as does the head, but that is no part of the chain."""
    found = feature_maps(mobile(size), (3, size, size))
    assert found == {8: "layers.8", 16: "layers.16", 32: "layers"}
    expanded = "layers.9.expand"  # at 1/8 still, but inside the block that halves
    assert expanded in dict(mobile().named_modules())


def test_the_maps_of_cells() -> None:
    edges = [f"{kind}/{j}<-{i}" for kind in ("normal", "reduce") for j in range(2, 6) for i in range(j)]
    architecture = Architecture(dict.fromkeys(edges, "sep_conv_3x3"))
    settings = {"channels": 4, "cells": 6}
    with seeded_modules(0):
        network = concrete(SPACES["darts"].builder, architecture, (3, 32, 32), 10, **settings)
    assert feature_maps(network, (3, 32, 32), (1, 2, 4)) == {1: "cells.1", 2: "cells.3", 4: "cells.5"}
    plain = ResidualNetwork((3, 32, 32), 10, channels=4, blocks=2)
    assert feature_maps(plain, (3, 32, 32), (1, 2, 4)) == {1: "body.1", 2: "body.3", 4: "body"}


def test_looking_changes_nothing() -> None:
    network = mobile().train()
    network.layers[3].eval()
    before = {path: t.clone() for path, t in network.state_dict().items()}
    feature_maps(network, (3, 64, 64))
    assert all(torch.equal(t, before[path]) for path, t in network.state_dict().items())
    assert network.training
    assert not network.layers[3].training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_a_module_that_is_called_at_several_sizes_is_passed_over() -> None:
    relu = nn.ReLU()  # in a network of one block too many for its outputs to say which size they are of
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), relu, nn.Conv2d(4, 4, 3, 2, 1), relu)
    assert feature_maps(network, (3, 16, 16), (2, 4)) == {2: "0", 4: "2"}


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match=r"images of 32×32 are too small .* at least 64"):
        feature_maps(mobile(), (3, 32, 32))
    with pytest.raises(
        UserError, match=r"no feature map of 4×4, 1/32 of 128×128; it has 128×128, 64×64, 32×32"
    ):
        feature_maps(ResidualNetwork((3, 128, 128), 10, channels=2, blocks=1), (3, 128, 128), (2, 32))
    with pytest.raises(UserError, match=r"one module of the backbone for each .* no 'layers.99'"):
        FeaturePyramid(mobile(), (3, 64, 64), strides=(8, 16), names=["layers.8", "layers.99"])
    with pytest.raises(UserError, match="one module of the backbone for each"):
        FeaturePyramid(mobile(), (3, 64, 64), names=["layers.8"])
    with pytest.raises(UserError, match=r"'head.3' of the backbone gives no map .* but \(1, 10\)"):
        FeaturePyramid(mobile(), (3, 64, 64), strides=(32,), names=["head.3"])


# --- the pyramid -----------------------------------------------------------------------------------


def test_the_pyramid_is_its_definition() -> None:
    with seeded_modules(0):
        pyramid = FeaturePyramid(mobile(), (3, 70, 64), channels=5).double().eval()
    x = torch.randn(2, 3, 70, 64, generator=generator(), dtype=torch.float64)
    network = pyramid.backbone
    states = [network.stem(x)]
    for layer in network.layers:
        states.append(layer(states[-1]))
    c = [states[9], states[17], states[22]]  # states[i + 1] is what layer i makes
    assert [tuple(m.shape[2:]) for m in c] == [(9, 8), (5, 4), (3, 2)]
    laterals = [F.conv2d(m, a.weight, a.bias) for m, a in zip(c, pyramid.lateral, strict=True)]

    def enlarged(coarse: Tensor, fine: Tensor) -> Tensor:
        rows = torch.arange(fine.shape[2]) * coarse.shape[2] // fine.shape[2]
        columns = torch.arange(fine.shape[3]) * coarse.shape[3] // fine.shape[3]
        return coarse[:, :, rows][:, :, :, columns]

    m32 = laterals[2]
    m16 = laterals[1] + enlarged(m32, laterals[1])
    m8 = laterals[0] + enlarged(m16, laterals[0])
    wanted = [
        F.conv2d(m, s.weight, s.bias, padding=1) for m, s in zip([m8, m16, m32], pyramid.smooth, strict=True)
    ]
    for got, level in zip(pyramid(x), wanted, strict=True):
        torch.testing.assert_close(got, level, rtol=0, atol=1e-12)


def test_gradients_reach_the_backbone_and_nothing_is_left_hanging() -> None:
    with seeded_modules(0):
        pyramid = FeaturePyramid(
            mobile(), (3, 64, 64), channels=4, names=["layers.8", "layers.16", "layers.21"]
        )
    levels = pyramid(torch.randn(2, 3, 64, 64, generator=generator()))
    torch.stack([level.square().sum() for level in levels]).sum().backward()
    without = [p for p, t in pyramid.named_parameters() if t.grad is None]
    assert {p.split(".")[1] for p in without} == {"head"}
    assert not any(m._forward_hooks for m in pyramid.modules())


def test_an_explicit_list_of_modules() -> None:
    names = ["layers.5", "layers.9", "layers.17"]
    pyramid = FeaturePyramid(mobile(), (3, 64, 64), channels=4, names=names)
    assert [tuple(p.shape) for p in pyramid(torch.zeros(1, 3, 64, 64))] == [
        (1, 4, 8, 8),
        (1, 4, 4, 4),
        (1, 4, 2, 2),
    ]


def test_every_mobile_architecture_carries_one() -> None:
    with torch.device("meta"):
        groups = supernet(MobileNetwork, (3, 64, 64), 3, channels=2).groups
    for k in range(9):
        chosen = {n: g.candidates[k % len(g.candidates)] for g in groups for n in g.names}
        network = concrete(MobileNetwork, Architecture(chosen), (3, 64, 64), 3, channels=2)
        levels = FeaturePyramid(network, (3, 64, 64), channels=4)(torch.zeros(1, 3, 64, 64))
        assert [level.shape[-1] for level in levels] == [8, 4, 2]


# --- the detector ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def detector() -> ModuleType:
    pytest.importorskip("pycocotools")
    spec = importlib.util.spec_from_file_location("detector", DETECTOR)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["detector"] = module
    spec.loader.exec_module(module)
    return module


def test_every_place_is_given_the_object_that_it_is_to_find(detector: ModuleType) -> None:
    """One square of 16 pixels around (20, 20): seen from its middle by the level whose reach fits it."""
    objects = torch.tensor([[12.0, 12.0, 28.0, 28.0, 1.0]])
    kinds, boxes = detector.targets(objects)
    places = torch.cat([detector.places(s) for s in detector.STRIDES])
    assert len(kinds) == len(boxes) == 64 + 16 + 4
    found = places[kinds < 3].tolist()
    # at stride 8 the centres are 4, 12, 20, …; (20, 20) is 8 from each side, 12 and 28 lie on the border
    assert found == [[20.0, 20.0]]
    assert kinds[kinds < 3].tolist() == [1]
    assert boxes[kinds < 3].tolist() == [[12.0, 12.0, 28.0, 28.0]]


def test_of_several_objects_a_place_is_given_the_smallest(detector: ModuleType) -> None:
    objects = torch.tensor([[8.0, 8.0, 33.0, 33.0, 0.0], [12.0, 12.0, 28.0, 28.0, 2.0]])
    kinds, _ = detector.targets(objects)
    assert kinds[:64].view(8, 8)[2, 2] == 2


def test_generalised_overlap(detector: ModuleType) -> None:
    """By hand: the same box 1; half covered 1/3; apart by one width −1/3."""
    box = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    others = torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0], [4.0, 0.0, 6.0, 2.0]])
    found = detector.generalised_iou(box.expand(3, -1), others)
    torch.testing.assert_close(found, torch.tensor([1.0, 1 / 3, -1 / 3]))
    assert detector.overlap([0, 0, 2, 2], [1, 0, 3, 2]) == pytest.approx(1 / 3)


def test_mean_average_precision_of_known_answers(detector: ModuleType) -> None:
    truth = [torch.tensor([[10.0, 10.0, 30.0, 30.0, 0.0]]), torch.tensor([[5.0, 5.0, 25.0, 45.0, 2.0]])]
    right = [[[*t[0, :4].tolist(), 0.9, int(t[0, 4])]] for t in truth]
    assert detector.mean_average_precision(right, truth) == pytest.approx((1.0, 1.0))
    wrong = [[[*t[0, :4].tolist(), 0.9, 1]] for t in truth]
    assert detector.mean_average_precision(wrong, truth) == pytest.approx((0.0, 0.0))
    # boxes that cover 81 % of the true ones: right at thresholds 0.5 to 0.8, which are 7 of 10
    smaller = [
        [[x, y, x + 0.9 * (r - x), y + 0.9 * (b - y), s, k] for x, y, r, b, s, k in kept] for kept in right
    ]
    assert detector.mean_average_precision(smaller, truth) == pytest.approx((0.7, 1.0))


class Known(nn.Module):
    """A detector with given answers for one image."""

    def __init__(self, logits: Tensor, boxes: Tensor):
        super().__init__()
        self.logits, self.boxes = logits, boxes

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.logits[None], self.boxes[None], torch.full((1, len(self.boxes)), 20.0)


def test_doubles_are_left_out(detector: ModuleType) -> None:
    boxes = torch.tensor([[0.0, 0.0, 20.0, 20.0], [1.0, 0.0, 20.0, 20.0], [40.0, 40.0, 60.0, 60.0]])
    logits = torch.tensor([[3.0, -9.0, -9.0], [2.0, -9.0, -9.0], [-9.0, -9.0, 1.0]])
    (found,) = detector.detections(Known(logits, boxes), torch.zeros(1, 3, 64, 64))
    best = [(place[:4], place[5]) for place in found if place[4] > 0.5]
    assert best == [([0.0, 0.0, 20.0, 20.0], 0), ([40.0, 40.0, 60.0, 60.0], 2)]


def test_scenes_hold_what_they_say(detector: ModuleType) -> None:
    pictures = detector.photographs()
    image, objects = detector.scene(pictures, np.random.default_rng(3))
    again, same = detector.scene(pictures, np.random.default_rng(3))
    assert torch.equal(image, again)
    assert torch.equal(objects, same)
    assert image.shape == (3, 64, 64)
    for left, top, right, bottom, _ in objects.int().tolist():
        middle = image[:, (top + bottom) // 2 + 1, (left + right) // 2]
        below = image[:, min(bottom - 1, 63), (left + right) // 2]
        torch.testing.assert_close(middle, below)  # of one colour, down to the lower side
        assert 0 <= left < right < 64
        assert 0 <= top < bottom < 64


@pytest.mark.slow
def test_the_detector_learns(tmp_path: Path) -> None:
    """In a quarter of the default's steps; the control is the same network without training."""
    pytest.importorskip("pycocotools")
    command = [sys.executable, str(DETECTOR), "run", "120"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("ARCHGRAD_DATA", None)
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    scores = dict(re.findall(r"^(\w+): mean average precision ([\d.]+)", done.stdout, re.MULTILINE))
    assert re.search(r"^backbone: .*mb_k", done.stdout, re.MULTILINE)
    assert float(scores["untrained"]) < 0.005
    assert float(scores["trained"]) > float(scores["untrained"]) + 0.005
