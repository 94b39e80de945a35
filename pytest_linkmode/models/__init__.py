"""System calls of other operating systems as models that run here.

A model stands below the linker's own platform code, which calls it as it would call the system, and
is held to the same contract suite as the real call. It does what the manual says, on real files of
this machine; what a linker makes of that is the linker's business.
"""
