"""Costs: ``COSTS[name]`` is a `counting.Cost`, a unit and a way to count a part of a network.

A cost that is a sum over the parts of a network becomes a table [K] per choice
(`cost_table.cost_table`). Its expectation Σ p·c is then differentiable, and its value at a one-hot
choice is the cost of the network that choice derives.
"""

from archgrad.table import Entry, Table

COSTS = Table(
    "cost",
    {
        "parameters": Entry(
            "archgrad.costs.parameters:PARAMETERS",
            "parameters of the network in evaluation, the auxiliary head left out",
        ),
        "macs": Entry(
            "archgrad.costs.macs:MACS",
            "multiply-adds of convolutions and linear layers for one image",
            "Liu et al. 2019, DARTS (arXiv 1806.09055), section 3.3",
        ),
    },
)
