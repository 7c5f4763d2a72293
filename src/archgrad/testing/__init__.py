"""The contracts of archgrad's families, for parts of your own.

Each ``check_…`` raises `BrokenLaw`, an AssertionError that names the law and shows the numbers::

    from archgrad.testing import check_sampler
    check_sampler(MySampler())
"""

from archgrad.inheritance import inherit
from archgrad.testing.diagnostics import check_probe
from archgrad.testing.hypergradients import check_hypergradient, check_order
from archgrad.testing.landscapes import check_landscape
from archgrad.testing.law import BrokenLaw
from archgrad.testing.ops import check_operation
from archgrad.testing.samplers import check_sampler
from archgrad.testing.spaces import check_space

__all__ = [
    "BrokenLaw",
    "check_hypergradient",
    "check_landscape",
    "check_operation",
    "check_order",
    "check_probe",
    "check_sampler",
    "check_space",
    "inherit",
]
