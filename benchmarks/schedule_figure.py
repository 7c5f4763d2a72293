"""docs/images/lab-schedules.svg from benchmarks/results/lab_schedules.json: regret by schedule of τ."""

from __future__ import annotations

import json
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "lab_schedules.json"
IMAGE = HERE.parent / "docs" / "images" / "lab-schedules.svg"
SHOWN = {
    "NAS-Bench-201, CIFAR-10": "the searched table is right",
    "NAS-Bench-201, CIFAR-10, Kendall's tau 0.5 and noise per step": "it ranks as badly as shared weights",
}
COLOURS = {"gumbel_softmax": "#0067a5", "straight_through": "#d55e00"}


def main() -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "archgrad"  # the same file from the same numbers
    from matplotlib import pyplot

    result = json.loads(RESULT.read_text())
    figure, axes = pyplot.subplots(1, 2, figsize=(9.2, 5.0), sharey=True, facecolor="white")
    for axis, (landscape, title) in zip(axes, SHOWN.items(), strict=True):
        rows = result["landscapes"][landscape]["schedules"]["outcomes"]
        names = list(dict.fromkeys(row["name"].split(" · ")[1] for row in rows))[::-1]
        for shift, (sampler, colour) in zip((0.14, -0.14), COLOURS.items(), strict=True):
            mine = {r["name"].split(" · ")[1]: r for r in rows if r["name"].startswith(sampler)}
            axis.errorbar(
                [100 * mine[n]["regret"] for n in names],
                [i + shift for i in range(len(names))],
                xerr=[196 * mine[n]["regret_error"] for n in names],
                fmt="o",
                markersize=4.5,
                capsize=2,
                linewidth=1.2,
                color=colour,
                label=sampler,
            )
        axis.set_yticks(range(len(names)), names, fontsize=8.5)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("regret in points of accuracy, with 95 % interval", fontsize=9)
        axis.grid(axis="x", color="#dddddd", linewidth=0.7)
        axis.set_axisbelow(True)
        for side in ("top", "right", "left"):
            axis.spines[side].set_visible(False)
        axis.set_xlim(left=-0.01)
    axes[0].legend(fontsize=9, frameon=False, loc="lower right")
    figure.tight_layout()
    figure.savefig(IMAGE, metadata={"Date": None})


if __name__ == "__main__":
    main()
