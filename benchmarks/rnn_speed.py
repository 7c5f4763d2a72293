"""One step of a recurrent search beside one of `nn.LSTM` of equal width, times the number of candidates.

A step is forward and backward pass of a language model on one window of 35 words. The search step mixes all
five candidates of all 36 edges (softmax weights that carry a gradient, as in DARTS' step on the logits,
gradients of weights and logits taken). Two models: the whole, with a decoder for 10,000 words, and the
recurrent layer by itself. Steps of the two alternate, so that what else the machine does falls on both;
seconds are those of the processor, of all threads, on a CPU, and of the clock on a GPU.

Usage: python benchmarks/rnn_speed.py [--units 300] [--texts 64] [--repeats 9] [--device cpu] [--threads 1]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from archgrad.choice import Pick, Sample, concrete, supernet
from archgrad.derive import random_derivation
from archgrad.randomness import Streams, seeded_modules
from archgrad.samplers import SAMPLERS
from archgrad.spaces.language_model import Dropouts, LanguageModel, Masks, Window
from archgrad.spaces.lstm import LstmCore
from archgrad.spaces.rnn import RNN_CANDIDATES, RecurrentCell, darts_rnn

if __package__:
    from benchmarks.record import record, summary
else:
    from record import record, summary

WINDOW, WORDS, CANDIDATES, ALLOWED = 35, 10_000, 5, 1.5


def main() -> None:
    kind = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=kind)
    parser.add_argument("--units", type=int, default=300)
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    device = torch.device(given.device)
    found = measured(given.units, given.texts, given.repeats, device)
    ratios = {
        name: found[name]["median"] / found[f"lstm, {name.split(', ')[1]}"]["median"]
        for name in found
        if not name.startswith("lstm")
    }
    record(
        "rnn_speed" if device.type == "cpu" else f"rnn_speed_{device.type}",
        {
            "what": "seconds of one step, forward and backward; ratio: over one of nn.LSTM of equal width",
            "clock": "processor time" if device.type == "cpu" else "wall time",
            "units": given.units,
            "texts": given.texts,
            "window": WINDOW,
            "words": WORDS,
            "allowed_ratio": ALLOWED * CANDIDATES,
            "ratios": ratios,
            "seconds": found,
        },
    )
    for name, ratio in ratios.items():
        print(f"{name:<41} {found[name]['median']:8.4f} s  {ratio:5.2f} × LSTM")
    print(f"allowed for the mixture: {ALLOWED * CANDIDATES} × LSTM")


def measured(units: int, texts: int, repeats: int, device: torch.device) -> dict[str, Any]:
    """Seconds of each kind of step, summarised over the repeats."""
    works = steps(units, texts, device)
    for work in works.values():
        work()
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            seconds[name].append(timed(work, device))
    return {name: summary(values) for name, values in seconds.items()}


def timed(work: Callable[[], None], device: torch.device) -> float:
    """Processor seconds of `work` on a CPU, else seconds until the device is done."""
    if device.type == "cpu":
        start = time.process_time()
        work()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


class Layer(nn.Module):
    """The recurrent part by itself, [T, B, H] -> [T, B, H] from a zero state."""

    def __init__(self, core: Any) -> None:
        super().__init__()
        self.core = core

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.core(x, x.new_zeros(x.shape[1], self.core.state_size), Masks())[0]
        return outputs


def layer(pick: Pick, shape: tuple[int, ...], classes: int, units: int, norm: bool = False) -> Layer:
    """The recurrent space without embedding and decoder."""
    return Layer(RecurrentCell(pick, units, 8, RNN_CANDIDATES, norm))


def steps(units: int, texts: int, device: torch.device) -> dict[str, Callable[[], None]]:
    """The steps to be timed, by name."""
    draw = torch.Generator().manual_seed(0)
    words = torch.randint(WORDS, (WINDOW, texts), generator=draw).to(device)
    following = torch.randint(WORDS, (WINDOW * texts,), generator=draw).to(device)
    x = torch.randn(WINDOW, texts, units, generator=draw).to(device)
    alpha = (1e-3 * torch.randn(36, CANDIDATES, generator=draw)).to(device).requires_grad_()
    shape = (WINDOW,)
    with seeded_modules(0):
        searched = {
            "whole model": supernet(darts_rnn, shape, WORDS, hidden=units, norm=True),
            "recurrent layer": supernet(layer, shape, WORDS, units=units, norm=True),
        }
        chosen = random_derivation(searched["whole model"].groups, "rnn", Streams(0), "speed", 0).architecture
        derived = {
            "whole model": concrete(darts_rnn, chosen, shape, WORDS, hidden=units),
            "recurrent layer": concrete(layer, chosen, shape, WORDS, units=units),
        }
        lstm = {
            "whole model": LanguageModel(LstmCore(units), WORDS, units, Dropouts()),
            "recurrent layer": Layer(LstmCore(units)),
        }

    def sampled(name: str) -> Callable[[], Sample]:
        sampler, noise = SAMPLERS[name](), torch.Generator().manual_seed(1)
        return lambda: cast(Sample, sampler(alpha, 1.0, noise))

    def step(network: nn.Module, part: str, drawn: Callable[[], Sample] | None = None) -> Callable[[], None]:
        network.to(device)
        leaves = [*network.parameters(), *([] if drawn is None else [alpha])]
        whole = part == "whole model"

        def work() -> None:
            state = x.new_zeros(texts, 2 * units if network is lstm[part] else units)
            window: Any = Window(words, state) if whole else x
            output = network(window) if drawn is None else network(window, [drawn()])
            loss = (
                F.cross_entropy(output.logits.flatten(0, 1), following) if whole else output.square().mean()
            )
            torch.autograd.grad(loss, leaves, allow_unused=True)

        return work

    found: dict[str, Callable[[], None]] = {}
    for part in ("whole model", "recurrent layer"):
        found[f"lstm, {part}"] = step(lstm[part], part)
        found[f"search: mixture, {part}"] = step(searched[part], part, sampled("softmax"))
        found[f"search: straight-through, {part}"] = step(searched[part], part, sampled("straight_through"))
        found[f"derived, {part}"] = step(derived[part], part)
    return found


if __name__ == "__main__":
    main()
