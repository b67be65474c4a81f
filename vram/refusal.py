"""Why a lease was not granted.

    Refused
    ├── QueueFull        too many wait already
    ├── NeverFits        larger than the whole budget
    ├── LoadFailed       the load was given up
    │   └── OutOfMemory  there was no memory for it, twice
    └── Stopping         the arbiter shuts down

They carry facts; whoever answers the client turns them into words and a status. An error of the loader's own is not
wrapped: it reaches every waiter as it was raised.
"""


class Refused(Exception):
    """A request for a model that gets no lease."""


class QueueFull(Refused):
    """waiting: requests in the queue that is full; limit: how many it takes."""

    def __init__(self, waiting: int, limit: int, retry_after_s: float) -> None:
        super().__init__(f"{waiting} requests wait already, the limit is {limit}")
        self.waiting = waiting
        self.limit = limit
        self.retry_after_s = retry_after_s


class NeverFits(Refused):
    """Not even an empty device would hold the model."""

    def __init__(self, model: str, needed_bytes: int, budget_bytes: int) -> None:
        super().__init__(f"{model} needs {needed_bytes / 1e9:.1f} GB, the budget is {budget_bytes / 1e9:.1f} GB")
        self.model = model
        self.needed_bytes = needed_bytes
        self.budget_bytes = budget_bytes


class LoadFailed(Refused):
    """The model did not become resident; what went wrong is the __cause__."""

    def __init__(self, model: str, retry_after_s: float) -> None:
        super().__init__(f"{model} could not be loaded")
        self.model = model
        self.retry_after_s = retry_after_s


class OutOfMemory(LoadFailed):
    """The device had no memory for the model, although what was idle had been evicted."""


class Stopping(Refused):
    """The arbiter shuts down and grants nothing any more."""

    def __init__(self) -> None:
        super().__init__("shutting down")
