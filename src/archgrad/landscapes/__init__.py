"""Landscapes: losses known for every architecture; ``LANDSCAPES[name](**settings)`` is a `Landscape`.

No network is trained: a search on a landscape is exact, and takes seconds. ``NOISES[name](landscape,
**settings)`` makes a landscape to be searched on that is wrong the way shared weights are; what is
found is scored on its `truth`. `archgrad.landscapes.build.build` does both by name.
"""

from archgrad.table import Entry, Table

LANDSCAPES = Table(
    "landscape",
    {
        "nasbench201": Entry(
            "archgrad.landscapes.nasbench201:landscape",
            "15,625 trained cells: searched on after 12 epochs, scored on after 200",
            "Dong & Yang 2020 (arXiv 2001.00326)",
        ),
        "separable": Entry(
            "archgrad.landscapes.separable:separable",
            "planted, of any size: each choice counts by itself",
            "the additive part of Hoeffding 1948, Ann. Math. Stat. 19",
        ),
        "pairwise": Entry(
            "archgrad.landscapes.pairwise:pairwise",
            "planted, of any size: neighbouring choices depend on each other",
            "a random chain; its optimum by Viterbi 1967, IEEE Trans. Inf. Theory 13",
        ),
        "deceptive": Entry(
            "archgrad.landscapes.deceptive:deceptive",
            "planted, of any size: in every choice averages point away from the optimum",
            "Deb & Goldberg 1993, Analyzing deception in trap functions, FOGA 2",
        ),
        "plateau": Entry(
            "archgrad.landscapes.plateau:plateau",
            "planted, of any size: flat until two thirds of the choices are right",
            "plateaus as in the royal roads of Mitchell, Forrest & Holland 1992, ECAL 1",
        ),
    },
)

NOISES = Table(
    "noise",
    {
        "additive": Entry(
            "archgrad.landscapes.noise:additive", "a fixed error of its own for every architecture"
        ),
        "correlated": Entry(
            "archgrad.landscapes.noise:correlated",
            "the truth's losses dealt out anew, to a given rank correlation",
            "Kendall 1938, Biometrika 30; rank correlation under weight sharing: Yu et al. 2020 "
            "(arXiv 1902.08142)",
        ),
    },
)
