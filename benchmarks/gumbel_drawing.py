"""How the figures of docs/gumbel.md look: SVG on a ground of their own, so that a dark page hides nothing.

Needs matplotlib (in the extra `dev`). The same numbers give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

GROUND, INK, FAINT = "#fbfbfa", "#24292f", "#c9ccd1"
BLUE, ORANGE, PINK, GREEN, RED = "#0067a5", "#e69f00", "#8a2a6a", "#00795a", "#d55e00"
STYLE = {
    "figure.facecolor": GROUND,
    "axes.facecolor": GROUND,
    "savefig.facecolor": GROUND,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "archgrad",
}


def draw(result: dict[str, Any], points_at: Callable[[float, int], Tensor], folder: Path, shown: int) -> None:
    """Write gumbel-noise, gumbel-simplex, gumbel-estimators and gumbel-schedules.svg into the folder.

    points_at: (τ, N) -> draws [N, 3]; `shown` of them are drawn in each triangle.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        for name, figure in {
            "noise": _noise(result["noise"]),
            "simplex": _simplex(result["simplex"], points_at, shown),
            "estimators": _estimators(result["estimators"]),
            "schedules": _schedules(result["schedules"]),
        }.items():
            figure.savefig(folder / f"gumbel-{name}.svg", metadata={"Date": None})
            plt.close(figure)


def _noise(result: dict[str, Any]) -> Figure:
    figure, axes = plt.subplots(figsize=(7.6, 3.6), layout="constrained")
    candidates = range(len(result["logits"]))
    kinds = {
        "gumbel": ("Gumbel noise", BLUE, None),
        "uniform": ("uniform noise", ORANGE, "//"),
        "gaussian": ("Gaussian noise", PINK, ".."),
    }
    width = 0.26
    for place, (kind, (label, colour, hatch)) in enumerate(kinds.items()):
        x = [k + (place - 1) * width for k in candidates]
        heights = result[kind]["frequencies"]
        axes.bar(x, heights, width * 0.92, color=colour, hatch=hatch, edgecolor=GROUND, lw=0, label=label)
        for at, height, p in zip(x, heights, result["softmax"], strict=True):
            axes.annotate(
                f"{height:.3f}" if height else "never",
                (at, p if p - 0.05 < height < p else height),  # not across the line of the softmax
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                fontsize=7.5,
            )
    for k, p in zip(candidates, result["softmax"], strict=True):
        axes.hlines(p, k - 0.46, k + 0.46, color=INK, lw=1.6, label=None if k else "softmax(α)")
    axes.set_xticks(list(candidates), [f"α = {a:g}" for a in result["logits"]])
    axes.grid(visible=False, axis="x")
    axes.set_ylabel("share of the draws")
    axes.set_ylim(0, 1.0)
    axes.set_title(f"argmax of α + noise, {result['draws']:,} draws")
    axes.legend()
    return figure


def _simplex(result: dict[str, Any], points_at: Callable[[float, int], Tensor], shown: int) -> Figure:
    rows = result["rows"]
    figure, every = plt.subplots(1, len(rows), figsize=(9.2, 2.75), layout="constrained")
    corners = [(0.0, 0.0), (1.0, 0.0), (0.5, 3**0.5 / 2)]

    def place(z: list[float]) -> tuple[float, float]:
        return sum(w * c[0] for w, c in zip(z, corners, strict=True)), z[2] * corners[2][1]

    for axes, row in zip(every, rows, strict=True):
        z = points_at(row["tau"], shown)
        colours = [(BLUE, ORANGE, PINK)[k] for k in z.argmax(dim=-1).tolist()]
        x, y = zip(*map(place, z.tolist()), strict=True)
        axes.fill(*zip(*corners, strict=True), facecolor="none", edgecolor=INK, lw=1)
        axes.scatter(x, y, s=9, c=colours, linewidths=0, alpha=0.75, clip_on=False, zorder=2)
        axes.scatter(*place(row["mean"]), marker="+", s=70, c=INK, lw=1.6, zorder=3)
        for corner, text, (dx, dy) in zip(corners, ("0", "1", "2"), ((-7, -7), (7, -7), (0, 8)), strict=True):
            axes.annotate(text, corner, (dx, dy), textcoords="offset points", ha="center", va="center")
        axes.set_title(f"τ = {row['tau']:g}", loc="center")
        axes.set_aspect("equal")
        axes.set_xlim(-0.12, 1.12)
        axes.set_ylim(-0.12, 1.0)
        axes.axis("off")
    figure.suptitle(
        f"{shown} draws of softmax((α + G)/τ), the same noise in every triangle; + is the mean",
        fontsize=10.5,
    )
    return figure


def _estimators(result: dict[str, Any]) -> Figure:
    figure, every = plt.subplots(1, 3, figsize=(10.2, 3.7), layout="constrained")
    styles = {
        "gumbel_softmax": (BLUE, "o", "-"),
        "straight_through": (ORANGE, "s", "-"),
        "gumbel_rao": (GREEN, "D", "--"),
        "reinmax": (PINK, "^", "-"),
        "rebar": (RED, "v", ":"),
    }
    taus = result["taus"]
    for name, rows in result["by_tau"].items():
        colour, marker, line = styles[name]
        common: dict[str, Any] = {"color": colour, "marker": marker, "ls": line, "ms": 5, "lw": 1.6}
        every[0].errorbar(
            taus, [r["bias"] for r in rows], [r["bias_error"] for r in rows], capsize=2, label=name, **common
        )
        every[1].plot(taus, [r["variance"] for r in rows], **common)
        every[2].plot(taus, [r["cosine"] for r in rows], **common)
    score = result["at_one"]["score_function, leave_one_out"]["all"]
    level: dict[str, Any] = {"color": INK, "lw": 1.2, "ls": "-."}
    every[0].axhline(0.0, label="score_function, leave_one_out", **level)
    every[1].axhline(score["variance"], **level)
    every[2].axhline(score["cosine"], **level)
    titles = ("bias of the mean", "variance of one draw", "cosine of one draw")
    for axes, title in zip(every, titles, strict=True):
        axes.set_xscale("log")
        axes.set_xticks(taus, [f"{t:g}" for t in taus])
        axes.minorticks_off()
        axes.set_xlabel("τ")
        axes.set_title(title)
    every[0].set_ylim(-0.05, 1.05)
    every[1].set_yscale("log")
    every[2].set_ylim(0, 1)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def _schedules(result: dict[str, Any]) -> Figure:
    figure, every = plt.subplots(1, 2, figsize=(9.2, 3.6), layout="constrained")
    lines = {
        "linear": ("linear", BLUE, "-"),
        "cosine": ("cosine", GREEN, "--"),
        "exponential": ("exponential", PINK, "-"),
        "claimed": ("10·(1 − e/E), as claimed", FAINT, "-"),
        "compounding": ("τ ← τ·(1 − e/E) every epoch", RED, "-."),
    }
    for axes in every:
        for name, (label, colour, line) in lines.items():
            width, below = (4.0, 1) if name == "claimed" else (1.8, 2)
            axes.plot(result[name], color=colour, ls=line, lw=width, zorder=below, label=label)
        axes.set_xlabel("epoch")
    every[0].set_title("temperature τ")
    every[1].set_title("the same, logarithmic")
    every[1].set_yscale("log")
    every[1].set_ylim(1e-3, 15)
    figure.legend(*every[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
