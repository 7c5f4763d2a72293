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
        "score_gate": Entry(
            "archgrad.samplers.score_gate:ScoreGate",
            "one candidate runs, drawn from softmax(α); its gate's gradient rewards its log-probability",
            "Hu et al. 2020, DSNAS (arXiv 2002.09128)",
        ),
        "two_path": Entry(
            "archgrad.samplers.two_path:TwoPath",
            "two candidates are drawn, one is chosen, the other runs with weight 0 to be compared",
            "Cai et al. 2019, ProxylessNAS (arXiv 1812.00332)",
        ),
        "sigmoid": Entry(
            "archgrad.samplers.sigmoid:Sigmoid",
            "every candidate runs, each with a gate of its own, σ(α)",
            "Chu et al. 2020, FairDARTS (arXiv 1911.12126)",
        ),
        "binary_concrete": Entry(
            "archgrad.samplers.binary_concrete:BinaryConcrete",
            "random gates, σ((α + L)/τ), that open independently; with hard=true exactly 0 or 1",
            "Maddison et al. 2017 (arXiv 1611.00712), appendix B",
        ),
        "noisy_gumbel_softmax": Entry(
            "archgrad.samplers.noisy_gumbel_softmax:NoisyGumbelSoftmax",
            "gumbel_softmax that explores more: noise on the logits, candidates dropped at random",
            "Jang et al. 2017 (arXiv 1611.01144), eq. 2",
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
