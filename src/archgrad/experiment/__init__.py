"""Experiments: methods × schedules × seeds as one resumable set of runs, and what can be said about them.

`plan` says which runs there are, `landscape` and `network` do them, `measures` reads a run, `statistics`
compares, `document` puts the numbers together, `points`, `figures` and `page` show them.
"""
