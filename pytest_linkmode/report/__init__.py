"""What a run verified, as people and programs want to read it.

`model` turns the merged ledger into one plain `Verdict`, and `document` that into plain data; the
writers beside them only print. A writer is a row of `options.WRITERS`, loaded when a report is
asked for.
"""
