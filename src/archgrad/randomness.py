"""Named random streams from one root seed; the only file that makes generators.

A stream has no state to save: the generator of (seed, name, indices) is made afresh from a hash of
them, so resuming at step 1000 needs nothing but the number 1000. No function of archgrad draws from
PyTorch's, NumPy's or Python's global generators.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Streams:
    """Random streams under one root seed.

    >>> a, b = Streams(7).generator("data", 3), Streams(7).generator("data", 3)
    >>> bool(torch.equal(torch.rand(4, generator=a), torch.rand(4, generator=b)))
    True
    >>> Streams(7).seed_of("data", 3) == Streams(7).seed_of("sampler", 3)
    False
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def seed_of(self, name: str, *indices: int) -> int:
        """The 63-bit seed of a stream: SHA-256 of root seed, name and indices."""
        text = ":".join([str(self.seed), name, *map(str, indices)])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1

    def generator(self, name: str, *indices: int, device: torch.device | str = "cpu") -> torch.Generator:
        """A new generator for the stream, e.g. ``generator("sampler", epoch, step)``."""
        generator = torch.Generator(device=device)
        generator.manual_seed(self.seed_of(name, *indices))
        return generator


@contextmanager
def seeded_modules(seed: int) -> Iterator[None]:
    """Make module initialisation, which knows only the global generator, repeatable.

    The global state is put back on leaving, so nothing outside sees a difference.
    """
    state = torch.random.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.random.set_rng_state(state)
