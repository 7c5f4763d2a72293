"""What a cost is, and the dry run that it counts from.

A dry run builds a network on PyTorch's meta device, where tensors have a shape and no content, and
passes one image through it. Nothing is allocated and nothing is multiplied. A network that needs
real tensors (it reads a value, say) is run on the CPU instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from archgrad.choice import Sample, Supernet
from archgrad.randomness import seeded_modules


class Count(NamedTuple):
    """A cost, in its unit, and what it leaves out.

    value: the cost of everything that could be counted.
    uncounted: module types with parameters, and operations ("bmm in Attention"), that the cost has
        no rule for. Sorted, each once.
    """

    value: float
    uncounted: tuple[str, ...] = ()


class Call(NamedTuple):
    """One forward call of a module in the dry run.

    inputs: shapes of the tensors passed, positional ones first.
    output: shape of the result; None when the result is no tensor.
    multiplications: names of the matrix products and convolutions that the module ran itself, outside
        its submodules.
    """

    inputs: tuple[torch.Size, ...]
    output: torch.Size | None
    multiplications: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class DryRun:
    """A network and what its modules did for one image.

    network: the network, on the meta device if it runs there.
    calls: the calls of each module in an evaluation pass with a batch of one image.
    training_only: modules that run in training and not in evaluation: the auxiliary head.
    """

    network: nn.Module
    calls: dict[nn.Module, list[Call]] = field(repr=False)
    training_only: frozenset[nn.Module] = field(repr=False)


@dataclass(frozen=True)
class Cost:
    """A unit, and ``count(part, run)``: the cost of some of the modules of a network.

    `part` holds each of its modules once, submodules included, so `count` looks at what a module has
    or does itself, not at its children. The cost of two parts together must be the sum of theirs.
    """

    unit: str
    count: Callable[[Iterable[nn.Module], DryRun], Count]


# Modules that keep shapes. On the meta device BatchNorm is slow (about 1 ms a call, 80 % of the
# whole pass), so there these hand their input on.
_KEEP_SHAPE = (nn.ReLU, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def dry_run(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> DryRun:
    """Build a network and pass one image through it, without computing where that is possible.

    Args:
        build: makes the network; called once, or twice when it does not run on the meta device. A
            `Supernet` runs all candidates of every choice.
        shape: of one image, (C, H, W).

    The global random state is left as it was.
    """
    with seeded_modules(0), torch.no_grad():
        try:
            return _run(build, shape, "meta")
        except (RuntimeError, TypeError):
            # Reading a value, a generator of another device, NumPy: all fail on meta with one of
            # these. A fault of the network itself fails again on the CPU, with its own message.
            return _run(build, shape, "cpu")


def _run(build: Callable[[], nn.Module], shape: tuple[int, ...], device: str) -> DryRun:
    with torch.device(device):
        network = build()
        if device == "meta":
            for module in network.modules():
                if type(module) in _KEEP_SHAPE:
                    module.forward = _identity  # the network is ours and thrown away
        recorder = _Recorder()
        hooks = [m.register_forward_pre_hook(recorder.enter) for m in network.modules()] + [
            m.register_forward_hook(recorder.leave, with_kwargs=True, always_call=True)
            for m in network.modules()
        ]
        with recorder:
            _forward(network.eval(), torch.zeros(1, *shape))
        for hook in hooks:
            hook.remove()
        training_only = _training_only(network, recorder.calls, shape)
    return DryRun(network, recorder.calls, training_only)


def _training_only(
    network: nn.Module, called: Mapping[nn.Module, object], shape: tuple[int, ...]
) -> frozenset[nn.Module]:
    """The modules that a training pass runs and that are not in `called`."""
    idle = [m for m in network.modules() if m not in called]
    if not any(_owns_parameters(m) for m in idle):
        return frozenset()
    ran: set[nn.Module] = set()
    for module in idle:
        module.register_forward_pre_hook(lambda m, inputs: ran.add(m))
    # two images: BatchNorm in training refuses one value per channel
    _forward(network.train(), torch.zeros(2, *shape))
    network.eval()
    return frozenset(ran)


def _owns_parameters(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None


def _identity(x: Tensor) -> Tensor:
    return x


def _forward(network: nn.Module, x: Tensor) -> None:
    if isinstance(network, Supernet):
        uniform = [
            torch.full((len(g.names), len(g.candidates)), 1 / len(g.candidates)) for g in network.groups
        ]
        network(x, [Sample(weights.to(x)) for weights in uniform])
    else:
        network(x)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the calls of every module, and which module each multiplication belongs to."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: dict[nn.Module, list[Call]] = {}
        self.stack: list[list[str]] = []  # multiplications of the modules being run, outermost first

    def enter(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.stack.append([])

    def leave(self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        shapes = tuple(x.shape for x in (*inputs, *named.values()) if isinstance(x, Tensor))
        result = output.shape if isinstance(output, Tensor) else None
        self.calls.setdefault(module, []).append(Call(shapes, result, tuple(self.stack.pop())))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if self.stack and name in _multiplications():
            self.stack[-1].append(name)
        return func(*args, **(kwargs or {}))


@cache
def _multiplications() -> frozenset[str]:
    """Names of the operations that multiply matrices, convolve, or attend."""
    from torch.utils.flop_counter import flop_registry

    known = {packet.__name__ for packet in flop_registry}
    # products that PyTorch's own counter does not know
    return frozenset(known) | {
        "addbmm",
        "addmv",
        "dot",
        "mv",
        "_native_multi_head_attention",
        "_scaled_dot_product_flash_attention_for_cpu",
        "_transformer_encoder_layer_fwd",
        "_trilinear",
    }
