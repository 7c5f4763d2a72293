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
        "gumbel_max": Entry(
            "archgrad.samplers.gumbel_max:GumbelMax",
            "one candidate runs, drawn from softmax(α); no gradient",
            "Maddison et al. 2014 (arXiv 1411.0030)",
        ),
        "reinmax": Entry(
            "archgrad.samplers.reinmax:ReinMax",
            "one candidate runs, drawn from softmax(α); straight-through gradient of second order",
            "Liu et al. 2023 (arXiv 2304.08612), algorithm 2",
        ),
        "gumbel_rao": Entry(
            "archgrad.samplers.gumbel_rao:GumbelRao",
            "one candidate runs; straight_through's gradient, averaged over the noise given the draw",
            "Paulus et al. 2021 (arXiv 2010.04838)",
        ),
        "decoupled_straight_through": Entry(
            "archgrad.samplers.decoupled_straight_through:DecoupledStraightThrough",
            "one candidate runs, drawn from softmax(α/τ); the gradient of softmax(α/backward_tau)",
            "Shah et al. 2024 (arXiv 2410.13331)",
        ),
        "dirichlet": Entry(
            "archgrad.samplers.dirichlet:Dirichlet",
            "a random point of the simplex: Dirichlet of concentration elu(α) + 1",
            "Chen et al. 2021, DrNAS (arXiv 2006.10355)",
        ),
        "uniform": Entry(
            "archgrad.samplers.uniform:Uniform",
            "one candidate runs, drawn uniformly; no gradient (control)",
            "Li & Talwalkar 2019 (arXiv 1902.07638)",
        ),
    },
)
