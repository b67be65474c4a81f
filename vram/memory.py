"""The device's memory as an account: what models are charged, what else is held, and what is left for a load."""

from vram.device import DeviceError, Reading


class Memory:
    """All in bytes.

    budget_bytes: what models may use together
    charged_bytes: held by models; kept by whoever charges them
    unreturned_bytes: held by this process beyond its models
    others_bytes: held by other processes
    total_bytes: the device's size; None until it was read
    error: why the device cannot be read; None while it answers
    """

    __slots__ = (
        "_baseline",
        "budget_bytes",
        "charged_bytes",
        "error",
        "others_bytes",
        "total_bytes",
        "unreturned_bytes",
    )

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.charged_bytes = 0
        self.unreturned_bytes = 0
        self.others_bytes = 0
        self.total_bytes: int | None = None
        self.error: str | None = None
        self._baseline = False
        """Whether the last observation told what was held beside the models, so that the next one can be compared."""

    @property
    def capacity_bytes(self) -> int:
        """What all models together may take, as things are."""
        capacity = self.budget_bytes
        if self.total_bytes is not None:
            capacity = min(capacity, self.total_bytes - self.others_bytes)
        return capacity - self.unreturned_bytes

    @property
    def free_bytes(self) -> int:
        """What a load could take without any eviction; below zero when more is held than should be."""
        return self.capacity_bytes - self.charged_bytes

    def observe(self, reading: Reading | DeviceError | None, *, moving: bool, serving: bool = False) -> int:
        """Take note of what an event found. Returns by how much the one model that serves has grown beyond its charge.

        Growth is told from two observations in a row: after one that showed nothing, or that models moved, what is
        held beyond the charges may be anybody's.

        moving: a load or unload is under way, so that what this process holds belongs to nobody in particular
        serving: exactly one model serves
        """
        compared, self._baseline = self._baseline, False
        match reading:
            case None:
                return 0
            case DeviceError():
                self.error = str(reading)
                return 0
        self.error = None
        self.total_bytes = reading.total_bytes
        if reading.own_bytes is None:
            if not moving:
                self.others_bytes = max(0, reading.used_bytes - self.charged_bytes)
            return 0
        self.others_bytes = max(0, reading.used_bytes - reading.own_bytes)
        if moving:
            return 0
        beyond = max(0, reading.own_bytes - self.charged_bytes)
        grown = max(0, beyond - self.unreturned_bytes) if serving and compared else 0
        self.unreturned_bytes = beyond - grown
        self._baseline = True
        return grown
