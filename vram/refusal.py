"""Why a lease was not granted, or ended early.

    Refused
    ├── QueueFull        too many wait already
    ├── NeverFits        larger than the whole budget
    ├── LoadFailed       the load was given up
    │   └── OutOfMemory  there was no memory for it, twice, or none while it served
    ├── DeviceLost       the device does not answer, so nothing can be loaded
    ├── DeviceFailed     nothing in this process can use the device any more
    └── Stopping         the arbiter shuts down

    Busy                 not a refused lease: a model that serves cannot be unloaded

They carry facts; whoever answers the client turns them into words and a status. An error of the loader's own is not
wrapped: it reaches every waiter as it was raised.
"""

from typing import ClassVar


class Refused(Exception):
    """A request for a model that gets no lease. kind: its name in counts."""

    kind: ClassVar[str] = "refused"


class QueueFull(Refused):
    """waiting: requests in the queue that is full; limit: how many it takes."""

    kind = "queue_full"

    def __init__(self, waiting: int, limit: int, retry_after_s: float) -> None:
        super().__init__(f"{waiting} requests wait already, the limit is {limit}")
        self.waiting = waiting
        self.limit = limit
        self.retry_after_s = retry_after_s


class NeverFits(Refused):
    """Not even an empty device would hold the model."""

    kind = "never_fits"

    def __init__(self, model: str, needed_bytes: int, budget_bytes: int) -> None:
        super().__init__(f"{model} needs {needed_bytes / 1e9:.1f} GB, the budget is {budget_bytes / 1e9:.1f} GB")
        self.model = model
        self.needed_bytes = needed_bytes
        self.budget_bytes = budget_bytes


class LoadFailed(Refused):
    """The model did not become resident; what went wrong is the __cause__."""

    kind = "load_failed"

    def __init__(self, model: str, retry_after_s: float) -> None:
        super().__init__(f"{model} could not be loaded")
        self.model = model
        self.retry_after_s = retry_after_s


class OutOfMemory(LoadFailed):
    """The device had no memory for the model, although what was idle had been evicted; or none while it served."""

    kind = "out_of_memory"


class DeviceLost(Refused):
    """The device does not answer. What is resident is still served; reason: what the driver said."""

    kind = "device_lost"

    def __init__(self, model: str, reason: str, retry_after_s: float) -> None:
        super().__init__(f"{model} cannot be loaded: {reason}")
        self.model = model
        self.reason = reason
        self.retry_after_s = retry_after_s


class DeviceFailed(Refused):
    """What the device did last has spoilt it for the whole process: all that is resident is lost with it.

    reason: what the driver said
    """

    kind = "device_failed"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Stopping(Refused):
    """The arbiter shuts down and grants nothing any more."""

    kind = "stopping"

    def __init__(self) -> None:
        super().__init__("shutting down")


class Busy(Exception):
    """The model cannot be unloaded now; reason completes "it ..."."""

    def __init__(self, model: str, reason: str) -> None:
        super().__init__(f"{model} {reason}")
        self.model = model
        self.reason = reason
