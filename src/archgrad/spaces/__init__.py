"""Search spaces: ``SPACES[name]`` is a `Space`; its builder is ``(pick, shape, classes, **settings)``."""

from archgrad.table import Entry, Table

_ROBUST = "Zela et al. 2020, RobustDARTS (arXiv 1909.09656), section 3"

SPACES = Table(
    "space",
    {
        "darts": Entry(
            "archgrad.spaces.cell:DARTS",
            "normal and reduction cell, 14 edges each, eight candidates",
            "Liu et al. 2019, DARTS (arXiv 1806.09055)",
        ),
        "darts_imagenet": Entry(
            "archgrad.spaces.cell:DARTS_IMAGENET",
            "the DARTS cells behind a stem that brings the image to 1/8 of its size",
            "Liu et al. 2019, DARTS (arXiv 1806.09055), section 3.3",
        ),
        "reduced_darts": Entry(
            "archgrad.spaces.robust_darts:REDUCED_DARTS",
            "the DARTS cells without the candidate none: seven candidates",
            "Chen et al. 2021, DrNAS (arXiv 2006.10355), section 4",
        ),
        "pc_darts": Entry(
            "archgrad.spaces.robust_darts:PC_DARTS",
            "the DARTS cells, a quarter of the channels through the candidates, edges weighed",
            "Xu et al. 2020, PC-DARTS (arXiv 1907.05737)",
        ),
        "s1": Entry(
            "archgrad.spaces.robust_darts:S1",
            "DARTS cells, every edge with two candidates of its own",
            _ROBUST,
        ),
        "s2": Entry(
            "archgrad.spaces.robust_darts:S2", "DARTS cells of skip_connect and sep_conv_3x3", _ROBUST
        ),
        "s3": Entry(
            "archgrad.spaces.robust_darts:S3", "DARTS cells of none, skip_connect and sep_conv_3x3", _ROBUST
        ),
        "s4": Entry("archgrad.spaces.robust_darts:S4", "DARTS cells of noise and sep_conv_3x3", _ROBUST),
        "nasbench201": Entry(
            "archgrad.spaces.nasbench201:NASBENCH201",
            "one cell of 6 edges with five candidates: 15,625 architectures",
            "Dong & Yang 2020, NAS-Bench-201 (arXiv 2001.00326)",
        ),
        "darts_rnn": Entry(
            "archgrad.spaces.rnn:DARTS_RNN",
            "recurrent cell of 8 nodes, 36 edges, five candidates, in a language model; reads texts",
            "Liu et al. 2019, DARTS (arXiv 1806.09055), section 2.1 and appendix A.2",
        ),
        "mobile": Entry(
            "archgrad.spaces.mobile:MOBILE",
            "chain of 22 mobile blocks, each with a choice of its own of nine candidates, or others you name",
            "Wu et al. 2019, FBNet (arXiv 1812.03443)",
        ),
    },
)
