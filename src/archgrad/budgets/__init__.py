"""Budgets: what the derived network may cost, held during the search, checked and repaired at its end.

`budget.Budget` is the target, `hold.Hold` the multipliers of the search, `repair.repair` the integer program,
`front` what a sweep over budgets is judged by.
"""
