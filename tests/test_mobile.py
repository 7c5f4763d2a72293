"""Mobile blocks and the mobile space: the contract, a literal block, published counts, every sampler."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn
from torch.nn import functional as F

from archgrad.architecture import Architecture
from archgrad.choice import Supernet, concrete, supernet
from archgrad.cli import main
from archgrad.costs.cost_table import cost_table
from archgrad.costs.network_counts import count_network
from archgrad.errors import UserError
from archgrad.network_features import network_features
from archgrad.ops import OPS
from archgrad.ops.inverted_residual import BlockKind, ChannelShuffle, InvertedResidual, SqueezeExcitation
from archgrad.randomness import seeded_modules
from archgrad.samplers import SAMPLERS
from archgrad.spaces.drop_path import DropPath, set_drop_path
from archgrad.spaces.mobile import FBNET_CANDIDATES, MOBILE, PROXYLESS_CANDIDATES, MobileNetwork, fbnet
from archgrad.testing import check_operation, check_space
from archgrad.testing.spaces import random_architecture

STAGES = [[16, 1, 1], [24, 2, 2], [32, 1, 2]]
SMALL = {"channels": 4, "stages": STAGES, "reductions": 2, "head": 32}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- blocks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["mb_k3_e1", "mb_k3_e1_g2", "mb_k5_e3_g2_se", "mb_k7_e6_swish", "mb_k3_e6_se_swish"]
)
def test_every_kind_of_block_is_an_operation(kind: str) -> None:
    parsed = BlockKind.parse(kind)
    assert parsed is not None
    assert parsed.name == kind

    def op(c_in: int, c_out: int, stride: int, affine: bool = True) -> nn.Module:
        return InvertedResidual(c_in, c_out, stride, affine, parsed)

    check_operation(op, sizes=((8, 8), (7, 5), (3, 4)))


def test_the_entries_of_the_table_are_the_blocks_of_their_names() -> None:
    entries = [name for name in OPS if name.startswith("mb_")]
    assert len(entries) == 12
    for name in entries:
        kind = BlockKind.parse(name)
        assert kind is not None
        named = [(p, tuple(t.shape)) for p, t in OPS[name](4, 6, 2).named_parameters()]
        assert named == [
            (p, tuple(t.shape)) for p, t in InvertedResidual(4, 6, 2, True, kind).named_parameters()
        ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mb_k4_e3", "kernel must be odd"),
        ("mb_k3_e0", "at least 1"),
        ("mb_k3", "no mobile block: wanted mb_k<kernel>"),
        ("mb_k3_e6_swish_se", "in this order"),
    ],
)
def test_a_wrong_name_is_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        BlockKind.parse(name)


@pytest.mark.parametrize("kind", ["mb_k5_e3", "mb_k3_e3_g2", "mb_k3_e2_se_swish", "mb_k3_e1"])
def test_a_block_equals_its_definition(kind: str) -> None:
    """Written out in plain functions, in float64, from the same parameters."""
    parsed = BlockKind.parse(kind)
    assert parsed is not None
    with seeded_modules(0):
        block = InvertedResidual(4, 4, 1, True, parsed).double().train()
    for p in block.parameters():  # no shift or scale may be the neutral one
        p.data.normal_(generator=generator(1))
    x = torch.randn(3, 4, 6, 5, generator=generator(), dtype=torch.float64)
    own = dict(block.named_parameters())
    act = (lambda t: t / (1 + torch.exp(-t))) if parsed.swish else (lambda t: t * (t > 0))

    def norm(t: Tensor, path: str) -> Tensor:
        centred = t - t.mean(dim=(0, 2, 3), keepdim=True)
        t = centred / torch.sqrt((centred**2).mean(dim=(0, 2, 3), keepdim=True) + 1e-5)
        return t * own[f"{path}.weight"].view(1, -1, 1, 1) + own[f"{path}.bias"].view(1, -1, 1, 1)

    def pointwise(t: Tensor, weight: Tensor) -> Tensor:
        outputs = weight.shape[0] // parsed.groups
        parts = [
            torch.einsum("oi,bihw->bohw", weight[g * outputs : (g + 1) * outputs, :, 0, 0], part)
            for g, part in enumerate(t.chunk(parsed.groups, dim=1))
        ]
        return torch.cat(parts, dim=1)

    y = x
    if parsed.expansion > 1:
        y = act(norm(pointwise(y, own["expand.0.weight"]), "expand.1"))
    if parsed.groups > 1:
        y = y[:, [i for a in range(y.shape[1] // 2) for i in (a, a + y.shape[1] // 2)]]
    depthwise = own["depthwise.0.weight"]
    y = torch.cat(
        [
            F.conv2d(y[:, c : c + 1], depthwise[c : c + 1], padding=parsed.kernel // 2)
            for c in range(y.shape[1])
        ],
        dim=1,
    )
    y = act(norm(y, "depthwise.1"))
    if parsed.squeeze:
        means = y.mean(dim=(2, 3))
        hidden = act(means @ own["squeeze.gate.1.weight"][:, :, 0, 0].T + own["squeeze.gate.1.bias"])
        gate = hidden @ own["squeeze.gate.3.weight"][:, :, 0, 0].T + own["squeeze.gate.3.bias"]
        y = y / (1 + torch.exp(-gate))[:, :, None, None]
    wanted = x + norm(pointwise(y, own["project.0.weight"]), "project.1")
    torch.testing.assert_close(block(x), wanted, rtol=0, atol=1e-11)


def test_the_shuffle_mixes_groups() -> None:
    x = torch.arange(6.0).view(1, 6, 1, 1)
    assert ChannelShuffle(2)(x).flatten().tolist() == [0, 3, 1, 4, 2, 5]
    assert ChannelShuffle(3)(x).flatten().tolist() == [0, 2, 4, 1, 3, 5]


def test_squeeze_excitation_is_as_narrow_as_its_input_says() -> None:
    block = InvertedResidual(16, 16, 1, kind=BlockKind(3, 6, squeeze=True))
    assert isinstance(block.squeeze, SqueezeExcitation)
    assert tuple(block.squeeze.gate[1].weight.shape) == (4, 96, 1, 1)


def test_groups_need_channels_that_they_divide() -> None:
    with pytest.raises(UserError, match="has 4 groups, and 6 input or 8 output channels"):
        InvertedResidual(6, 8, 1, kind=BlockKind(3, 1, 4))
    for kind in (BlockKind(3, 1), BlockKind(3, 6, 2)):
        with pytest.raises(UserError, match="cannot have its width chosen"):
            InvertedResidual(8, 8, 1, kind=kind, choose_width=lambda middle: (middle, nn.Identity()))


# --- the space -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "candidates",
    [
        FBNET_CANDIDATES,
        ["mb_k3_e3_se", "mb_k5_e2_g2_swish", "sep_conv_3x3", "skip_connect", "none"],
    ],
    ids=["published", "mixed"],
)
@pytest.mark.parametrize(
    ("shape", "classes"), [((3, 8, 8), 10), ((1, 9, 7), 2)], ids=["colour-even", "grey-odd"]
)
def test_the_space_keeps_the_contract(
    candidates: list[str], shape: tuple[int, int, int], classes: int
) -> None:
    settings = {**SMALL, "candidates": candidates}
    check_space(MOBILE, shape, classes, search=settings, train={**settings, "channels": 6}, architectures=2)


def test_choice_names_are_what_files_say() -> None:
    with torch.device("meta"):
        network = supernet(MobileNetwork, (3, 224, 224), 1000)
    layers = [1, 4, 4, 4, 4, 4, 1]
    names = [f"stage{s}/layer{i}" for s, n in enumerate(layers, start=1) for i in range(1, n + 1)]
    by_name = {name: group.candidates for group in network.groups for name in group.names}
    assert sorted(by_name) == sorted(names)
    assert len(names) == 22
    eight = {f"stage{s}/layer1" for s in (2, 3, 4, 5, 6, 7)}
    assert {n for n, c in by_name.items() if c == FBNET_CANDIDATES} == set(names) - eight
    assert {n for n, c in by_name.items() if c == FBNET_CANDIDATES[:-1]} == eight


def test_choices_do_not_depend_on_data_width_or_reductions() -> None:
    with torch.device("meta"):
        groups = {
            supernet(MobileNetwork, shape, classes, **settings).groups
            for shape, classes in (((3, 32, 32), 10), ((1, 28, 28), 2))
            for settings in ({}, {"channels": 2, "reductions": 0}, {"channels": 8}, {"head": 64})
        }
    assert len(groups) == 1


def test_reductions_halve_in_the_last_places() -> None:
    for reductions in range(6):
        with torch.device("meta"):
            network = concrete(
                MobileNetwork, everywhere("mb_k3_e1"), (3, 64, 64), 10, channels=2, reductions=reductions
            )
            sides = [network.stem(torch.zeros(1, 3, 64, 64))]
            for layer in network.layers:
                sides.append(layer(sides[-1]))
        assert sides[-1].shape[-1] == 64 // 2**reductions
        if reductions == 3:
            assert [x.shape[-1] for x in sides] == [64] * 6 + [32] * 4 + [16] * 8 + [8] * 5


def everywhere(candidate: str) -> Architecture:
    with torch.device("meta"):
        groups = supernet(MobileNetwork, (3, 32, 32), 10, candidates=[candidate]).groups
    return Architecture({name: candidate for group in groups for name in group.names})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"candidates": ["skip_connect"]}, "skip_connect alone cannot stand there"),
        ({"candidates": []}, "at least one stage and different candidates"),
        ({"candidates": ["mb_k3_e6", "mb_k3_e6"]}, "different candidates"),
        ({"candidates": ["mb_k2_e6"]}, "kernel must be odd"),
        ({"candidates": ["mb_k3_e1_g4"]}, "has 4 groups, and 4 input or 6 output"),
        ({"stages": []}, "at least one stage"),
        ({"stages": [[16, 1]]}, r"wanted \[channels, layers, stride\]"),
        ({"stages": [[16, 1, 3]]}, "stride 1 or 2"),
        ({"reductions": 4}, "have 3 places to halve the image at; give 0 to 3"),
        ({"widths": [0.5, 2]}, "fractions above 0, at most 1"),
        ({"widths": [0.5], "candidates": ["mb_k3_e1", "mb_k3_e6_g2"]}, "has a width to choose"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        supernet(MobileNetwork, (3, 8, 8), 10, **{**SMALL, **settings})


def test_images_too_small_for_the_reductions_are_refused_before_any_training() -> None:
    with pytest.raises(UserError, match="images of 8×8 are too small for the reductions of this space"):
        network_features(MobileNetwork, (3, 8, 8), 10, {"channels": 2, "reductions": 4})
    assert network_features(MobileNetwork, (3, 8, 8), 10, {"channels": 2, "reductions": 3}).drop_path


# --- published networks ----------------------------------------------------------------------------

# parameters and multiply-adds: published in millions, and exact here
PUBLISHED = {
    "FBNet-A": ((4.3, 244.5), (4_304_584, 244_452_664)),
    "FBNet-B": ((4.8, 291.1), (4_801_368, 291_004_424)),
    "FBNet-C": ((5.5, 378.2), (5_570_664, 378_136_224)),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_of_published_networks(name: str) -> None:
    """The published numbers follow from the published code so:

    multiply-adds to the last printed digit if the additions of the global pooling (head · 7 · 7, which the
    convention here leaves out) are counted; parameters if they are cut after one digit (FBNet-C: 5.57 M).
    """
    architecture, settings = fbnet(name)
    found = count_network(MobileNetwork, architecture, (3, 224, 224), 1000, settings)
    (parameters, macs), exact = PUBLISHED[name]
    assert (found.parameters, found.macs) == exact
    assert round((found.macs + settings["head"] * 49) / 1e6, 1) == macs
    assert found.parameters // 100_000 / 10 == parameters
    assert not found.uncounted


def test_an_independent_counter_agrees() -> None:
    """PyTorch's takes a multiply-add as two operations."""
    from torch.utils.flop_counter import FlopCounterMode

    for name in PUBLISHED:
        architecture, settings = fbnet(name)
        with torch.device("meta"):
            built = concrete(MobileNetwork, architecture, (3, 224, 224), 1000, **settings).eval()
            with FlopCounterMode(display=False) as counter:
                built(torch.zeros(1, 3, 224, 224))
        assert counter.get_total_flops() == 2 * PUBLISHED[name][1][1]


