"""Published parts of a data set brought to the two that a search needs: training and test."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

_Part = TypeVar("_Part")


def arrange(
    train: _Part, validation: _Part | None, test: _Part | None, join: Callable[[_Part, _Part], _Part]
) -> tuple[_Part, _Part | None]:
    """(training, test) of up to three published parts.

    The architecture's validation part is always drawn from the training images, by seed. So a
    published validation part joins the training images, or is the test part where there is no other.

    >>> arrange([1], [2], [3], lambda a, b: a + b)
    ([1, 2], [3])
    >>> arrange([1], [2], None, lambda a, b: a + b)
    ([1], [2])
    """
    if validation is None or test is None:
        return train, test if validation is None else validation
    return join(train, validation), test
