"""Penalties: ``PENALTIES[form](cost, **settings)`` is the architecture's loss with a price on its cost."""

from archgrad.table import Entry, Table

PENALTIES = Table(
    "form of the penalty",
    {
        "linear": Entry(
            "archgrad.penalties.linear:Linear",
            "loss + strength · cost, in standard deviations of the cost over the space",
            "Xie et al. 2019, SNAS (arXiv 1812.09926), eq. 8",
        ),
        "logarithmic": Entry(
            "archgrad.penalties.logarithmic:Logarithmic",
            "loss + strength · log cost, as steep as linear at the mean cost: savings count in percent",
        ),
        "mnasnet": Entry(
            "archgrad.penalties.mnasnet:MnasNet",
            "a reward for a score function: accuracy · (cost / target)^alpha, above the target ^beta",
            "Tan et al. 2019, MnasNet (arXiv 1807.11626), eq. 2-3",
        ),
        "fbnet": Entry(
            "archgrad.penalties.fbnet:FBNet",
            "loss · alpha · (log cost)^beta",
            "Wu et al. 2019, FBNet (arXiv 1812.03443), eq. 2",
        ),
        "proxyless": Entry(
            "archgrad.penalties.proxyless:Proxyless",
            "loss · alpha · (log cost / log target)^beta",
            "Cai et al. 2019, ProxylessNAS (arXiv 1812.00332), its authors' code",
        ),
    },
)
