"""A small transformer that is searched: heads, feed-forward width, activation, depth.

python examples/own_transformer.py RUN_FOLDER

An image is read row by row, as a sentence of rows.
"""

import sys

import torch
from torch import nn
from torch.nn import functional as F

from archgrad import derive_run, search_run, train_run
from archgrad.spaces.depth import repeat
from archgrad.spaces.width import choose_width


class Attention(nn.Module):
    """Every row looks at all rows, in `heads` ways at once: [B, rows, width] -> the same."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.inner, self.outer = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        batch, rows, width = x.shape
        parts = self.inner(x).view(batch, rows, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        looked = F.scaled_dot_product_attention(*parts.unbind())  # [B, heads, rows, width / heads]
        return self.outer(looked.transpose(1, 2).reshape(batch, rows, width))


class Block(nn.Module):
    """Attention and feed-forward, each behind a normalisation and beside a shortcut."""

    def __init__(self, pick, name, width):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        heads = {f"{n} heads": lambda n=n: Attention(width, n) for n in (1, 2, 4, 8)}
        self.attention = pick(f"{name}/attention", {**heads, "none": Nothing})
        hidden, mask = choose_width(pick, f"{name}/width", [width, 2 * width, 4 * width], dim=-1)
        activation = pick("activation", {"relu": nn.ReLU, "gelu": nn.GELU, "swish": nn.SiLU})
        # the mask stands where each hidden feature is still by itself
        self.feed_forward = nn.Sequential(
            nn.Linear(width, hidden), activation, mask, nn.Linear(hidden, width)
        )

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))


class Nothing(nn.Module):
    def forward(self, x):
        return torch.zeros_like(x)


class RowTransformer(nn.Module):
    def __init__(self, pick, shape, classes, width=16):
        super().__init__()
        channels, rows, columns = shape
        self.embedding = nn.Linear(channels * columns, width)
        self.position = nn.Parameter(0.02 * torch.randn(rows, width))
        self.blocks = repeat(pick, "depth", lambda i: Block(pick, f"block{i}", width), [1, 2])
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, classes))

    def forward(self, images):
        rows = images.permute(0, 2, 1, 3).flatten(2)  # [B, H, C·W]
        return self.head(self.blocks(self.embedding(rows) + self.position).mean(dim=1))


if __name__ == "__main__":
    run = sys.argv[1]
    space = {"name": "own_transformer:RowTransformer"}
    search_run(
        {"method": "darts", "space": space, "search": {"epochs": 8}, "weights": {"learning_rate": 0.1}}, run
    )
    chosen = derive_run(run).architecture
    for i in range(int(chosen["depth"])):
        print(f"block {i}: {chosen[f'block{i}/attention']}, {chosen[f'block{i}/width']} hidden features")
    print(f"activation: {chosen['activation']}")
    trained = train_run(run, {"train": {"epochs": 15, "learning_rate": 0.1}}, controls=1)
    for result in (trained.derived, *trained.controls):
        print(f"{result['name']}: {result['test_accuracy']:.1%} of the test images")
