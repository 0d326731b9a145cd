"""`python -m unify_source` is the command `unify-source`."""

from unify_source.cli.app import main

main()
