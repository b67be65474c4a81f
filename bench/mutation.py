"""Recordings as no recorder writes them: cut, with bits turned, falsely named, with huge numbers in the header."""

import random

NAMES = ("speech.wav", "speech.mp3", "speech", "", "speech.txt", "../../etc/passwd", "ton.m4a", "x" * 300 + ".ogg")
_HUGE = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x00")


def mutated(recording: bytes, chance: random.Random) -> tuple[str, bytes]:
    """A name and a damaged copy."""
    name = chance.choice(NAMES)
    data = bytearray(recording)
    match chance.choice(("truncated", "flipped", "renamed", "header", "spliced")):
        case "truncated":
            del data[chance.randrange(len(data)) :]
        case "flipped":
            for _ in range(chance.randint(1, 200)):
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        case "header":
            for _ in range(chance.randint(1, 8)):
                at = chance.randrange(min(len(data), 256) - 4)
                data[at : at + 4] = chance.choice(_HUGE)
        case "spliced":
            at, length = chance.randrange(len(data)), chance.randint(1, 4096)
            data[at:at] = chance.randbytes(length)
    return name, bytes(data)
