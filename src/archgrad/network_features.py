"""What a space's network is made of, found by building it: its choices, drop path, an auxiliary head."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from archgrad.choice import Blend, Sum
from archgrad.costs.counting import dry_run
from archgrad.errors import UserError
from archgrad.spaces.drop_path import DropPath
from archgrad.spaces.space import Shape


class NetworkFeatures(NamedTuple):
    """Choices with their candidates, and which training aids the network has."""

    choices: dict[str, tuple[str, ...]]
    drop_path: bool
    auxiliary: bool


class _Kept(nn.Module):
    """A candidate, handed all inputs of its choice."""

    def __init__(self, candidate: nn.Module):
        super().__init__()
        self.candidate = candidate

    def forward(self, *inputs: Tensor) -> Tensor:
        y: Tensor = self.candidate(*inputs)
        return y


def network_features(
    builder: Callable[..., nn.Module], shape: Shape, classes: int, settings: Mapping[str, Any]
) -> NetworkFeatures:
    """Build the network with one candidate of each choice and pass an image of `shape` through it.

    Raises:
        UserError: it cannot be built with these settings, or a layer that halves the image gets one
            that is a single pixel high or wide.
    """
    choices: dict[str, tuple[str, ...]] = {}

    def pick(name: str, options: Mapping[str, Callable[[], nn.Module]]) -> nn.Module:
        if isinstance(options, Blend):
            return Sum(build() for build in options.values())
        choices[name] = tuple(options)
        working = [build for candidate, build in options.items() if candidate != "none"]
        # inside another module, so that a space which leaves out empty connections keeps this one
        return _Kept(working[0]()) if working else nn.Identity()

    given = "".join(f" {key}={value}" for key, value in settings.items())
    try:
        run = dry_run(lambda: builder(pick, shape, classes, **settings), shape)
    except UserError:
        raise
    except Exception as error:  # a space is the user's code: whatever it raises is about these settings
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"the space cannot be built for images (C, H, W) = {shape} with settings{given or ' left alone'}"
            f": {first}. Are the images too small for its reductions (see data.resize)?"
        ) from error
    for name, module in run.network.named_modules():
        stride = getattr(module, "stride", 1)
        if max(stride if isinstance(stride, tuple) else (stride,)) < 2:
            continue
        for call in run.calls.get(module, []):
            if call.inputs and len(call.inputs[0]) == 4 and min(call.inputs[0][2:]) < 2:
                height, width = call.inputs[0][2:]
                raise UserError(
                    f"images of {shape[1]}×{shape[2]} are too small for the reductions of this space: {name} "
                    f"would halve {height}×{width}. Enlarge them with data.resize, or reduce less often "
                    f"(space settings:{given})"
                )
    return NetworkFeatures(
        choices,
        any(isinstance(module, DropPath) for module in run.network.modules()),
        bool(run.training_only),
    )
