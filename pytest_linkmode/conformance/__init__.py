"""What every linker must do, whoever wrote it: a suite that runs on any adapter.

``pytest --pyargs pytest_linkmode.conformance --linkmode-linker=...`` links a sample tree in every
mode on every selected layout. Nothing that the linker says is believed: what it did is read back
from the disk.
"""
