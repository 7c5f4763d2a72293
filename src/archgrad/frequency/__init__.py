"""Frequency-domain channel selection: block DCT, a random gate per channel, then a static subset.

Source: Xu et al. 2020, Learning in the Frequency Domain (arXiv 2002.12416). docs/frequency.md
"""
