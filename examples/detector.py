"""A searched backbone that carries a detector: shapes on photographs are found and named.

python examples/detector.py RUN_FOLDER [TRAINING_STEPS]

1. A backbone is searched and derived that tells a circle, a square and a triangle apart.
2. A feature pyramid and a detector without anchor boxes stand on it (FCOS, Tian et al. 2019, 1904.01355).
3. Detector and backbone are trained together, and measured by mean average precision as COCO does it.

Needs the extra `detection`. The photographs are CIFAR-10 where ARCHGRAD_DATA has it, else scikit-learn's two;
scenes to be measured on are new ones on the same photographs.
"""

import contextlib
import io
import os
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from sklearn.datasets import load_sample_images
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from archgrad import concrete, derive_run, from_torch, load, search_run
from archgrad.randomness import seeded_modules
from archgrad.spaces.mobile import MobileNetwork
from archgrad.spaces.pyramid import FeaturePyramid

SHAPES = ("circle", "square", "triangle")
SIDE = 64  # pixels of an image
STRIDES = (8, 16, 32)
REACH = (
    0,
    14,
    22,
    SIDE,
)  # a level sees to the objects whose farthest side is between two of these, in pixels

# ---- images: shapes of random colour and size on photographs


def photographs():
    """Pictures to draw on: [N, H, W, 3] or a list of such, uint8."""
    if (Path(os.environ.get("ARCHGRAD_DATA", "none")) / "cifar10").is_dir():
        return load("cifar10").train.fetch(torch.arange(500)).permute(0, 2, 3, 1).numpy()
    return load_sample_images().images


def background(pictures, random):
    """A random square of a random picture, enlarged or reduced to SIDE."""
    picture = pictures[random.integers(len(pictures))]
    part = min(picture.shape[0], int(random.integers(28, 160)))
    top, left = (int(random.integers(n - part + 1)) for n in picture.shape[:2])
    return Image.fromarray(picture[top : top + part, left : left + part]).resize((SIDE, SIDE), Image.BILINEAR)


