"""Signals of sensors instead of images, 1-D convolutions.  python examples/own_sensor.py RUN_FOLDER

A made-up machine: one accelerometer along and one across its shaft, and four states. The states differ in
what the two see together, so neither channel by itself tells them apart.
"""

import sys

import torch
from torch import nn
from torch.utils.data import TensorDataset

from archgrad import derive_run, from_torch, search_run, train_run

STATES = ("smooth", "unbalanced", "bent shaft", "worn bearing")
SAMPLES = 64  # at 1 kHz


def signals(count, seed):
    """`count` recordings [2, SAMPLES] with their states: random speed, phase, strength and noise."""
    generator = torch.Generator().manual_seed(seed)

    def between(low, high, *shape):
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    states = torch.randint(len(STATES), (count,), generator=generator)
    time = torch.arange(SAMPLES) / 1000
    speed, phase, strength = between(40, 80, 1), between(0, 6.28, 1), between(0.5, 1.0, 1)
    turn = 6.28 * speed * time + phase
    state = states[:, None]
    across = strength * torch.sin(turn) * (state != 0)  # every fault shakes once per turn
    along = 0.8 * strength * torch.sin(2 * turn) * (state == 2)  # twice per turn along the shaft
    knocks = (torch.sin(3.6 * turn) > 0.97) * between(0.5, 1.5, SAMPLES)  # short knocks, between turns
    along = along + knocks * (state == 3)
    noise = 0.35 * torch.randn(count, 2, SAMPLES, generator=generator)
    return torch.stack([across, along], dim=1) + noise, states


def sensor_data(path=None, resize=None):
    """For archgrad a recording is an image one pixel high: [2, 1, SAMPLES] in [0, 1], rounded to 8 bits."""
    parts = []
    for count, seed in ((1200, 0), (400, 1)):
        x, states = signals(count, seed)
        parts.append(TensorDataset(((x / 6) + 0.5).clamp(0, 1).unsqueeze(2), states))
    return from_torch(*parts, classes=STATES)


class SensorNetwork(nn.Module):
    """Three layers along time; each decides how far it looks: kernel, dilation, pooling or nothing."""

    def __init__(self, pick, shape, classes, channels=12):
        super().__init__()

        def look(kernel, dilation):
            reach = dilation * (kernel // 2)
            deep = nn.Conv1d(channels, channels, kernel, padding=reach, dilation=dilation, groups=channels)
            return nn.Sequential(deep, nn.Conv1d(channels, channels, 1), nn.BatchNorm1d(channels), nn.ReLU())

        options = {
            "skip": nn.Identity,
            "pool_3": lambda: nn.MaxPool1d(3, stride=1, padding=1),
            "conv_3": lambda: look(3, 1),
            "conv_9": lambda: look(9, 1),
            "conv_9_dilated": lambda: look(9, 3),
        }
        self.layers = nn.Sequential(
            nn.Conv1d(shape[0], channels, 5, padding=2), nn.BatchNorm1d(channels), nn.ReLU()
        )
        for i in range(3):
            self.layers.extend([pick(f"layer{i}", options), nn.AvgPool1d(2)])
        self.head = nn.Linear(channels, classes)

    def forward(self, recordings):
        return self.head(self.layers(recordings.squeeze(2)).mean(dim=2))


if __name__ == "__main__":
    run = sys.argv[1]
    data = {"name": "own_sensor:sensor_data", "crop": 0, "flip": False}  # neither means anything for a signal
    space = {"name": "own_sensor:SensorNetwork"}
    search_run({"method": "darts", "data": data, "space": space, "search": {"epochs": 12}}, run)
    derivation = derive_run(run)
    for layer, candidate in derivation.architecture.items():
        print(f"{layer}: {candidate}")
    trained = train_run(run, {"train": {"epochs": 12}}, controls=1)
    for result in (trained.derived, *trained.controls):
        accuracy, count = result["test_accuracy"], result["test_images"]
        print(f"{result['name']}: state recognised in {accuracy:.1%} of {count} recordings; chance is 25%")