def test_an_unknown_published_network_is_refused() -> None:
    with pytest.raises(UserError, match="did you mean 'FBNet-"):
        fbnet("FBNet-a")


# --- costs, drop path, samplers, end to end -------------------------------------------------------


@pytest.mark.parametrize("cost", ["parameters", "macs"])
def test_the_cost_table_is_exact(cost: str) -> None:
    candidates = [*FBNET_CANDIDATES, "mb_k3_e3_se"]
    settings = {**SMALL, "candidates": candidates}
    table = cost_table(cost, MobileNetwork, (3, 16, 16), 10, settings)
    assert not table.uncounted
    for seed in range(5):
        architecture = random_architecture(table.choices, generator(seed))
        counts = count_network(MobileNetwork, architecture, (3, 16, 16), 10, settings)
        assert table.of(architecture) == getattr(counts, cost)


def test_drop_path_is_on_the_branch_beside_a_shortcut() -> None:
    architecture = Architecture(
        {
            "stage1/layer1": "mb_k3_e3",
            "stage2/layer1": "mb_k3_e3",
            "stage2/layer2": "skip_connect",
            "stage3/layer1": "mb_k3_e1",
        }
    )
    with seeded_modules(0):
        network = concrete(MobileNetwork, architecture, (3, 8, 8), 10, **SMALL)
    assert [p for p, m in network.named_modules() if isinstance(m, DropPath)] == ["layers.0.drop_path"]
    block, x = network.layers[0], torch.randn(64, 4, 8, 8, generator=generator())
    kept = block(x) - x
    set_drop_path(network, 0.5, generator())
    dropped = block(x) - x
    factors = {round(float((d / k).detach().median()), 3) for d, k in zip(dropped, kept, strict=True)}
    assert factors == {0.0, 2.0}


