"""Which benchmarks there are, in the order in which they are run, and the question that each answers."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from benchmarks import (
    api_writes,
    claims_burst,
    dev_start,
    executor_boot,
    executor_calls,
    executor_memory,
    executor_rate,
    executor_slots,
    executor_start,
    idle,
    pool_ready,
    replacement,
    warm_execution,
)
from benchmarks.cluster import Namespace
from benchmarks.figures import Result


@dataclass(frozen=True)
class Benchmark:
    """A question, and what answers it."""

    question: str
    measure: Callable[[Namespace], Awaitable[Result]]


SUITE = {
    "warm_execution": Benchmark("what does the gateway add to a warm execution of `1+1`?", warm_execution.measure),
    "executor_start": Benchmark("how fast does a clean Python start in an executor?", executor_start.measure),
    "executor_calls": Benchmark("what does a call in a context cost beside ipykernel?", executor_calls.measure),
    "executor_rate": Benchmark("how many executions does an executor make per second?", executor_rate.measure),
    "executor_slots": Benchmark("what does one run do to those beside it?", executor_slots.measure),
    "executor_memory": Benchmark("what happens at the memory limit of an executor?", executor_memory.measure),
    "executor_boot": Benchmark("what does a new executor's start consist of?", executor_boot.measure),
    "api_writes": Benchmark("how much does an execution write to Kubernetes?", api_writes.measure),
    "pool_ready": Benchmark("how long from apply to three warm executors?", pool_ready.measure),
    "replacement": Benchmark("how soon is a lost warm executor asked for again?", replacement.measure),
    "claims_burst": Benchmark("how long do twenty principals wait who all come at once?", claims_burst.measure),
    "dev_start": Benchmark(dev_start.QUESTION, dev_start.measure),
    "idle": Benchmark("what does execpool cost while nobody uses it?", idle.measure),
}
