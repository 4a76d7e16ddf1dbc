"""Figures of every node, which show a slow one; they are gathered with the sums of a report, without extra messages.

MLflow's page of system metrics shows the nodes of a figure, `system/FIGURE/node_N`, side by side.
"""

from collections.abc import Callable, Sequence
from statistics import median

from hardviews.elastic.environment import launched
from hardviews.tracking.system import SystemMetrics
from hardviews.train.meter import Meter

# Name of a figure, and whether the values of a node's processes are added.
_SPEED = "backward_images_per_second"
_FIGURES = {
    _SPEED: True,
    "data_wait_percentage": False,
    "cpu_percentage": True,
    "memory_megabytes": True,
    "gpu_memory_megabytes": True,
    "gpu_utilization_percentage": False,
}
_SYSTEM = (
    *("process_cpu_percentage", "process_memory_megabytes"),
    *("gpu_memory_usage_megabytes", "gpu_utilization_percentage"),
)


class Nodes:
    """Reports the sums of the meter, and the figures of each node."""

    def __init__(self, meter: Meter, share: float, backward: Callable[[], float], wait: Callable[[], float]) -> None:
        """Report the meter's sums alone if there is only one process.

        `share` is the number of images of this rank in a micro-batch. `backward` returns the seconds of a backward pass
        of this rank, 0 if unknown. `wait` returns the share of time that this rank waited for data.
        """
        self._meter, self._share, self._backward, self._wait = meter, share, backward, wait
        me = launched()
        self._alone = me.size == 1
        self._node = me.rank // max(1, me.local_size)
        self._system = SystemMetrics()

    def report(self) -> dict[str, float]:
        """Return the meter's means; every rank calls this at the same step."""
        return self._meter.report(() if self._alone else self._mine())

    def metrics(self) -> dict[str, float]:
        """Return the figures of each node at the last report."""
        return {} if self._alone else by_node(self._meter.by_rank)

    def _mine(self) -> list[float]:
        seconds = self._backward()
        system = self._system.sample()
        taken = [system.get(f"system/{name}", 0.0) for name in _SYSTEM]
        return [self._node, self._share / seconds if seconds else 0.0, 100 * self._wait(), *taken]


def by_node(ranks: Sequence[Sequence[float]]) -> dict[str, float]:
    """Return metrics by node from the rows of all ranks: the node, then its figures, without columns of zeros.

    A backward pass counts without the wait for other ranks, so the others wait for its slowest node. `slowest_node` is
    the number of this node, and `slowest_node_speed` its speed as a share of the median node's speed.
    """
    figures: dict[str, dict[int, float]] = {name: {} for name in _FIGURES}
    for node in sorted({int(row[0]) for row in ranks}):
        rows = [row[1:] for row in ranks if int(row[0]) == node]
        for (name, added), column in zip(_FIGURES.items(), zip(*rows, strict=True), strict=True):
            figures[name][node] = sum(column) / (1 if added else len(column))
    found = {
        f"system/{name}/node_{node}": value
        for name, values in figures.items()
        if any(values.values())
        for node, value in values.items()
    }
    speeds = figures[_SPEED]
    if len(speeds) > 1 and all(speeds.values()):
        slowest = min(speeds, key=lambda node: speeds[node])
        found["system/slowest_node"] = float(slowest)
        found["system/slowest_node_speed"] = speeds[slowest] / median(speeds.values())
    return found
