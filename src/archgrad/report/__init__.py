"""The report of a run: numbers first (`points`), then one self-contained page that draws them (`page`).

Reads run folders only (docs/architecture.md, "A run folder"), finished or not; never live objects.
"""