@pytest.fixture(scope="module")
def network() -> Supernet:
    with seeded_modules(0):
        return supernet(
            MobileNetwork, (1, 8, 8), 3, **SMALL, candidates=["mb_k3_e3", "mb_k5_e1_g2", "skip_connect"]
        )


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_works(name: str, network: Supernet) -> None:
    part = SAMPLERS[name]
    sampler = part() if isinstance(part, type) else part
    logits = network.initial_logits(generator())
    samples = [sampler(a, 1.0, generator(1)) for a in logits]
    loss = network(torch.randn(4, 1, 8, 8, generator=generator(2)), samples).square().mean()
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in network.parameters())


@pytest.mark.parametrize(
    ("name", "learns"),
    [
        ("straight_through", False),
        ("reinmax", False),
        ("softmax", True),
        ("gumbel_softmax", True),
        ("two_path", True),
    ],
)
def test_one_candidate_alone_learns_nothing_where_its_scale_is_undone(name: str, learns: bool) -> None:
    """⟨dL/dy, y⟩ = 0 for a stage's last layer: its output y goes through convolution and BatchNorm alone."""
    stages = [[16, 1, 1], [24, 2, 2], [32, 2, 2]]
    with seeded_modules(0):
        network = supernet(MobileNetwork, (1, 8, 8), 3, **{**SMALL, "stages": stages}).double()
    last = {"stage1/layer1", "stage2/layer2", "stage3/layer2"}
    x = torch.randn(16, 1, 8, 8, generator=generator(), dtype=torch.float64)
    labels = torch.randint(3, (16,), generator=generator(1))
    norms: dict[str, float] = {}
    for draw in range(6):
        logits = [a.double().detach().requires_grad_() for a in network.initial_logits(generator())]
        samples = [SAMPLERS[name]()(a, 1.0, generator(10 * draw + i)) for i, a in enumerate(logits)]
        found = torch.autograd.grad(F.cross_entropy(network(x, samples), labels), logits)
        for group, gradient in zip(network.groups, found, strict=True):
            for choice, row in zip(group.names, gradient, strict=True):
                norms[choice] = max(norms.get(choice, 0.0), float(row.norm()))
    assert all(norms[choice] > 1e-4 for choice in set(norms) - last)
    assert all((norms[choice] > 1e-4) == learns for choice in last), norms


