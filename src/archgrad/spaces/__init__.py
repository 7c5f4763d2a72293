"""Search spaces: ``SPACES[name]`` is a `Space`; its builder is ``(pick, shape, classes, **settings)``."""

from archgrad.table import Entry, Table

SPACES = Table(
    "space",
    {
        "darts": Entry(
            "archgrad.spaces.cell:DARTS",
            "normal and reduction cell, 14 edges each, eight candidates",
            "Liu et al. 2019, DARTS (arXiv 1806.09055)",
        ),
        "nasbench201": Entry(
            "archgrad.spaces.nasbench201:NASBENCH201",
            "one cell of 6 edges with five candidates: 15,625 architectures",
            "Dong & Yang 2020, NAS-Bench-201 (arXiv 2001.00326)",
        ),
    },
)
