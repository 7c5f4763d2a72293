"""Samplers: ``SAMPLERS[name](**settings)`` is a `Sampler`, logits α [E, K] -> `Sample`."""

from archgrad.table import Entry, Table

SAMPLERS = Table(
    "sampler",
    {
        "softmax": Entry(
            "archgrad.samplers.softmax:Softmax",
            "every candidate runs, weighted by softmax(α/τ)",
            "Liu et al. 2019, DARTS (arXiv 1806.09055), eq. 2",
        ),
        "gumbel_softmax": Entry(
            "archgrad.samplers.gumbel_softmax:GumbelSoftmax",
            "a random point of the simplex: softmax((α + G)/τ)",
            "Jang et al. 2017 (arXiv 1611.01144), eq. 2; Xie et al. 2019, SNAS (arXiv 1812.09926), eq. 4",
        ),
        "straight_through": Entry(
            "archgrad.samplers.straight_through:StraightThrough",
            "one candidate runs, drawn by Gumbel-max; the softmax's gradient",
            "Dong & Yang 2019, GDAS (arXiv 1910.04465), eq. 3-4",
        ),
        "uniform": Entry(
            "archgrad.samplers.uniform:Uniform",
            "one candidate runs, drawn uniformly; no gradient (control)",
            "Li & Talwalkar 2019 (arXiv 1902.07638)",
        ),
    },
)
