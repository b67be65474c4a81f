"""What Python keeps is moved into huge pages: private memory that is no file's, and nothing else."""

import mmap
import os
import platform
import re
from pathlib import Path

from llmux.huge_pages import anonymous, use_huge_pages

MEGABYTE = 1 << 20
MAPS = """\
55d0c0000000-55d0c1000000 r-xp 00000000 fe:00 1234                       /usr/bin/python3.11
55d0c1000000-55d0c2000000 rw-p 00000000 fe:00 1234                       /usr/bin/python3.11
55d0c2100000-55d0c2900000 rw-p 00000000 00:00 0                          [heap]
7f0000000000-7f0000200000 rw-p 00000000 00:00 0
7f0000300000-7f0000500000 rw-p 00000000 00:00 0
7f0001000000-7f0002000000 rw-s 00000000 00:01 77                         /dev/zero (deleted)
7f0003000000-7f0004000000 ---p 00000000 00:00 0
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]
"""


def test_only_whole_huge_pages_of_private_memory_count() -> None:
    assert list(anonymous(MAPS)) == [(0x55D0C2200000, 6 * MEGABYTE), (0x7F0000000000, 2 * MEGABYTE)]


def test_what_is_kept_lies_in_huge_pages_afterwards_and_is_the_same() -> None:
    kept = mmap.mmap(-1, 32 * MEGABYTE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    content = os.urandom(32 * MEGABYTE)
    kept.write(content)
    before = huge_bytes()
    use_huge_pages()
    assert kept[:] == content
    if the_kernel_collapses():
        assert huge_bytes() - before >= 24 * MEGABYTE
    kept.close()


def the_kernel_collapses() -> bool:
    release = tuple(map(int, re.findall(r"\d+", platform.release())[:2]))
    return release >= (6, 1) and Path("/sys/kernel/mm/transparent_hugepage").exists()


def huge_bytes() -> int:
    found = re.search(r"(?m)^AnonHugePages: +(\d+) kB", Path("/proc/self/smaps_rollup").read_text())
    assert found is not None
    return 1024 * int(found[1])
