"""Choices of width, depth and input; nested and shared ones; the examples that use them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from archgrad.architecture import Architecture
from archgrad.choice import Choice, Pick, Sample, Supernet, concrete, supernet
from archgrad.costs.cost_table import cost_table
from archgrad.costs.network_counts import count_module, count_network
from archgrad.errors import UserError
from archgrad.network_features import network_features
from archgrad.ops.take import Take
from archgrad.randomness import seeded_modules
from archgrad.spaces.depth import repeat
from archgrad.spaces.mobile import MobileNetwork
from archgrad.spaces.width import ChannelMask, choose_width
from archgrad.testing import check_space
from archgrad.testing.spaces import random_architecture, uniform_architectures

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def example(name: str) -> ModuleType:
    """The module examples/<name>.py."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- the supernet is the derived network -----------------------------------------------------------


def chosen_tensors(network: Supernet, architecture: Architecture) -> dict[str, Tensor]:
    """The supernet's parameters and buffers by the path that they have in the derived network."""
    choices = {
        path: m for path, m in network.network.named_modules(remove_duplicate=False) if isinstance(m, Choice)
    }
    found = {}
    for path, tensor in network.network.state_dict(keep_vars=True).items():
        parts, kept = path.split("."), []
        while parts:
            done = path.split(".")[: len(path.split(".")) - len(parts)]
            choice = choices.get(".".join(done))
            if choice is None or parts[0] != "options":
                kept.append(parts.pop(0))
                continue
            if choice.candidates[int(parts[1])] != architecture[choice.name]:
                break
            parts = parts[2:]
        else:
            found[".".join(kept)] = tensor
    return found


def leading(tensor: Tensor, like: Tensor) -> Tensor:
    """The slice of `tensor` from its first corner that is as large as `like`."""
    return tensor[tuple(slice(0, n) for n in like.shape)]


def check_equal(
    space: Callable[..., nn.Module], shape: tuple[int, ...], architectures: int = 4, **settings: object
) -> None:
    """Output and weight gradients at one-hot weights are those of the derived network, in float64."""
    with seeded_modules(0):
        network = supernet(space, shape, 3, **settings).double()
    for p in network.parameters():  # no scale or shift may be the neutral one
        p.data.add_(torch.randn(p.shape, generator=generator(5), dtype=p.dtype), alpha=0.3)
    tried = [random_architecture(network.groups, generator(seed)) for seed in range(architectures)]
    for architecture in [*uniform_architectures(network.groups), *tried]:
        with seeded_modules(1):
            target = concrete(space, architecture, shape, 3, **settings).double()
        for training in (True, False):
            network.train(training)
            target.train(training)
            source = chosen_tensors(network, architecture)
            own = target.state_dict()
            assert set(own) <= set(source), set(own) - set(source)
            target.load_state_dict(
                {path: leading(source[path], t).detach().clone() for path, t in own.items()}
            )
            x = torch.randn(4, *shape, generator=generator(2), dtype=torch.float64)
            one_hot = network.one_hot(architecture)
            got, wanted = network(x, one_hot), target(x)
            torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)
            everything = [Sample(s.weights) for s in one_hot]  # all candidates run, those of weight 0 too
            torch.testing.assert_close(network(x, everything), got, rtol=1e-10, atol=1e-10)
            paths = dict(target.named_parameters())
            ours = torch.autograd.grad(
                got.square().sum(), [source[p] for p in paths], allow_unused=True, materialize_grads=True
            )
            theirs = torch.autograd.grad(wanted.square().sum(), list(paths.values()), materialize_grads=True)
            for (path, p), g, w in zip(paths.items(), ours, theirs, strict=True):
                torch.testing.assert_close(leading(g, p), w, rtol=1e-9, atol=1e-9, msg=path)
                outside = g.clone()
                leading(outside, p).zero_()
                assert float(outside.abs().max()) == 0.0, f"{path}: a masked channel is learned"


# --- width -----------------------------------------------------------------------------------------


