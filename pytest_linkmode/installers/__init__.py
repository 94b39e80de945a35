"""The installer matrix: real programs, in each of their modes, on real layouts, under faults.

Each program (`programs`) installs one small sample from a warm cache on the source's side, offline;
what became of every file is evidence (`observing`), what its policy says is found by having the
reference linker do the same under the same fault (`predicting`). A cell either agrees or differs;
`scores` makes properties out of cells, and `pages` shows it all.
"""
