"""What a cost is, and the dry run that it counts from.

A dry run builds a network on PyTorch's meta device, where tensors have a shape and no content, and
passes one image through it. Nothing is allocated and nothing is multiplied. A network that needs
real tensors (it reads a value, say) is run on the CPU instead.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, partial
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
    handed_on: whether the result is one of the tensors passed.
    constant: whether the module made tensors, and none of them from the values of others (the candidate
        `none`): it ran operations such as ``new_zeros`` and no other, its submodules too.
    """

    inputs: tuple[torch.Size, ...]
    output: torch.Size | None
    multiplications: tuple[str, ...]
    handed_on: bool = False
    constant: bool = False


@dataclass(frozen=True, eq=False)
class DryRun:
    """A network and what its modules did for one image.

    network: the network, on the meta device if it runs there.
    calls: the calls of each module, but of containers inside (``nn.Sequential``), in an evaluation pass with
        a batch of one image.
    training_only: modules with parameters that run in training and not in evaluation: the auxiliary head.
    """

    network: nn.Module
    calls: dict[nn.Module, list[Call]] = field(repr=False)
    training_only: frozenset[nn.Module] = field(repr=False)


def _keep(module: nn.Module, x: Tensor) -> Tensor:
    return x


def _convolve(module: nn.Conv2d, x: Tensor) -> Tensor:
    if isinstance(module.padding, str):
        raise RuntimeError("padding by name is left to PyTorch")
    sizes = zip(x.shape[2:], module.kernel_size, module.stride, module.padding, module.dilation, strict=True)
    after = [(n + 2 * pad - dilation * (k - 1) - 1) // stride + 1 for n, k, stride, pad, dilation in sizes]
    if x.shape[1] != module.in_channels or min(after) < 1:
        raise RuntimeError(f"a convolution of {module.in_channels} channels cannot take {tuple(x.shape)}")
    return x.new_zeros(x.shape[0], module.out_channels, *after)


def _pool(module: nn.MaxPool2d | nn.AvgPool2d, x: Tensor) -> Tensor:
    kernel, stride, pad = module.kernel_size, module.stride, module.padding
    after = []
    if isinstance(kernel, int) and isinstance(stride, int) and isinstance(pad, int) and x.dim() == 4:
        after = [(n + 2 * pad - kernel) // stride + 1 for n in x.shape[2:]]
    if not after or min(after) < 1 or module.ceil_mode or getattr(module, "dilation", 1) != 1:
        y: Tensor = type(module).forward(module, x)  # type: ignore[arg-type]
        return y
    return x.new_zeros(*x.shape[:2], *after)


def _map(module: nn.Linear, x: Tensor) -> Tensor:
    if x.shape[-1] != module.in_features:
        raise RuntimeError(f"a linear layer of {module.in_features} features cannot take {tuple(x.shape)}")
    return x.new_zeros(*x.shape[:-1], module.out_features)


# On the meta device BatchNorm is slow (about 1 ms a call, 80 % of the whole pass).
KEEP_SHAPE = (nn.ReLU, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
"""Modules whose output has their input's shape; in a dry run on meta they hand it on."""
_KEEPING = dict.fromkeys(KEEP_SHAPE, _keep)
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)  # they compute nothing themselves
_SHAPING = {
    **_KEEPING,
    nn.Conv2d: _convolve,
    nn.Linear: _map,
    nn.MaxPool2d: _pool,
    nn.AvgPool2d: _pool,
}


def _copy(module: nn.Module, x: Tensor) -> Tensor:
    return x.clone()


COPYING: Mapping[type, Callable[[nn.Module, Tensor], Tensor]] = dict.fromkeys(
    (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), _copy
)
"""For those who look at tensors on the meta device: BatchNorm as one operation that makes one tensor."""


def dry_run(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> DryRun:
    """Build a network and pass one image through it, without computing where that is possible.

    Args:
        build: makes the network; called once, or twice when it does not run on the meta device. A
            `Supernet` runs all candidates of every choice.
        shape: of one image, (C, H, W).

    The global random state is left as it was.
    """
    with seeded_modules(0), torch.no_grad(), _no_collection():
        try:
            with torch.device("meta"):
                return recorded(build(), shape, _KEEPING)
        except (RuntimeError, TypeError):
            # Reading a value, a generator of another device, NumPy: all fail on meta with one of
            # these. A fault of the network itself fails again on the CPU, with its own message.
            return recorded(build(), shape, {})


def light_run(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> DryRun:
    """`dry_run` several times as fast, for networks whose layers with parameters are known ones.

    Convolutions and linear layers give zeros of the right shape on the CPU, as what PyTorch does on the meta
    device takes longer than the additions of a small network; their parameters are on meta all the same.

    Raises:
        RuntimeError: the network has other layers, or does not run so.
    """
    with seeded_modules(0), torch.no_grad(), _no_collection():
        with torch.device("meta"):
            network = build()
        return recorded(network, shape, _SHAPING)


@contextmanager
def _no_collection() -> Iterator[None]:
    """No search for garbage: thousands of small objects set it off, and it takes longer than the run."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@dataclass(frozen=True)
class Cost:
    """A unit, and ``count(part, run)``: the cost of some of the modules of a network.

    `part` holds each of its modules once, submodules included, so `count` looks at what a module has
    or does itself, not at its children. The cost of two parts together must be the sum of theirs.

    unit: of the cost.
    count: see above.
    run: ``(build, shape) -> DryRun``, what `count` counts from.
    bound: whether the parts of a supernet may cost more than those of the networks that it derives. Its table
        is an upper bound then, and equal for other costs.
    """

    unit: str
    count: Callable[[Iterable[nn.Module], DryRun], Count]
    run: Callable[[Callable[[], nn.Module], tuple[int, ...]], DryRun] = dry_run
    bound: bool = False


@dataclass(frozen=True)
class TabledCost:
    """A cost that is no sum over modules: ``table(builder, shape, classes, settings)`` makes its `CostTable`.

    The table has name and unit of its own.
    """

    unit: str
    table: Callable[[Callable[..., nn.Module], tuple[int, ...], int, Mapping[str, Any]], Any]


def recorded(
    network: nn.Module,
    shape: tuple[int, ...],
    stand_ins: Mapping[type, Any],
    recorder: Recorder | None = None,
    batch: int = 1,
) -> DryRun:
    """Pass `batch` images through a network; `stand_ins`: type of a module -> what runs in its place."""
    recorder = recorder or Recorder()
    every = list(network.modules())
    # by way of __dict__, as setting an attribute of a module takes longer than calling it
    modules = [m for m in every if m is network or type(m) not in _CONTAINERS]
    before = [module.__dict__.get("forward") for module in modules]
    for module in modules:
        if type(module) in stand_ins:
            module.__dict__["forward"] = partial(stand_ins[type(module)], module)
        recorder.watch(module, type(module) not in stand_ins)
    try:
        with recorder:
            _set_mode(network, every, training=False)
            _forward(network, torch.zeros(batch, *shape))
        recorder.ended = True
        training_only = _training_only(network, every, recorder.calls, shape)
    finally:  # nothing refers to itself then, and the network goes when it is no longer needed
        for module, forward in zip(modules, before, strict=True):
            del module.__dict__["forward"]
            if forward is not None:
                module.__dict__["forward"] = forward
    return DryRun(network, recorder.calls, training_only)


def _set_mode(network: nn.Module, every: Sequence[nn.Module], training: bool) -> None:
    """``network.train(training)``, its modules being `every`; faster where none has a way of its own."""
    if any(type(module).train is not nn.Module.train for module in every):
        network.train(training)
        return
    for module in every:
        module.__dict__["training"] = training


def _training_only(
    network: nn.Module,
    every: Sequence[nn.Module],
    called: Mapping[nn.Module, object],
    shape: tuple[int, ...],
) -> frozenset[nn.Module]:
    """The modules with parameters that a training pass runs and that are not in `called`."""
    idle = [m for m in every if m not in called and own_parameters(m)]
    if not idle:
        return frozenset()
    ran: set[nn.Module] = set()

    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        ran.add(module)
        if len(ran) == len(idle):
            raise _AllRan

    for module in idle:
        module.register_forward_pre_hook(note)
    with suppress(_AllRan):
        # two images: BatchNorm in training refuses one value per channel
        _set_mode(network, every, training=True)
        _forward(network, torch.zeros(2, *shape))
    return frozenset(ran)


class _AllRan(BaseException):
    """Every module in question has run, so the rest of the pass would say nothing more."""


def own_parameters(module: nn.Module) -> list[nn.Parameter]:
    """The parameters of a module itself, a shared one each time that it is there."""
    return [parameter for parameter in module._parameters.values() if parameter is not None]


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors in nested tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from tensors_in(part)
    elif isinstance(value, tuple | list):
        for part in value:
            yield from tensors_in(part)


def _forward(network: nn.Module, x: Tensor) -> None:
    if isinstance(network, Supernet):
        uniform = [
            torch.full((len(g.names), len(g.candidates)), 1 / len(g.candidates)) for g in network.groups
        ]
        network(x, [Sample(weights.to(x)) for weights in uniform])
    else:
        network(x)


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the calls of every module, and which module each multiplication belongs to."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: dict[nn.Module, list[Call]] = {}
        self.ended = False
        self.stack: list[list[str]] = []  # multiplications of the modules being run, outermost first
        self.made, self.read = 0, 0  # operations so far that make tensors of no values, and all others

    def watch(self, module: nn.Module, itself: bool = True) -> None:
        """Note the calls of `module` until `ended`. Hooks would do, but take several times as long.

        itself: whether its own code runs, and no stand-in.
        """
        forward = module.forward

        def watched(*inputs: Any, **named: Any) -> Any:
            if self.ended:
                return forward(*inputs, **named)
            self.stack.append([])
            made, read = self.made, self.read
            output: Any = None
            try:
                output = forward(*inputs, **named)
            finally:
                shapes: tuple[torch.Size, ...]
                if len(inputs) == 1 and not named and type(inputs[0]) is Tensor:
                    shapes, handed_on = (inputs[0].shape,), inputs[0] is output
                else:
                    tensors = [x for x in (*inputs, *named.values()) if isinstance(x, Tensor)]
                    shapes = tuple(x.shape for x in tensors)
                    handed_on = any(x is output for x in tensors)
                result = output.shape if isinstance(output, Tensor) else None
                constant = itself and self.made > made and self.read == read
                call = Call(shapes, result, tuple(self.stack.pop()), handed_on, constant)
                self.calls.setdefault(module, []).append(call)
            return output

        module.__dict__["forward"] = watched

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name in VALUELESS:
            self.made += 1
        else:
            self.read += 1
        if self.stack and name in _multiplications():
            self.stack[-1].append(name)
        return func(*args, **(kwargs or {}))


VALUELESS = frozenset(
    f"{prefix}{what}{suffix}"
    for what in ("zeros", "ones", "full")  # what `empty` makes is written to by something else
    for prefix, suffix in (("", ""), ("new_", ""), ("", "_like"))
)
"""Operations whose result does not depend on the values of their arguments."""


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
