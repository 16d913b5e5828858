"""One module a command; see :mod:`sandbox.cli`."""
