"""Derivation rules: ``RULES[name](groups, probabilities)``, see `derive`."""

from archgrad.table import Entry, Table

RULES = Table(
    "derivation rule",
    {
        "argmax": Entry("archgrad.derive:argmax", "the most probable candidate of every choice"),
        "darts": Entry(
            "archgrad.derive:darts",
            "the two strongest edges into every node, `none` left out of account",
            "Liu et al. 2019, DARTS (arXiv 1806.09055), section 2.4",
        ),
        "snas": Entry(
            "archgrad.derive:argmax",
            "the most probable candidate of every edge, `none` included, all edges (the same as argmax)",
            "Xie et al. 2019, SNAS (arXiv 1812.09926)",
        ),
        "pdarts": Entry(
            "archgrad.skip_limit:pdarts",
            "as darts, with at most two skip connections in the normal cell",
            "Chen et al. 2019, P-DARTS (arXiv 1904.12760), section 3.3",
        ),
        "rnn": Entry(
            "archgrad.rnn_rule:rnn",
            "recurrent cells: the strongest edge into every node, `none` left out of account",
            "Liu et al. 2019, DARTS (arXiv 1806.09055), the authors' code",
        ),
    },
)
