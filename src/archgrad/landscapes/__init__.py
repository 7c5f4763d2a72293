"""Landscapes: losses that are known for every architecture, ``value(z [..., E, K]) -> [...]``.

No network is trained: a search on a landscape is exact, and takes seconds.
"""