def two_layers(pick: Pick, shape: tuple[int, ...], classes: int) -> nn.Module:
    """Two layers whose outputs are added must have one width: one name."""

    class Added(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            widths = [2, 5, 3]
            self.width, self.mask = choose_width(pick, "width", widths)
            width, self.mask2 = choose_width(pick, "width", widths)
            self.a, self.b = nn.Conv2d(shape[0], self.width, 3, padding=1), nn.Conv2d(shape[0], width, 1)
            self.norm, self.last = nn.BatchNorm2d(width), nn.Linear(width, classes)

        def forward(self, x: Tensor) -> Tensor:
            y = self.mask(self.norm(self.a(x))) + self.mask2(self.b(x).relu())
            out: Tensor = self.last(y.mean(dim=(2, 3)))
            return out

    return Added()


def test_a_width_is_a_leading_slice() -> None:
    check_equal(two_layers, (2, 4, 4))


def test_decisions_of_one_name_share_their_logits() -> None:
    (group,) = supernet(two_layers, (2, 4, 4), 3).groups
    assert group.names == ("width",)
    assert group.candidates == ("2", "5", "3")


def test_a_mixture_of_widths_is_a_mixture_of_masks() -> None:
    """FBNetV2, eq. 2: Σ z_k mask_k on the widest layer."""
    network = supernet(lambda pick: nn.Sequential(*reversed_pair(pick)))
    weights = torch.tensor([[0.2, 0.5, 0.3]], requires_grad=True)
    y = network(torch.ones(1, 3), [Sample(weights)])
    layer = network.network[0]
    factors = torch.tensor([1.0, 1.0, 0.8, 0.3, 0.3])  # channels 0-1 in all, 2 in those of 3 and 5, …
    torch.testing.assert_close(y, layer(torch.ones(1, 3)) * factors)


def reversed_pair(pick: Pick) -> list[nn.Module]:
    width, mask = choose_width(pick, "width", [2, 3, 5])
    weights = nn.Linear(3, width)
    return [weights, mask]


@pytest.mark.parametrize("widths", [[1, 8], [1, 2, 3, 4, 5, 6, 7, 8]])
def test_more_widths_keep_no_more_activations(widths: list[int]) -> None:
    """What the backward pass needs: the widest layer's output once, whatever the number of masks."""
    network = supernet(lambda pick: nn.Sequential(*masked(pick, widths)))
    z = torch.full((1, len(widths)), 1 / len(widths), requires_grad=True)
    kept: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        network(torch.ones(100, 3), [Sample(z)])
    assert sum(n >= 800 for n in kept) == 1
    assert sum(n for n in kept if n < 300) < 200


def masked(pick: Pick, widths: list[int]) -> list[nn.Module]:
    width, mask = choose_width(pick, "width", widths)
    return [nn.Linear(3, width), mask]


def test_the_mixture_of_masks_in_numbers() -> None:
    masks = [ChannelMask(n) for n in (2, 3, 5)]
    x = torch.ones(1, 5)
    mixed = 0.2 * masks[0](x) + 0.5 * masks[1](x) + 0.3 * masks[2](x)
    torch.testing.assert_close(mixed, torch.tensor([[1.0, 1.0, 0.8, 0.3, 0.3]]))
    assert torch.equal(ChannelMask(1, dim=-1)(torch.ones(1, 2, 3))[0, 1], torch.tensor([1.0, 0.0, 0.0]))


def test_a_derived_network_has_just_the_chosen_width() -> None:
    built = concrete(two_layers, Architecture({"width": "3"}), (2, 4, 4), 3)
    assert built.a.out_channels == 3
    assert not any(isinstance(m, ChannelMask | Choice) for m in built.modules())


@pytest.mark.parametrize("widths", [[], [0, 4], [4, 4], {}])
def test_widths_that_are_none_are_refused(widths: list[int]) -> None:
    with pytest.raises(UserError, match="different widths of at least 1 channel"):
        choose_width(lambda name, options: nn.Identity(), "width", widths)


@pytest.mark.parametrize(
    "candidates",
    [["mb_k3_e6_se_swish", "mb_k5_e3", "skip_connect"], ["mb_k3_e1_g2", "mb_k3_e3_se"]],
    ids=["squeeze", "beside-groups"],
)
def test_the_mobile_space_with_a_choice_of_widths(candidates: list[str]) -> None:
    settings = {"channels": 4, "stages": [[16, 2, 1], [24, 1, 2]], "reductions": 1, "head": 16}
    check_equal(MobileNetwork, (3, 6, 5), candidates=candidates, widths=[0.5, 1, 0.75], **settings)
    several = {**settings, "candidates": candidates, "widths": [0.5, 1]}
    check_space(
        MobileNetwork, (3, 6, 5), 3, search=several, train={**several, "channels": 6}, architectures=1
    )
    groups = supernet(MobileNetwork, (3, 8, 8), 3, candidates=candidates, widths=[0.5, 1], **settings).groups
    assert {n: g.candidates for g in groups for n in g.names}["stage2/layer1/width"] == ("0.5", "1")


def test_names_of_widths_do_not_depend_on_the_size() -> None:
    def names(channels: int) -> tuple[object, ...]:
        with torch.device("meta"):
            return supernet(MobileNetwork, (3, 32, 32), 10, channels=channels, widths=[0.5, 1]).groups

    assert names(4) == names(16)


# --- depth -----------------------------------------------------------------------------------------


def row(pick: Pick, shape: tuple[int, ...], classes: int, counts: tuple[int, ...] = (0, 3, 1)) -> nn.Module:
    def block(i: int) -> nn.Module:
        inner = pick("inner", {"tanh": nn.Tanh, "relu": nn.ReLU, "linear": lambda: nn.Linear(4, 4)})
        return nn.Sequential(nn.Linear(4, 4), inner)

    return nn.Sequential(nn.Linear(shape[0], 4), repeat(pick, "depth", block, counts), nn.Linear(4, classes))


def test_a_depth_is_a_prefix_with_choices_inside() -> None:
    check_equal(row, (5,))


def calls(network: nn.Module, run: Callable[[], object]) -> int:
    """How many of the row's blocks ran."""
    count = 0

    def note(*_: object) -> None:
        nonlocal count
        count += 1

    blocks = {m for m in network.modules() if isinstance(m, nn.Sequential) and len(m) == 2}
    hooks = [m.register_forward_hook(note) for m in blocks if isinstance(m[0], nn.Linear)]
    run()
    for hook in hooks:
        hook.remove()
    return count


def test_no_block_runs_twice_and_none_that_is_not_needed() -> None:
    network = supernet(lambda pick: Plain(pick))
    (group,) = network.groups
    assert group.candidates == ("1", "2", "4")
    x = torch.randn(2, 3, generator=generator())
    weights = torch.full((1, 3), 1 / 3)
    assert calls(network, lambda: network(x, [Sample(weights)])) == 4
    for count, blocks in (("1", 1), ("2", 2), ("4", 4)):
        hard = network.one_hot(Architecture({"depth": count}))
        assert calls(network, lambda hard=hard: network(x, hard)) == blocks
    two = [Sample(torch.tensor([[0.5, 0.5, 0.0]]), ((1, 0),))]  # in any order
    assert calls(network, lambda: network(x, two)) == 2
    outputs = network.network.row.outputs
    assert outputs == [], "nothing outlives the pass"


class Plain(nn.Module):
    """A row of 1, 2 or 4 pairs of linear layer and tanh."""

    def __init__(self, pick: Pick, *arguments: object):
        super().__init__()
        self.row = repeat(pick, "depth", lambda i: nn.Sequential(nn.Linear(3, 3), nn.Tanh()), [1, 2, 4])

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.row(x)
        return y


def test_a_mixture_of_depths() -> None:
    with seeded_modules(0):
        network = supernet(Plain)
    blocks = network.network.row.choice.options[2]
    x = torch.randn(2, 3, generator=generator())
    states = [x]
    for block in nn.ModuleList(blocks):
        states.append(block(states[-1]))
    weights = torch.tensor([[0.2, 0.5, 0.3]])
    wanted = 0.2 * states[1] + 0.5 * states[2] + 0.3 * states[4]
    torch.testing.assert_close(network(x, [Sample(weights)]), wanted)


def test_after_a_failed_pass_nothing_is_kept() -> None:
    network = supernet(Plain)
    with pytest.raises(RuntimeError):
        network(torch.zeros(2, 7), network.one_hot(Architecture({"depth": "2"})))
    assert network.network.row.outputs == []


def test_a_derived_network_has_just_the_chosen_blocks() -> None:
    built = concrete(Plain, Architecture({"depth": "2"}))
    assert sum(p.numel() for p in built.parameters()) == 2 * 12
    assert calls(built, lambda: built(torch.zeros(1, 3))) == 2
    none = concrete(row, Architecture({"depth": "0", "inner": "relu"}), (5,), 2)
    assert sum(p.numel() for p in none.parameters()) == (5 * 4 + 4) + (4 * 2 + 2)


@pytest.mark.parametrize("counts", [[], [-1, 2], [2, 2]])
def test_counts_that_are_none_are_refused(counts: list[int]) -> None:
    with pytest.raises(UserError, match="different numbers of blocks, none below 0"):
        repeat(lambda name, options: nn.Identity(), "depth", lambda i: nn.Identity(), counts)


# --- input -----------------------------------------------------------------------------------------


def test_a_choice_of_input() -> None:
    class Two(nn.Module):
        def __init__(self, pick: Pick):
            super().__init__()
            self.source = pick("source", {"first": lambda: Take(0), "second": lambda: Take(1)})

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.source(x, 10 * x)
            return y

    network, x = supernet(Two), torch.ones(2)
    z = torch.tensor([[0.25, 0.75]], requires_grad=True)
    y = network(x, [Sample(z)])
    torch.testing.assert_close(y, torch.full((2,), 7.75))
    y.sum().backward()
    assert z.grad is not None
    assert z.grad.tolist() == [[2.0, 20.0]]
    built = concrete(Two, Architecture({"source": "second"}))
    assert built(x).tolist() == [10.0, 10.0]


def test_what_looks_at_a_network_hands_on_all_inputs() -> None:
    class Second(nn.Module):
        def __init__(self, pick: Pick, shape: tuple[int, ...], classes: int):
            super().__init__()
            self.source = pick("source", {"second": lambda: Take(1), "first": lambda: Take(0)})

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.source(x, 10 * x)
            return y

    assert network_features(Second, (1, 8, 8), 2, {}).choices == {"source": ("second", "first")}


def test_an_input_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match=r"Take\(2\) wants input number 2, .* called with 2"):
        Take(2)(torch.zeros(1), torch.zeros(1))
    with pytest.raises(UserError, match="call what pick returns with all inputs"):
        Take(-1)(torch.zeros(1))


