"""How fast topo is, against the floor: the same lab made by pre-encoded netlink messages. docs/performance.md."""
