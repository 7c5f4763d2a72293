"""What a search begins with and how it records, whatever its network reads. E choices × K candidates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from archgrad.choice import Group, Supernet
from archgrad.config import Config, Train, Weights
from archgrad.derive import derive, random_derivation
from archgrad.method_parts import architecture_optimizer, policy_of
from archgrad.randomness import Streams
from archgrad.search_state import SearchState


def derivation_of(
    config: Config, streams: Streams
) -> Callable[[Sequence[Group], Sequence[Tensor]], Mapping[str, str]]:
    """The architecture that would be derived of these probabilities [E, K] per group, for the record."""
    rule = config.derive.rule

    def drawn(groups: Sequence[Group], p: Sequence[Tensor]) -> Mapping[str, str]:
        return random_derivation(groups, rule, streams, "derived", 0).architecture

    def derived(groups: Sequence[Group], p: Sequence[Tensor]) -> Mapping[str, str]:
        return derive(groups, p, rule, gates=policy_of(config, groups).gates).architecture

    return derived if config.learns else drawn


def state_of(config: Config, streams: Streams, device: torch.device, network: Supernet) -> SearchState:
    """Logits and optimizers before the first step."""
    logits = config.architecture
    generator = streams.generator("logits")
    controller = policy_of(config, network.groups).controller
    alpha = [
        a.detach().to(device).requires_grad_()
        for a in controller.initial(network.groups, generator, logits.initial_scale, logits.initial_mean)
    ]
    optimizer = architecture_optimizer(alpha, logits) if config.learns else None
    return SearchState(alpha, sgd(network, config.weights), optimizer)


def sgd(network: nn.Module, settings: Weights | Train) -> torch.optim.SGD:
    """SGD on all parameters of a network."""
    return torch.optim.SGD(
        network.parameters(),
        lr=settings.learning_rate,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        weight_decay=settings.weight_decay,
        foreach=True,
    )
