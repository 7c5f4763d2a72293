"""The numbers, tables and figures of docs/gumbel.md.

Measures and keeps benchmarks/results/gumbel_figures.json, then draws docs/images/gumbel-*.svg from it and
writes the tables into docs/gumbel.md. --draw leaves out the measuring, --tables only prints the tables.

1. noise: how often each candidate is the argmax of α + noise, for Gumbel, uniform and Gaussian noise, against
   softmax(α) by chi-square.
2. simplex: how near to one-hot a draw of Gumbel-softmax is, by temperature.
3. estimators: bias, variance and cosine of gradient estimators by temperature, against the exact gradient of
   the expected loss on the NAS-Bench-201 landscape, at the point "leaning".
4. schedules: temperature by epoch, with the running product that is sometimes taken for a straight line.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "gumbel_figures.json"
DOCUMENT = HERE.parent / "docs" / "gumbel.md"
IMAGES = HERE.parent / "docs" / "images"

LOGITS = (2.0, 1.5, 0.5, 0.0)
NOISES = ("gumbel", "uniform", "gaussian")
NOISE_DRAWS = 100_000
SIMPLEX_LOGITS = tuple(math.log(p) for p in (0.5, 0.3, 0.2))
SIMPLEX_TAUS = (5.0, 1.0, 0.5, 0.1)
SIMPLEX_DRAWS, SIMPLEX_SHOWN = 100_000, 200
TAUS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
ESTIMATE_DRAWS = 100_000
BY_TAU = {
    "gumbel_softmax": ("gumbel_softmax", "first_order"),
    "straight_through": ("straight_through", "first_order"),
    "gumbel_rao": ("gumbel_rao", "first_order"),
    "reinmax": ("reinmax", "first_order"),
    "rebar": ("gumbel_max", "rebar"),
}
AT_ONE = {
    "softmax": ("softmax", "first_order"),
    **BY_TAU,
    "decoupled_straight_through": ("decoupled_straight_through", "first_order"),
    "score_gate": ("score_gate", "first_order"),
    "score_function, no baseline": ("gumbel_max", "score_function(baseline=none)"),
    "score_function, leave_one_out": ("gumbel_max", "score_function(baseline=leave_one_out,samples=2)"),
}
EPOCHS, START, END = 50, 10.0, 0.1
SHOWN_EPOCHS = (0, 5, 10, 25, 40, 49)


def noise() -> dict[str, Any]:
    """Frequencies [K] of the argmax for each kind of noise, and their chi-square against softmax(α)."""
    from scipy.stats import chisquare

    from archgrad.randomness import Streams
    from archgrad.samplers.gumbel_softmax import GumbelSoftmax
    from archgrad.samplers.wrong_noise import WrongNoise

    alpha = torch.tensor(LOGITS, dtype=torch.float64)
    wanted = torch.softmax(alpha, dim=-1)
    samplers = {
        "gumbel": GumbelSoftmax(),
        "uniform": WrongNoise("uniform"),
        "gaussian": WrongNoise("gaussian"),
    }
    found: dict[str, Any] = {"logits": LOGITS, "draws": NOISE_DRAWS, "softmax": wanted.tolist()}
    for kind, sampler in samplers.items():
        rows = alpha.expand(NOISE_DRAWS, len(LOGITS))
        drawn = sampler(rows, 1.0, Streams(0).generator(f"gumbel_figures/{kind}")).weights.argmax(dim=-1)
        counts = torch.bincount(drawn, minlength=len(LOGITS)).double()
        test = chisquare(counts.numpy(), (wanted * NOISE_DRAWS).numpy())
        found[kind] = {
            "frequencies": (counts / NOISE_DRAWS).tolist(),
            "chi_square": float(test.statistic),
            "p": float(test.pvalue),
        }
    return found


def points_at(tau: float, draws: int) -> torch.Tensor:
    """Draws [N, 3] of Gumbel-softmax; at every τ of the same noise, so that a point can be followed."""
    from archgrad.randomness import Streams
    from archgrad.samplers.gumbel_softmax import GumbelSoftmax

    rows = torch.tensor(SIMPLEX_LOGITS, dtype=torch.float64).expand(draws, 3)
    return GumbelSoftmax()(rows, tau, Streams(0).generator("gumbel_figures/simplex")).weights


def simplex() -> dict[str, Any]:
    """By τ: the mean of the largest weight, the share above 0.99, the mean point."""
    rows = []
    for tau in SIMPLEX_TAUS:
        z = points_at(tau, SIMPLEX_DRAWS)
        largest = z.amax(dim=-1)
        rows.append(
            {
                "tau": tau,
                "largest": float(largest.mean()),
                "nearly_one_hot": float((largest > 0.99).double().mean()),
                "mean": z.mean(dim=0).tolist(),
                "argmax": torch.bincount(z.argmax(dim=-1), minlength=3).div(SIMPLEX_DRAWS).tolist(),
            }
        )
    return {"probabilities": [math.exp(a) for a in SIMPLEX_LOGITS], "draws": SIMPLEX_DRAWS, "rows": rows}


def estimators() -> dict[str, Any]:
    """Bias, variance and cosine on the landscape: by τ of some, and at τ = 1 of all.

    At τ = 1 also where only gates of candidates that ran have a gradient, as in a network; losses are
    less their mean then.
    """
    from dataclasses import asdict

    from archgrad.lab.contenders import line_up
    from archgrad.lab.estimators import estimate, points
    from archgrad.landscapes.build import build
    from archgrad.landscapes.task import Observe

    landscape = build("nasbench201")
    logits = points(landscape, 0)["leaning"]
    views: dict[str, Observe] = {"all": "all", "drawn": "active"}

    def measured(parts: tuple[str, str], tau: float, view: str) -> dict[str, Any]:
        sampler, hypergradient = parts
        (contender,) = line_up(samplers=[sampler], hypergradients=[hypergradient], steps=1).contenders
        found = estimate(
            contender, landscape, logits, point="leaning", tau=tau, draws=ESTIMATE_DRAWS, observe=views[view]
        )
        kept = asdict(found)
        return {key: kept[key] for key in ("bias", "bias_error", "variance", "cosine", "mean_cosine")}

    return {
        "landscape": "nasbench201, cifar10_valid_12ep",
        "point": "leaning",
        "draws": ESTIMATE_DRAWS,
        "taus": TAUS,
        "by_tau": {name: [measured(parts, tau, "all") for tau in TAUS] for name, parts in BY_TAU.items()},
        "at_one": {
            name: {view: measured(parts, 1.0, view) for view in views} for name, parts in AT_ONE.items()
        },
    }


def schedules() -> dict[str, Any]:
    """τ by epoch: three schedules, and the running products τ ← τ·(1 − e/E)."""
    from archgrad.schedules import SCHEDULES, epoch_progress

    found: dict[str, Any] = {"epochs": EPOCHS, "start": START, "end": END}
    for name in ("linear", "cosine", "exponential"):
        schedule = SCHEDULES[name]
        found[name] = [schedule(START, END, epoch_progress(e, EPOCHS)) for e in range(EPOCHS)]
    found["claimed"] = [START * (1 - e / EPOCHS) for e in range(EPOCHS)]
    tau, product = START, []
    for epoch in range(EPOCHS):
        tau *= 1 - epoch / EPOCHS
        product.append(tau)
    found["compounding"] = product
    return found


# ---- tables


def tables(result: dict[str, Any]) -> dict[str, str]:
    """The tables of the document by name."""
    return {
        "noise": _noise_table(result["noise"]),
        "simplex": _simplex_table(result["simplex"]),
        "temperatures": _temperatures_table(result["estimators"]),
        "estimators": _estimators_table(result["estimators"]),
        "schedules": _schedules_table(result["schedules"]),
    }


def _short(value: float) -> str:
    """Two digits, and no power of ten for numbers above 1."""
    return f"{value:.2g}" if value < 100 else f"{value:.0f}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _noise_table(result: dict[str, Any]) -> str:
    def share(values: list[float]) -> list[str]:
        return [f"{v:.4f}" for v in values]

    def p_value(p: float) -> str:
        return f"{p:.2f}" if p >= 0.01 else "below 1e-300" if p == 0 else f"{p:.0e}"

    head = ["", *(f"candidate {k}, α = {a:g}" for k, a in enumerate(result["logits"])), "χ²", "p-value"]
    rows = [["softmax(α), exact", *share(result["softmax"]), "", ""]]
    for kind in NOISES:
        one = result[kind]
        name = f"{'Gumbel' if kind == 'gumbel' else 'Gaussian' if kind == 'gaussian' else kind} noise"
        rows.append([name, *share(one["frequencies"]), f"{one['chi_square']:,.1f}", p_value(one["p"])])
    return _table(head, rows)


def _simplex_table(result: dict[str, Any]) -> str:
    head = ["τ", "largest weight, mean", "draws with a weight above 0.99", "mean point", "argmax frequencies"]
    return _table(
        head,
        [
            [
                f"{r['tau']:g}",
                f"{r['largest']:.3f}",
                f"{100 * r['nearly_one_hot']:.1f} %",
                ", ".join(f"{v:.3f}" for v in r["mean"]),
                ", ".join(f"{v:.3f}" for v in r["argmax"]),
            ]
            for r in result["rows"]
        ],
    )


def _temperatures_table(result: dict[str, Any]) -> str:
    def cell(r: dict[str, float]) -> str:
        return f"{r['bias']:.2f}, {_short(r['variance'])}"

    rows = [[f"`{name}`", *map(cell, found)] for name, found in result["by_tau"].items()]
    return _table(["bias, variance at τ =", *(f"{tau:g}" for tau in result["taus"])], rows)


def _estimators_table(result: dict[str, Any]) -> str:
    heads = ("all gates", "drawn gates, losses less their mean")

    def cell(r: dict[str, float]) -> str:
        return f"{r['bias']:.2f} ± {r['bias_error']:.2f}, {_short(r['variance'])}, {r['cosine']:.2f}"

    rows = []
    for name, found in result["at_one"].items():
        part, _, setting = name.partition(", ")
        text = f"`{part}`" + (f", {setting}" if setting else "")
        rows.append([text, *(cell(found[view]) for view in ("all", "drawn"))])
    return _table(["bias, variance, cosine at τ = 1", *heads], rows)


def _schedules_table(result: dict[str, Any]) -> str:
    names = {
        "claimed": "straight line to 0, 10·(1 − e/E)",
        "compounding": "running product τ ← τ·(1 − e/E)",
        "linear": "`linear`",
        "cosine": "`cosine`",
        "exponential": "`exponential`",
    }
    rows = [[text, *(f"{result[name][e]:.2g}" for e in SHOWN_EPOCHS)] for name, text in names.items()]
    return _table(["τ at epoch", *map(str, SHOWN_EPOCHS)], rows)


def with_tables(text: str, result: dict[str, Any]) -> str:
    """The document with every table put between its two marks."""
    for name, table in tables(result).items():
        begin, end = f"<!-- table {name}: begin -->", f"<!-- table {name}: end -->"
        head, rest = text.split(begin, 1)
        _, tail = rest.split(end, 1)
        text = f"{head}{begin}\n\n{table}\n\n{end}{tail}"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draw", action="store_true", help="figures and tables from the kept numbers")
    parser.add_argument("--tables", action="store_true", help="print the tables from the kept numbers")
    options = parser.parse_args()
    if not options.draw and not options.tables:
        from record import record

        record(
            "gumbel_figures",
            {
                "noise": noise(),
                "simplex": simplex(),
                "estimators": estimators(),
                "schedules": schedules(),
            },
        )
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    if options.tables:
        print("\n\n".join(tables(result).values()))
        return
    from gumbel_drawing import draw

    draw(result, points_at, IMAGES, SIMPLEX_SHOWN)
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text(encoding="utf-8"), result), encoding="utf-8")


if __name__ == "__main__":
    main()
