"""`archgrad watch`: the report of a run served on the loopback address while the search goes on.

Reads files and writes none. While nothing changes it looks at the times of some files when a page asks, and
nothing else (`page`); who does not know the token gets nothing (`server`).
"""
