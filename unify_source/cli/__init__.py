"""Words in, exit code out: the command `unify-source`."""
