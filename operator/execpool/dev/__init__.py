"""`execpool dev`: the whole product without a cluster, on this machine's processes."""
