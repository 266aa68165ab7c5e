"""`python -m prx` is `prx`."""

from prx.cli import main

main()
