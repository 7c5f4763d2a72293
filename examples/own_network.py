"""A network of your own, searched because it takes `pick`.  python examples/own_network.py RUN_FOLDER"""

import sys

from torch import nn

from archgrad import derive_run, export_run, report_run, search_run, train_run


class OwnNetwork(nn.Module):
    def __init__(self, pick, shape, classes, channels=16):  # shape: (C, H, W) of an image
        super().__init__()
        options = {
            "conv_3x3": lambda: nn.Conv2d(channels, channels, 3, padding=1),
            "conv_1x1": lambda: nn.Conv2d(channels, channels, 1),
            "skip": nn.Identity,
        }
        self.body = nn.Sequential(nn.Conv2d(shape[0], channels, 3, padding=1))
        for i in range(3):  # each of these is a decision
            self.body.extend([nn.ReLU(), pick(f"block{i}", options), nn.BatchNorm2d(channels)])
        self.head = nn.Sequential(nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(4 * channels, classes))

    def forward(self, images):
        return self.head(self.body(images))


if __name__ == "__main__":
    run = sys.argv[1]
    space = {"name": "own_network:OwnNetwork"}  # module:object, found because this folder is on the path
    search_run({"method": "darts", "space": space, "search": {"epochs": 5}}, run)
    print(derive_run(run))
    derived, (random, residual) = train_run(run, {"train": {"epochs": 10}}, controls=1)
    for result in (derived, random, residual):
        print(f"{result['name']}: {result['test_accuracy']:.1%} of the test images")
    print(export_run(run).onnx.path, report_run(run), sep="\n")
