"""``python -m archgrad`` is the command line."""

from archgrad.cli import main

main()
