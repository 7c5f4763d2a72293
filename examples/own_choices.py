"""Every kind of choice in one network: module, nested, shared, width, depth, input.

python examples/own_choices.py RUN_FOLDER
"""

import sys

import torch
from torch import nn

from archgrad import derive_run, search_run, train_run
from archgrad.ops.take import Take
from archgrad.spaces.depth import repeat
from archgrad.spaces.width import choose_width


class OwnChoices(nn.Module):
    def __init__(self, pick, shape, classes, channels=12):
        super().__init__()

        def activation():  # used in several places under one name: one decision for all of them
            return pick("activation", {"relu": nn.ReLU, "swish": nn.SiLU, "tanh": nn.Tanh})

        def convolution():  # a candidate with a choice of its own, which counts only if it is chosen itself
            kernels = {
                f"{k}x{k}": lambda k=k: nn.Conv2d(channels, channels, k, padding=k // 2) for k in (3, 5)
            }
            return pick("kernel", kernels)

        def block(i):  # one of the blocks that the choice of depth puts in a row
            wide, mask = choose_width(pick, f"width{i}", [channels // 2, channels, 2 * channels])
            expand = nn.Sequential(nn.Conv2d(channels, wide, 1), nn.BatchNorm2d(wide))
            return Residual(nn.Sequential(expand, activation(), mask, nn.Conv2d(wide, channels, 1)))

        self.stem = nn.Sequential(nn.Conv2d(shape[0], channels, 3, padding=1), nn.BatchNorm2d(channels))
        self.mixer = pick(
            "mixer", {"convolution": convolution, "pooling": lambda: nn.MaxPool2d(3, 1, padding=1)}
        )
        self.row = repeat(pick, "depth", block, [0, 1, 2, 3])
        self.source = pick("source", {"stem": lambda: Take(0), "mixer": lambda: Take(1), "sum": Total})
        self.head = nn.Sequential(
            activation(), nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(4 * channels, classes)
        )

    def forward(self, images):
        features = self.stem(images)
        return self.head(self.row(self.source(features, self.mixer(features))))


class Residual(nn.Module):
    def __init__(self, branch):
        super().__init__()
        self.branch = branch

    def forward(self, x):
        return x + self.branch(x)


class Total(nn.Module):
    def forward(self, *inputs):
        return torch.stack(inputs).sum(dim=0)


if __name__ == "__main__":
    run = sys.argv[1]
    settings = {"method": "gdas", "space": {"name": "own_choices:OwnChoices"}, "search": {"epochs": 10}}
    search_run(settings, run)
    chosen = derive_run(run).architecture
    depth = int(chosen["depth"])
    print("What the image goes through:")
    print(
        f"  mixer: {chosen['mixer']}" + (f", {chosen['kernel']}" if chosen["mixer"] == "convolution" else "")
    )
    print(f"  what goes on: {chosen['source']}")
    widths = ", ".join(chosen[f"width{i}"] for i in range(depth))
    print(f"  then {depth} residual blocks" + (f" of {widths} channels" if depth else ""))
    print(f"  activation everywhere: {chosen['activation']}")
    trained = train_run(run, {"train": {"epochs": 10}}, controls=1)
    for result in (trained.derived, *trained.controls):
        accuracy, size = result["test_accuracy"], result["parameters"]
        print(f"{result['name']}: {accuracy:.1%} of the test images, {size:,} parameters")
