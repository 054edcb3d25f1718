"""`python -m edgedenoise`: the command line."""

from edgedenoise.cli import main

main()
