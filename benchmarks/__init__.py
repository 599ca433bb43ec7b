"""What execpool costs and how fast it is, measured on a real cluster, each figure beside a peer of the same run.

A lone absolute says little on a machine that is shared: load moves it by a factor of two from one minute to the next.
So every benchmark measures something comparable in the same minutes, interleaved with ours, and the ratio of the two is
the figure to watch. `python -m benchmarks` runs them; nothing here is ever a test.

    figures.py     values: rows, percentiles, ratios with their confidence
    report.py      for a person, and for a program
    cluster.py     the installed execpool, and a namespace of our own in it
    executors.py   speaks to an executor directly, as the peer of the gateway
    held.py        an executor that is claimed, and what is inside it
    fork_cost.py   a program for the runner's container
    load.py        sends executions: one after the other, or at a rate that does not wait for answers
    watching.py    when something was seen to happen
    apiserver.py   requests counted by the API server and by execpool itself
    processes.py   CPU and memory of processes of this host
    the rest       one benchmark each, see `suite.py`
"""
