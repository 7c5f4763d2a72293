"""Block DCT, gates and selection: against SciPy, closed forms, finite differences and a planted task."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.fft
import torch
from torch import nn

from archgrad.costs.network_counts import count_module
from archgrad.datasets.augmentation import Augmentation
from archgrad.datasets.batches import Batches
from archgrad.datasets.images import MemoryImages
from archgrad.datasets.normalisation import Normalisation
from archgrad.errors import UserError
from archgrad.frequency.block_dct import (
    STRIDES,
    BlockDCT,
    channel_names,
    dct_matrix,
    default_stride,
    map_size,
    zigzag,
)
from archgrad.frequency.channel_gates import ChannelGates, GatePenalty, set_gate_noise
from archgrad.frequency.network import FrequencyNetwork, LearnedFilterNetwork
from archgrad.frequency.selection import (
    GateStatistics,
    coefficient_statistics,
    gate_statistics,
    lowest,
    random_channels,
    ranking,
    select,
)
from archgrad.randomness import Streams
from archgrad.train import TrainPlan, TrainRecord, TrainState, train

RGB = Normalisation((0.49, 0.48, 0.45), (0.25, 0.24, 0.26))
GREY = Normalisation((0.31,), (0.35,))


def pixels(*shape, seed=0):
    return torch.randint(0, 256, shape, generator=Streams(seed).generator("pixels")).double()


def normalised(p, normalisation):
    mean, std = (torch.tensor(v, dtype=p.dtype).view(1, -1, 1, 1) for v in normalisation)
    return (p / 255 - mean) / std


def jpeg_colours(p):
    """JFIF 1.02, page 3, with its rounded constants, minus the level shift of 128 (T.81, A.3.1)."""
    r, g, b = p.unbind(1)
    y = 0.299 * r + 0.587 * g + 0.114 * b - 128
    cb = -0.168735892 * r - 0.331264108 * g + 0.5 * b
    cr = 0.5 * r - 0.418687589 * g - 0.081312411 * b
    return torch.stack([y, cb, cr], 1)


def scipy_blocks(planes, stride=8):
    """Coefficients [B, 64·C, h, w] of planes [B, C, H, W], block by block with scipy.fft.dctn."""
    around = (8 - stride) // 2
    b, c, h, w = planes.shape
    pad = [(0, 0), (0, 0), (around, around + -h % stride), (around, around + -w % stride)]
    padded = np.pad(planes.numpy(), pad, mode="edge")
    rows, columns = math.ceil(h / stride), math.ceil(w / stride)
    out = np.empty((b, 64 * c, rows, columns))
    for i in range(rows):
        for j in range(columns):
            block = padded[:, :, i * stride : i * stride + 8, j * stride : j * stride + 8]
            out[:, :, i, j] = scipy.fft.dctn(block, axes=(2, 3), norm="ortho").reshape(b, -1)
    return torch.from_numpy(out)


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 8), (3, 13, 22), (1, 28, 28)], ids=str)
def test_the_transform_is_scipys_of_each_block(shape, stride):
    p = pixels(4, *shape)
    normalisation = RGB if shape[0] == 3 else GREY
    transform = BlockDCT(shape, normalisation, stride, dtype=torch.float64)
    found = transform(normalised(p, normalisation))
    # the constants of JFIF are rounded to nine digits, so to 1e-10 only against our own colours
    planes = p - 128 if shape[0] == 1 else transform.colour(normalised(p, normalisation))
    expected = scipy_blocks(planes, stride)
    assert found.shape == expected.shape == (4, 64 * shape[0], *map_size(shape, stride))
    assert float((found - expected).abs().max()) < 1e-10 * 1024
    if shape[0] == 3:
        torch.testing.assert_close(planes, jpeg_colours(p), atol=2e-6, rtol=0)


def test_in_float32_it_is_right_to_a_thousandth_of_a_grey_level():
    p = pixels(8, 3, 32, 32)
    exact = BlockDCT((3, 32, 32), RGB, 8, dtype=torch.float64)(normalised(p, RGB))
    found = BlockDCT((3, 32, 32), RGB, 8)(normalised(p, RGB).float())
    assert float((found - exact).abs().max()) < 1e-3
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(BlockDCT((3, 32, 32), RGB, 8)(normalised(p, RGB).float()), found)


def test_the_matrix_is_orthonormal_so_blocks_keep_their_energy_and_can_be_inverted():
    d = dct_matrix()
    torch.testing.assert_close(d @ d.T, torch.eye(8, dtype=torch.float64), atol=1e-14, rtol=0)
    p = pixels(5, 1, 24, 16)
    found = BlockDCT((1, 24, 16), GREY, dtype=torch.float64)(normalised(p, GREY))
    planes = p - 128
    assert float(found.square().sum()) == pytest.approx(float(planes.square().sum()), rel=1e-12)
    blocks = found.unflatten(1, (8, 8))  # B u v rows columns
    back = torch.einsum("ui,vj,buvrc->bricj", d, d, blocks).reshape(5, 1, 24, 16)
    torch.testing.assert_close(back, planes, atol=1e-10, rtol=0)


@pytest.mark.parametrize("stride", STRIDES)
def test_a_subset_is_those_channels_and_costs_less(stride):
    p, chosen = normalised(pixels(2, 3, 16, 16), RGB), [0, 1, 9, 70, 190, 191]
    everything = BlockDCT((3, 16, 16), RGB, stride, dtype=torch.float64)(p)
    subset = BlockDCT((3, 16, 16), RGB, stride, chosen, dtype=torch.float64)
    torch.testing.assert_close(subset(p), everything[:, chosen], atol=1e-10, rtol=0)
    only_chroma = BlockDCT((3, 16, 16), RGB, stride, [64, 130], dtype=torch.float64)
    torch.testing.assert_close(only_chroma(p), everything[:, [64, 130]], atol=1e-10, rtol=0)
    counts = count_module(lambda: BlockDCT((3, 16, 16), RGB, stride, chosen), (3, 16, 16))
    side = 16 // stride
    assert (counts.parameters, counts.uncounted) == (0, ())
    assert counts.macs == 16 * 16 * 9 + side * side * 6 * 64
    assert not list(subset.parameters())
    assert not subset.state_dict()


def test_overlapping_blocks_are_centred_on_their_pixels():
    """Mirroring an image mirrors the coefficients: odd horizontal frequencies change their sign."""
    p = normalised(pixels(2, 1, 16, 16), GREY)
    sign = torch.tensor([(-1.0) ** v for _ in range(8) for v in range(8)], dtype=torch.float64)
    for stride in STRIDES:
        transform = BlockDCT((1, 16, 16), GREY, stride, dtype=torch.float64)
        torch.testing.assert_close(
            transform(p.flip(3)), transform(p).flip(3) * sign[:, None, None], atol=1e-9, rtol=0
        )


def test_names_strides_and_the_zigzag():
    assert channel_names(1)[:2] == ("grey 0,0", "grey 0,1")
    assert channel_names(3)[191] == "Cr 7,7"
    # ITU-T T.81, figure 5: position in the zigzag of the first rows' coefficients
    positions = {index: place for place, index in enumerate(zigzag())}
    assert [positions[v] for v in range(8)] == [0, 1, 5, 6, 14, 15, 27, 28]
    assert [positions[8 + v] for v in range(8)] == [2, 4, 7, 13, 16, 26, 29, 42]
    assert positions[63] == 63
    assert default_stride((3, 127, 200)) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((3, 7, 32), RGB), "7×32 are smaller than a block of 8×8.*data.resize=8"),
        (((2, 32, 32), RGB), "grey images .* or RGB .*got 2 channels"),
        (((3, 32, 32), RGB, 3), "8, 4 or 2 pixels apart, got 3"),
        (((3, 32, 32), GREY), "as many means and deviations, got 1"),
        (((3, 32, 32), RGB, 8, [192]), "from 0 to 191"),
        (((3, 32, 32), RGB, 8, [5, 5]), "ascending"),
        (((3, 32, 32), RGB, 8, []), "at least one"),
    ],
)
def test_what_cannot_be_transformed_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        BlockDCT(*arguments)


# ---- gates


def gates(channels=6, **settings):
    torch.manual_seed(1)  # initialisation only
    return ChannelGates(channels, **settings).double()


def test_gates_are_binary_concrete_draws_of_the_images_own_logits():
    module, x = gates(), torch.randn(4, 6, 3, 3, generator=Streams(0).generator("x")).double()
    with torch.no_grad():
        module.logit_pairs.weight.mul_(30)
        module.logit_pairs.bias.mul_(0.3)
    draws, total = torch.zeros(4, 6), 4000
    stream = Streams(2).generator("gates")
    with torch.no_grad():
        for _ in range(total):
            set_gate_noise(module, stream)
            z = module(x) / x
            assert bool(((z == 0) | (z == 1)).all())
            draws += z[:, :, 0, 0]
    p = torch.sigmoid(module.logits)
    assert float(p.min()) < 0.6 < 0.9 < float(p.max())  # they do differ by image and channel
    chi = ((draws - total * p).square() / (total * p * (1 - p))).sum()  # chi-square, 24 degrees of freedom
    assert 6 < float(chi) < 55  # 0.0001 and 0.9999 quantiles are about 5.9 and 57


def test_evaluation_is_the_likelier_side_unless_noise_is_asked_for():
    x = torch.randn(64, 6, 2, 2, generator=Streams(0).generator("x")).double()
    module = gates(open_at_first=0.6).eval()
    first = module(x)
    assert torch.equal(first, module(x))
    assert torch.equal(first != 0, (module.logits > 0)[:, :, None, None].expand_as(x))
    noisy = gates(open_at_first=0.6, noise_in_evaluation=True).eval()
    with pytest.raises(RuntimeError, match="set_gate_noise"):
        noisy(x)
    set_gate_noise(noisy, Streams(0).generator("gates"))
    assert not torch.equal(noisy(x), first)


def test_noise_comes_from_the_stream_alone():
    module, x = gates(open_at_first=0.5), torch.ones(8, 6, 2, 2).double()
    results, states = [], []
    for name in ("a", "a", "b"):
        states.append(torch.random.get_rng_state())
        set_gate_noise(module, Streams(5).generator(name))
        results.append(module(x))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert torch.equal(states[0], torch.random.get_rng_state())


def test_about_as_many_gates_are_open_at_first_as_wanted():
    x = torch.randn(256, 192, 4, 4, generator=Streams(0).generator("x")).double()
    for wanted in (0.5, 0.9, 0.99):
        module = gates(192, open_at_first=wanted).eval()
        module(x)
        assert float(module.expected_open.detach()) / 192 == pytest.approx(wanted, abs=0.03)


def test_the_penalty_is_the_exact_expectation_and_so_is_its_gradient():
    module, x = gates(), torch.randn(5, 6, 3, 3, generator=Streams(0).generator("x")).double()
    penalty, epoch = GatePenalty(0.3, warmup=2), 1
    set_gate_noise(module, Streams(0).generator("gates"))
    module(x)
    value = penalty(module, epoch)
    # all 2^6 patterns of each image's gates
    p = torch.sigmoid(module.logits)
    patterns = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 6)
    weights = torch.where(patterns[None] > 0, p[:, None], 1 - p[:, None]).prod(2)
    expected = 0.15 * (weights * patterns.sum(1)).sum(1).mean()
    assert float(value.detach()) == pytest.approx(float(expected), rel=1e-12)
    parameters = list(module.parameters())
    gradient = torch.autograd.grad(value, parameters)

    def at() -> float:
        set_gate_noise(module, Streams(0).generator("gates"))
        module(x)
        return float(penalty(module, epoch).detach())

    compared = 0
    for parameter, g in zip(parameters, gradient, strict=True):
        for index in range(0, parameter.numel(), 5):
            flat, step = parameter.data.view(-1), 1e-5
            before = float(flat[index])
            flat[index] = before + step
            up = at()
            flat[index] = before - step
            down = at()
            flat[index] = before
            assert float(g.reshape(-1)[index]) == pytest.approx((up - down) / (2 * step), abs=1e-8)
            compared += 1
    assert compared > 15


def test_the_networks_gradient_passes_the_gates_straight_through():
    """dL/dα of a hard gate is that of the relaxed one: Σ x·dL/dy times z(1 − z)/τ."""
    module, x = gates(temperature=0.7), torch.randn(3, 6, 2, 2, generator=Streams(0).generator("x")).double()
    weight = torch.randn(3, 6, 2, 2, generator=Streams(1).generator("weight")).double()
    set_gate_noise(module, Streams(0).generator("gates"))
    module(x).mul(weight).sum().backward()
    stream = Streams(0).generator("gates")
    u, v = (torch.empty(1, 3, 6).double().exponential_(generator=stream).log()[0] for _ in range(2))
    soft = torch.sigmoid((module.logits - u + v) / 0.7)  # Gumbel noise is −log of an exponential
    to_alpha = (x * weight).sum((2, 3)) * soft * (1 - soft) / 0.7
    found = module.logit_pairs.bias.grad.view(6, 2)
    torch.testing.assert_close(found, torch.stack([-to_alpha.sum(0), to_alpha.sum(0)], 1))


def test_settings_of_gates_that_cannot_be_are_refused():
    for settings in ({"temperature": 0.0}, {"temperature": math.inf}, {"open_at_first": 1.0}):
        with pytest.raises(UserError, match=next(iter(settings))):
            ChannelGates(4, **settings)


# ---- networks and training


def planted_images(count, seed=0):
    """Grey 16×16 noise; the class is the sign of one coefficient, (0, 3), the same in every block."""
    generator = Streams(seed).generator("planted")
    labels = torch.randint(0, 2, (count,), generator=generator)
    waves = dct_matrix()
    pattern = torch.outer(waves[0], waves[3]).repeat(2, 2).float()
    noise = 25 * torch.randn(count, 1, 16, 16, generator=generator)
    x = 128 + noise + 120 * (2 * labels - 1).view(-1, 1, 1, 1) * pattern
    return MemoryImages(x.round().clamp(0, 255).to(torch.uint8), labels)


def planted_batches(images, **settings):
    return Batches(
        images,
        torch.arange(len(images)),
        settings.pop("batch_size", 32),
        normalisation=Normalisation((0.5,), (0.11,)),
        augmentation=Augmentation(),
        streams=Streams(0),
        name="train/planted",
        **settings,
    )


def plan_with(**changes):
    plan = TrainPlan(epochs=12, learning_rate=lambda _: 0.05, drop_path=lambda _: 0.0)
    return replace(plan, **changes)


def trained_gates(strength, epochs=12):
    torch.manual_seed(0)
    network = FrequencyNetwork((1, 16, 16), 2, Normalisation((0.5,), (0.11,)), 8, 8, 1, gates={})
    images, streams = planted_images(320), Streams(3)
    mean, deviation = coefficient_statistics(
        network.transform, (x for x, _ in planted_batches(images, shuffle=False).epoch(0))
    )
    network.set_statistics(mean, deviation)
    state = TrainState(torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9))
    plan = plan_with(
        epochs=epochs,
        penalty=GatePenalty(strength, 3),
        before_step=lambda net, epoch, step: set_gate_noise(net, streams.generator("gates", epoch, step)),
    )
    records = [
        r for r in train(network, planted_batches(images), state, plan, streams) if isinstance(r, TrainRecord)
    ]
    return network, records, gate_statistics(network, (x for x, _ in planted_batches(images).epoch(0)))


def test_the_channel_that_carries_the_class_is_found_and_the_others_close():
    _, records, statistics = trained_gates(0.3)
    assert records[-1].train_accuracy > 0.97
    assert ranking(statistics.probability)[0] == 3
    assert statistics.probability[3] > 0.8
    others = [p for c, p in enumerate(statistics.probability) if c != 3]
    assert sum(others) < 0.4 * 64
    assert select(statistics, keep=1) == (3,)
    _, _, without = trained_gates(0.0)
    assert sum(without.probability) > 1.5 * sum(statistics.probability)


def test_statistics_of_the_coefficients_are_those_of_all_blocks():
    images = planted_images(70)
    transform = BlockDCT((1, 16, 16), Normalisation((0.5,), (0.11,)), 4)
    batches = planted_batches(images, batch_size=32, shuffle=False, drop_last=False)
    mean, deviation = coefficient_statistics(transform, (x for x, _ in batches.epoch(0)))
    everything = torch.cat([transform(x) for x, _ in batches.epoch(0)]).double()
    torch.testing.assert_close(mean, everything.mean((0, 2, 3)), atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(deviation, everything.std((0, 2, 3), correction=0))
    flat, ones = coefficient_statistics(nn.Identity(), [torch.full((4, 2, 3, 3), 7.0)])
    assert flat.tolist() == [7.0, 7.0]
    assert ones.tolist() == [1.0, 1.0]


def test_a_static_network_standardises_its_own_channels():
    chosen = (2, 9, 64)
    network = FrequencyNetwork((3, 16, 16), 4, RGB, 4, 4, 1, channels=chosen)
    mean, deviation = torch.arange(192.0), torch.arange(192.0) + 1
    network.set_statistics(mean, deviation)
    x = normalised(pixels(2, 3, 16, 16), RGB).float()
    expected = (network.transform(x) - mean[list(chosen)].view(3, 1, 1)) / deviation[list(chosen)].view(
        3, 1, 1
    )
    torch.testing.assert_close(network.standardise(network.transform(x)), expected)
    again = FrequencyNetwork((3, 16, 16), 4, RGB, 4, 4, 1, channels=chosen)
    again.load_state_dict(network.state_dict())
    assert torch.equal(again.eval()(x), network.eval()(x))


def test_the_control_on_pixels_has_the_same_backbone_and_as_many_filters():
    fixed = FrequencyNetwork((3, 32, 32), 10, RGB, 2, 8, 1, channels=range(24))
    learned = LearnedFilterNetwork((3, 32, 32), 10, 2, 8, 1, filters=24)
    assert [p.shape for p in fixed.body.parameters()] == [p.shape for p in learned.body.parameters()]
    x = torch.randn(2, 3, 32, 32)
    assert learned(x).shape == (2, 10)
    assert learned.filters(torch.zeros(1, 3, 38, 38)).shape[2:] == fixed.transform(x).shape[2:]


def test_a_plan_without_hooks_trains_as_before_and_a_penalty_moves_what_it_is_about():
    images, results = planted_images(64), {}
    for name, penalty in (("none", None), ("zero", lambda n, e: 0.0 * n[1].weight.sum()), ("some", None)):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
        if name == "some":
            penalty = lambda n, e: 0.5 * (e + 1) * n[1].bias.sum()  # noqa: E731
        seen = []
        plan = plan_with(epochs=2, penalty=penalty, before_step=lambda n, e, s, to=seen: to.append((e, s)))
        state = TrainState(torch.optim.SGD(network.parameters(), lr=0.05))
        list(train(network, planted_batches(images), state, plan, Streams(0)))
        results[name] = network[1].bias.detach().clone()
        assert seen == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert torch.equal(results["none"], results["zero"])
    # of the cross-entropy the two biases' gradients cancel; the penalty's is 0.5, then 1, in two steps each
    assert float(results["some"].sum() - results["none"].sum()) == pytest.approx(
        -0.05 * 2 * (0.5 + 0.5 + 1 + 1), abs=1e-5
    )


# ---- selection


def test_selection_by_number_and_by_threshold():
    statistics = GateStatistics((0.1,) * 62 + (0.9, 0.5), (0.0,) * 62 + (1.0, 0.4), 10)
    assert select(statistics, keep=2) == (62, 63)
    assert select(statistics, keep=3) == (0, 62, 63)
    assert select(statistics, threshold=0.5) == (62, 63)
    assert select(statistics, threshold=0.51) == (62,)
    for amount, message in (
        ({"keep": 65}, "1 to 64 channels, as these images have 64; got 65"),
        ({"keep": 0}, "got 0"),
        ({"threshold": 1.5}, "at most 1; got 1.5"),
        ({}, "either keep"),
        ({"keep": 1, "threshold": 0.5}, "either keep"),
    ):
        with pytest.raises(UserError, match=message):
            select(statistics, **amount)
    with pytest.raises(
        UserError, match=r"no channel is open with a probability of 0\.95, the likeliest .*0\.9;"
    ):
        select(statistics, threshold=0.95)


def test_control_sets():
    assert lowest(64, 3) == (0, 1, 8)
    assert lowest(192, 6) == (0, 1, 64, 65, 128, 129)
    drawn = [random_channels(64, 8, Streams(0).generator("control", i)) for i in range(2000)]
    assert all(len(set(d)) == 8 and list(d) == sorted(d) for d in drawn)
    counts = torch.bincount(torch.tensor(drawn).flatten(), minlength=64).double()
    # a channel is in a set with probability 1/8; of one image's 64 counts 63 are free
    chi = ((counts - 250).square() / (250 * 7 / 8)).sum() * 63 / 64
    assert 26 < float(chi) < 120