# --- the examples ----------------------------------------------------------------------------------

SPACES = {
    "own_choices": ("OwnChoices", (1, 8, 8), {"channels": 4}),
    "own_sensor": ("SensorNetwork", (2, 1, 64), {"channels": 4}),
    "own_transformer": ("RowTransformer", (1, 8, 8), {"width": 8}),
}


def test_a_width_is_counted_as_it_is_built() -> None:
    settings = {"channels": 4, "stages": [[16, 2, 1], [24, 1, 2]], "reductions": 1, "widths": [0.5, 0.75, 1]}
    groups = supernet(MobileNetwork, (3, 16, 16), 3, **settings).groups
    table = cost_table("macs", MobileNetwork, (3, 16, 16), 3, settings)
    for seed in range(4):
        architecture = random_architecture(groups, generator(seed))
        found = count_network(MobileNetwork, architecture, (3, 16, 16), 3, settings)
        built = concrete(MobileNetwork, architecture, (3, 16, 16), 3, **settings)
        assert found.parameters == sum(p.numel() for p in built.parameters())
        assert found.macs == count_module(lambda built=built: built, (3, 16, 16)).macs
        assert table.of(architecture) == found.macs


@pytest.mark.parametrize("name", SPACES)
def test_the_networks_of_the_examples_are_what_they_derive(name: str) -> None:
    attribute, shape, settings = SPACES[name]
    space = getattr(example(name), attribute)
    check_equal(space, shape, architectures=5, **settings)
    check_space(space, shape, 3, search=settings, train=settings, architectures=2)


