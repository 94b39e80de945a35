"""User-Mode Linux: a kernel that a plain user may boot, and with it real btrfs and xfs for anybody.

A guest is a worker of pytest-xdist: where xdist starts a Python, it starts `gateway`, which boots
the kernel with the root directory of the host, read-only below a layer in memory, and relays what
xdist and that Python say to each other. `scheduling` sends a test to a guest if it needs one.
"""
