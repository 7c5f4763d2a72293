"""Costs: ``COSTS[name]`` is a `counting.Cost`, a unit and a way to count a part of a network.

A cost that is a sum over the parts of a network becomes a table [K] per choice, and one per set of
choices that stand in one another (`cost_table.cost_table`). Its expectation is then differentiable, and its
value at one-hot choices is the cost of the network that they derive. Other costs make their own table.
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
        "traffic": Entry(
            "archgrad.costs.traffic:TRAFFIC",
            "bytes that the layers read and write for one image, in 32-bit numbers",
        ),
        "activation_memory": Entry(
            "archgrad.costs.activation_memory:ACTIVATION_MEMORY",
            "upper bound of the activations' peak memory: bytes of all tensors that one pass makes",
        ),
        "file_size": Entry("archgrad.costs.file_size:FILE_SIZE", "bytes of the weights in 32-bit numbers"),
        "file_size_16": Entry(
            "archgrad.costs.file_size:FILE_SIZE_16", "bytes of the weights in 16-bit numbers"
        ),
        "file_size_8": Entry(
            "archgrad.costs.file_size:FILE_SIZE_8",
            "bytes with convolutions and linear layers in 8 bits, a scale a channel, the rest in 32",
        ),
        "snas": Entry(
            "archgrad.costs.snas:SNAS",
            "the linear cost of SNAS: size, FLOPs and memory accesses of the edges, in its authors' weights",
            "Xie et al. 2019, SNAS (arXiv 1812.09926), section 3.3",
        ),
        "snas_log": Entry(
            "archgrad.costs.snas:SNAS_LOG",
            "the logarithmic cost of SNAS: mean logarithm of size, FLOPs and memory accesses",
            "Xie et al. 2019, SNAS (arXiv 1812.09926), section 3.3",
        ),
    },
)