def test_the_expected_cost_of_a_depth_bills_shared_blocks_once() -> None:
    table = cost_table("macs", row, (5,), 3)
    for architecture in uniform_architectures(table.choices):
        assert table.of(architecture) == count_network(row, architecture, (5,), 3).macs


def run(folder: Path, name: str) -> str:
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), "run"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    return done.stdout


def accuracy(printed: str, network: str) -> float:
    (line,) = [line for line in printed.splitlines() if line.startswith(f"{network}: ")]
    return float(line.partition("%")[0].split()[-1]) / 100


def test_own_choices_runs(tmp_path: Path) -> None:
    printed = run(tmp_path, "own_choices")
    assert "What the image goes through:\n  mixer: " in printed
    assert "activation everywhere: " in printed
    assert accuracy(printed, "derived") > 0.6, "ten classes; chance is 0.1"


def test_own_sensor_runs(tmp_path: Path) -> None:
    printed = run(tmp_path, "own_sensor")
    assert {line.partition(":")[0] for line in printed.splitlines()} >= {"layer0", "layer1", "layer2"}
    assert accuracy(printed, "derived") > 0.6, "four states; chance is 0.25"


def test_the_states_of_the_sensors_need_both_channels() -> None:
    """A linear rule on each channel's power spectrum: what one channel shows is less than what both show."""
    from sklearn.linear_model import LogisticRegression

    module = example("own_sensor")
    scores = {}
    for channels in ([0], [1], [0, 1]):
        parts = []
        for count, seed in ((800, 0), (400, 1)):
            x, states = module.signals(count, seed)
            power = torch.fft.rfft(x[:, channels]).abs().flatten(1) / 10
            parts.append((power.numpy(), states.numpy()))
        rule = LogisticRegression(max_iter=500).fit(*parts[0])
        scores[len(channels), channels[0]] = rule.score(*parts[1])
    assert scores[2, 0] > max(scores[1, 0], scores[1, 1]) + 0.1, scores
    assert scores[2, 0] < 0.99, "there must be something left for a network"


def test_own_transformer_runs(tmp_path: Path) -> None:
    printed = run(tmp_path, "own_transformer")
    assert "block 0: " in printed
    assert "hidden features" in printed
    assert accuracy(printed, "derived") > 0.4, "ten classes; chance is 0.1"
