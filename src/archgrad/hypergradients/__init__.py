"""Hypergradients: ``HYPERGRADIENTS[name](**settings)`` maps (problem, α) to dL/dα."""

from archgrad.table import Entry, Table

HYPERGRADIENTS = Table(
    "hypergradient",
    {
        "first_order": Entry(
            "archgrad.hypergradients.first_order:FirstOrder",
            "∇α of the validation loss at the current weights",
            "Liu et al. 2019, DARTS (arXiv 1806.09055), section 2.3 with ξ = 0",
        ),
        "unrolled": Entry(
            "archgrad.hypergradients.unrolled:Unrolled",
            "through one step of SGD on the weights, Hessian term by finite difference",
            "Liu et al. 2019, DARTS (arXiv 1806.09055), eq. 6-8",
        ),
        "unrolled_exact": Entry(
            "archgrad.hypergradients.unrolled_exact:UnrolledExact",
            "through one step of SGD on the weights, Hessian term exact",
            "Liu et al. 2019, DARTS (arXiv 1806.09055), eq. 6-7",
        ),
        "truncated": Entry(
            "archgrad.hypergradients.truncated:Truncated",
            "through several steps of SGD on the weights, exact",
            "Shaban et al. 2019 (arXiv 1810.10667), section 2",
        ),
        "implicit_neumann": Entry(
            "archgrad.hypergradients.implicit_neumann:ImplicitNeumann",
            "at the weights' optimum, the inverse Hessian by a Neumann series",
            "Lorraine et al. 2020 (arXiv 1911.02590), theorem 1 and algorithms 2-3",
        ),
        "implicit_cg": Entry(
            "archgrad.hypergradients.implicit_cg:ImplicitCG",
            "at the weights' optimum, the inverse Hessian by conjugate gradients",
            "Rajeswaran et al. 2019 (arXiv 1909.04630), section 3",
        ),
        "single_level": Entry(
            "archgrad.hypergradients.single_level:SingleLevel",
            "∇α of the training loss: logits and weights share every batch",
            "Xie et al. 2019, SNAS (arXiv 1812.09926), section 2.2",
        ),
        "score_function": Entry(
            "archgrad.hypergradients.score_function:ScoreFunction",
            "the reward of drawn architectures times ∇θ of their log-probability; no backward pass",
            "Williams 1992; Pham et al. 2018, ENAS (arXiv 1802.03268)",
        ),
        "rebar": Entry(
            "archgrad.hypergradients.rebar:Rebar",
            "score function with less noise: a relaxation of the draw is subtracted and its mean added",
            "Tucker et al. 2017 (arXiv 1703.07370), section 3",
        ),
    },
)
