"""Latency measured on a device: each candidate once, a table of them, and how far the table can be trusted.

`candidates` lists what there is to measure, `timing` measures, `device_script` writes the table (on this
machine or on another, from a `kit`), `table` reads it as a `CostTable`, `models` compares it with whole
networks, `published` has the devices of NAS-Bench-201.
"""