def test_from_search_to_export_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    candidates = "space.candidates=[mb_k3_e1_g2,mb_k3_e3_se,mb_k5_e3_swish,skip_connect]"
    space = ["space.channels=2", f"space.stages={STAGES}", "space.head=32", candidates]
    few = [*space, "search.epochs=1", "search.warmup_epochs=0", "search.batch_size=128", "train.epochs=1"]

    def run(*arguments: str) -> dict:
        done = CliRunner().invoke(main, [*arguments, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    search = ["search", "--data", "digits", "--space", "mobile", "--method", "gdas", "--run", "run"]
    run(
        *search, *few, "cost.name=macs", "cost.strength=mild", "train.space.channels=4", "train.drop_path=0.1"
    )
    derived = run("derive", "run")
    assert set(derived["architecture"]) == {
        "stage1/layer1",
        "stage2/layer1",
        "stage2/layer2",
        "stage3/layer1",
    }
    run("train", "run")
    exported = run("export", "run")
    assert exported
    assert (tmp_path / "run" / "export" / "standalone" / "model.py").is_file()


def test_the_lists_show_it() -> None:
    done = CliRunner().invoke(main, ["list", "spaces"])
    assert "mobile" in done.output
    assert set(PROXYLESS_CANDIDATES) - {"skip_connect"} <= set(OPS)