def draw(image, random, kind, box):
    """One shape that fills its box [left, top, right, bottom]."""
    left, top, right, bottom = box
    colour = tuple(int(c) for c in random.integers(0, 256, 3))
    pen = ImageDraw.Draw(image)
    if SHAPES[kind] == "circle":
        pen.ellipse(box, fill=colour)
    elif SHAPES[kind] == "square":
        pen.rectangle(box, fill=colour)
    else:
        pen.polygon([((left + right) // 2, top), (left, bottom), (right, bottom)], fill=colour)


def scene(pictures, random, most=3):
    """An image [3, SIDE, SIDE] in [0, 1] and its objects [[left, top, right, bottom, kind], …]."""
    image, objects = background(pictures, random), []
    for _ in range(int(random.integers(1, most + 1))):
        size = int(random.integers(12, 44))
        left, top = (int(random.integers(SIDE - size)) for _ in range(2))
        box = [left, top, left + size - 1, top + size - 1]
        if any(overlap(box, other) > 0.05 for other in objects):
            continue
        kind = int(random.integers(len(SHAPES)))
        draw(image, random, kind, box)
        objects.append([*box, kind])
    return torch.tensor(np.asarray(image)).permute(2, 0, 1) / 255, torch.tensor(objects, dtype=torch.float32)


def overlap(a, b):
    """Intersection over union of two boxes, in pixels."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    area = sum((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b))
    return width * height / (area - width * height)


def one_shape(pictures, random):
    """A picture with one shape in it, 32 pixels wide, and which: what the backbone is searched on."""
    image, objects = scene(pictures, random, most=1)
    return F.interpolate(image[None], size=32, mode="area")[0], int(objects[0, 4])


# ---- the detector


class Detector(nn.Module):
    """For every place of every level: which shape, how far the sides are, how central the place is."""

    def __init__(self, backbone, channels=32):
        super().__init__()
        self.pyramid = FeaturePyramid(backbone, (3, SIDE, SIDE), channels, STRIDES)
        self.tower = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.GroupNorm(4, channels), nn.ReLU()
        )
        self.shape = nn.Conv2d(channels, len(SHAPES), 3, padding=1)
        self.sides = nn.Conv2d(channels, 5, 3, padding=1)  # left, top, right, bottom; centrality
        nn.init.constant_(self.shape.bias, -4.6)  # 1 % at first: nearly all places are background

    def forward(self, images):
        """[B, 3, SIDE, SIDE] -> logits [B, P, shapes], boxes [B, P, 4] in pixels, centrality [B, P]."""
        logits, boxes, central = [], [], []
        for level, stride in zip(self.pyramid(images), STRIDES, strict=True):
            features = self.tower(level)
            sides = self.sides(features).flatten(2).transpose(1, 2)
            far = F.softplus(sides[..., :4]) * stride
            x, y = places(stride).unbind(dim=1)
            corners = [x - far[..., 0], y - far[..., 1], x + far[..., 2], y + far[..., 3]]
            boxes.append(torch.stack(corners, dim=-1))
            central.append(sides[..., 4])
            logits.append(self.shape(features).flatten(2).transpose(1, 2))
        return torch.cat(logits, 1), torch.cat(boxes, 1), torch.cat(central, 1)


def places(stride):
    """Centres of a level's places in pixels, [P, 2], row by row."""
    ticks = (torch.arange(SIDE // stride) + 0.5) * stride
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=1)


def targets(objects):
    """For every place the object that it is to find: kind [P] (the number of shapes: none), box [P, 4]."""
    kinds, boxes = [], []
    for level, stride in enumerate(STRIDES):
        x, y = (c[:, None] for c in places(stride).unbind(dim=1))
        left, top, right, bottom, kind = objects.unbind(dim=1)
        far = torch.stack([x - left, y - top, right - x, bottom - y], dim=-1)  # [P, objects, 4]
        middle = torch.maximum((x - (left + right) / 2).abs(), (y - (top + bottom) / 2).abs()) < 1.5 * stride
        largest = far.amax(dim=-1)
        fits = (far.amin(dim=-1) > 0) & middle & (largest > REACH[level]) & (largest <= REACH[level + 1])
        area = torch.where(fits, (right - left) * (bottom - top), torch.inf)
        smallest, which = area.min(dim=1)  # of several objects the smallest
        kinds.append(torch.where(smallest.isfinite(), kind[which], len(SHAPES)).long())
        boxes.append(objects[which, :4])
    return torch.cat(kinds), torch.cat(boxes)


def loss_of(detector, images, kinds, boxes):
    """Focal loss on the shapes, generalised IoU on the boxes, cross-entropy on the centrality."""
    logits, found, central = detector(images)
    wanted = F.one_hot(kinds, len(SHAPES) + 1)[..., :-1].float()
    right = torch.where(wanted > 0, logits.sigmoid(), 1 - logits.sigmoid())
    weight = torch.where(wanted > 0, 0.25, 0.75) * (1 - right) ** 2  # Lin et al. 2017, arXiv 1708.02002
    there = kinds < len(SHAPES)
    count = there.sum().clamp(min=1)
    focal = (weight * F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")).sum() / count
    found, boxes, central = found[there], boxes[there], central[there]
    middle = torch.cat([places(s) for s in STRIDES]).expand(len(images), -1, -1)[there]
    x = torch.stack([middle[:, 0] - boxes[:, 0], boxes[:, 2] - middle[:, 0]])
    y = torch.stack([middle[:, 1] - boxes[:, 1], boxes[:, 3] - middle[:, 1]])
    centrality = torch.sqrt(x.amin(0) / x.amax(0) * y.amin(0) / y.amax(0))  # FCOS, eq. 3
    sides = (1 - generalised_iou(found, boxes)).sum() / count
    return focal + sides + F.binary_cross_entropy_with_logits(central, centrality, reduction="sum") / count


def generalised_iou(a, b):
    """IoU − share of the hull that neither covers, [N] (Rezatofighi et al. 2019, arXiv 1902.09630)."""
    inside = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(dim=1)
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(dim=1)
    union = (a[:, 2:] - a[:, :2]).prod(dim=1) + (b[:, 2:] - b[:, :2]).prod(dim=1) - inside
    return inside / union - (hull - union) / hull


@torch.no_grad()
def detections(detector, images, most=20):
    """For each image [left, top, right, bottom, score, kind], best first, without doubles."""
    detector.eval()
    logits, boxes, central = detector(images)
    scores = (logits.sigmoid() * central.sigmoid().unsqueeze(-1)).sqrt()
    found = []
    for score, box in zip(scores, boxes.clamp(0, SIDE), strict=True):
        value, index = score.flatten().sort(descending=True)
        kept = []
        for v, i in zip(value[:100].tolist(), index[:100].tolist(), strict=True):
            place, kind = divmod(i, len(SHAPES))
            candidate = [*box[place].tolist(), v, kind]
            if all(k[5] != kind or overlap(k, candidate) < 0.5 for k in kept) and len(kept) < most:
                kept.append(candidate)
        found.append(kept)
    return found


def mean_average_precision(found, truth):
    """COCO's: over IoU thresholds of 0.5, 0.55, … 0.95, and at 0.5 alone."""
    boxes = [
        {
            "id": 0,
            "image_id": i,
            "category_id": int(k),
            "bbox": [x, y, r - x, b - y],
            "area": (r - x) * (b - y),
        }
        for i, objects in enumerate(truth)
        for x, y, r, b, k in objects.tolist()
    ]
    coco = COCO()
    coco.dataset = {
        "images": [{"id": i} for i in range(len(truth))],
        "categories": [{"id": k} for k in range(len(SHAPES))],
        "annotations": [{**box, "id": n, "iscrowd": 0} for n, box in enumerate(boxes, start=1)],
    }
    rows = [(i, x, y, r - x, b - y, v, k) for i, kept in enumerate(found) for x, y, r, b, v, k in kept]
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(np.array(rows)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[1])


# ---- search, train, measure


def searched(run, pictures):
    """The architecture of a backbone that was searched to tell the shapes apart."""
    random = np.random.default_rng(0)
    images, kinds = zip(*(one_shape(pictures, random) for _ in range(900)), strict=True)
    whole = TensorDataset(torch.stack(images), torch.tensor(kinds))
    data = from_torch(
        *torch.utils.data.random_split(whole, [600, 300], torch.Generator().manual_seed(0)), SHAPES
    )
    candidates = ["mb_k3_e1", "mb_k3_e3", "mb_k5_e3", "mb_k5_e6", "skip_connect"]
    space = {"name": "mobile", "candidates": candidates, "stages": STAGES, "channels": 8, "reductions": 4}
    search_run({"method": "snas", "space": space, "search": {"epochs": 2, "batch_size": 32}}, run, data=data)
    architecture = derive_run(run).architecture
    with seeded_modules(0):
        backbone = concrete(
            MobileNetwork, architecture, (3, SIDE, SIDE), 3, **BACKBONE, candidates=candidates
        )
    return backbone, architecture


STAGES = [[16, 1, 1], [24, 2, 2], [32, 2, 2], [64, 2, 2], [112, 2, 2]]
BACKBONE = {"stages": STAGES, "channels": 8, "reductions": 5, "head": 64}


def main(run, steps):
    pictures, random = photographs(), np.random.default_rng(1)
    backbone, architecture = searched(run, pictures)
    print("backbone:", ", ".join(architecture.values()))
    with seeded_modules(0):
        detector = Detector(backbone)
    test = [scene(pictures, np.random.default_rng(10_000 + i)) for i in range(100)]
    images, truth = torch.stack([image for image, _ in test]), [objects for _, objects in test]
    control = mean_average_precision(detections(detector, images), truth)
    optimizer = torch.optim.AdamW(detector.parameters(), lr=1e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for step in range(steps):
        detector.train()
        batch = [scene(pictures, random) for _ in range(16)]
        kinds, boxes = (torch.stack(t) for t in zip(*(targets(objects) for _, objects in batch), strict=True))
        loss = loss_of(detector, torch.stack([image for image, _ in batch]), kinds, boxes)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(detector.parameters(), 10.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 100 == 0:
            print(f"step {step + 1}: loss {float(loss.detach()):.2f}", flush=True)
    found = mean_average_precision(detections(detector, images), truth)
    for name, (mean, half) in {"trained": found, "untrained": control}.items():
        print(f"{name}: mean average precision {mean:.3f}, {half:.3f} at an overlap of one half")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 500)
