"""From a supernet's weights to those of a derived network, for fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from archgrad.architecture import Architecture
from archgrad.choice import Choice, Supernet
from archgrad.errors import UserError
from archgrad.spaces.width import ChannelMask


def inherit(network: Supernet, target: nn.Module, architecture: Architecture) -> None:
    """Copy into the concrete `target` the parameters and buffers that the supernet's choice of it has.

    A path ``….options.<k>.…`` of the supernet is ``….…`` in the concrete network, for the k that
    `architecture` chooses; those of other candidates are left out. Where a space chooses widths by masks the
    leading channels are copied.

    Raises:
        UserError: the two do not have the same parameters, that is, `target` was built with other
            settings or for another architecture.
    """
    chosen = inherited(network, architecture, dict(network.network.state_dict()))
    own = target.state_dict()
    narrows = any(isinstance(module, ChannelMask) for module in network.modules())
    problems = [f"missing in the supernet: {p}" for p in own if p not in chosen]
    problems += [f"missing in the concrete network: {p}" for p in chosen if p not in own]
    for path in own:
        if path in chosen and chosen[path].shape != own[path].shape:
            if narrows and _fits(own[path], chosen[path]):
                chosen[path] = leading(chosen[path], own[path])
                continue
            problems.append(
                f"{path}: supernet {tuple(chosen[path].shape)}, concrete network {tuple(own[path].shape)}"
            )
    if problems:
        raise UserError(
            f"the concrete network cannot take the supernet's parameters; {len(problems)} do not fit:\n  "
            + "\n  ".join(problems[:5])
            + "\nbuild both with the same settings, and the concrete one for this architecture"
        )
    target.load_state_dict(chosen)


def inherited(
    network: Supernet, architecture: Architecture, tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Tensors by the supernet's paths (as of its inner network's `state_dict`) -> by the concrete network's.

    Those of candidates that `architecture` does not choose are left out.
    """
    choices = {
        path: module
        for path, module in network.network.named_modules(remove_duplicate=False)
        if isinstance(module, Choice)
    }
    found = {}
    for path, tensor in tensors.items():
        concrete_path = _concrete_path(path, choices, architecture)
        if concrete_path is not None:
            found[concrete_path] = tensor
    return found


def leading(tensor: Tensor, like: Tensor) -> Tensor:
    """The first entries along every dimension, as many as `like` has."""
    return tensor[tuple(slice(size) for size in like.shape)]


def _fits(narrow: Tensor, wide: Tensor) -> bool:
    return narrow.dim() == wide.dim() and all(n <= w for n, w in zip(narrow.shape, wide.shape, strict=True))


def _concrete_path(path: str, choices: Mapping[str, Choice], architecture: Architecture) -> str | None:
    """`path` without its ``options.<k>`` components; None when a k is not the chosen one."""
    parts, kept, index = path.split("."), [], 0
    while index < len(parts):
        choice = choices.get(".".join(parts[:index]))
        # of a blend, which the architecture does not name, everything is kept
        if choice is not None and parts[index] == "options" and choice.name in architecture:
            if choice.candidates[int(parts[index + 1])] != architecture[choice.name]:
                return None
            index += 2
            continue
        kept.append(parts[index])
        index += 1
    return ".".join(kept)
