"""`python -m gateway.cli`: the same as `cutout`, where only the interpreter's path is known."""

from gateway.cli import main

main()
