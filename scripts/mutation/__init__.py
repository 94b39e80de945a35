"""Mutation tests of the reference linker: does a test notice when a line of it is changed?

mutmut makes the changes; this package runs the tests against each, fast enough for thousands, and
writes what came of it into docs/mutation.md. `python -m scripts.mutation` is the command.
"""
