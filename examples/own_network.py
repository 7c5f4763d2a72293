"""A network of your own, searched because it takes `pick`.  python examples/own_network.py RUN_FOLDER"""

import sys

from torch import nn

from archgrad import derive_run, export_run, report_run, search_run, train_run


class OwnNetwork(nn.Sequential):
    def __init__(self, pick, shape, classes, channels=16):  # shape: (C, H, W) of an image
        options = {
            "conv_3x3": lambda: nn.Conv2d(channels, channels, 3, padding=1),
            "conv_1x1": lambda: nn.Conv2d(channels, channels, 1),
            "skip": nn.Identity,
        }
        layers = [nn.Conv2d(shape[0], channels, 3, padding=1)]
        for i in range(3):  # each of these is a decision
            layers += [nn.ReLU(), pick(f"block{i}", options), nn.BatchNorm2d(channels)]
        super().__init__(*layers, nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(4 * channels, classes))


if __name__ == "__main__":  # the space is module:object, found because this folder is on the path
    run = sys.argv[1]
    search_run({"method": "darts", "space": {"name": "own_network:OwnNetwork"}, "search": {"epochs": 5}}, run)
    print(derive_run(run))
    trained = train_run(run, {"train": {"epochs": 10}}, controls=1)
    for result in (trained.derived, *trained.controls):
        print(f"{result['name']}: {result['test_accuracy']:.1%} of the test images")
    print(export_run(run).onnx.path, report_run(run), sep="\n")
