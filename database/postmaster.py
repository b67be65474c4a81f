"""Which PostgreSQL server runs in a data folder, by its own account and by the kernel's."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class PidFile:
    """What postmaster.pid in a data folder says.

    status: starting, ready, standby or stopping; empty as long as the server has not said
    """

    pid: int
    socket_dir: Path
    status: str

    @classmethod
    def read(cls, data: Path) -> "PidFile | None":
        """None where there is none, or only the beginning of one."""
        try:
            lines = (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
            return cls(int(lines[0]), Path(lines[4]), lines[7].strip() if len(lines) > 7 else "")
        except (FileNotFoundError, IndexError, ValueError):
            return None

    def is_alive(self, data: Path) -> bool:
        """Whether the server that wrote this is running. Its id alone does not tell: it may be another's by now."""
        try:
            return Path(f"/proc/{self.pid}/cwd").samefile(data)
        except OSError:
            return False


def processes_in(data: Path) -> Iterator[int]:
    """The ids of the processes that work in a data folder: a server and its children, or those whom it left behind."""
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with suppress(OSError):
                if (path / "cwd").samefile(data):
                    yield int(path.name)
