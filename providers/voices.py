"""The voices folder: recordings whose voices can be taken over.

`anna.wav` is the voice anna, `anna.de.mp3` the same with German as her language. A recording is wav, mp3 or flac, of
one speaker, 6 to 60 seconds long.
"""

import logging
import re
from collections.abc import Mapping
from pathlib import Path

from llmux.errors import InvalidAudio
from providers.audio import decode
from providers.runtime import Clip

_logger = logging.getLogger(__name__)

_KINDS = (".wav", ".mp3", ".flac")

_NAME = re.compile(r"(?P<name>[\w-]{1,64})(?:\.(?P<language>[a-z]{2}))?", re.ASCII)

SHORTEST_S, LONGEST_S = 6.0, 60.0
"""Turbo wants more than five seconds; none hears more than fifteen."""

_LARGEST = 100_000_000
"""Bytes: a minute of stereo as good as anybody records it. More is not even read."""

_CHECK_RATE = 8_000


def read(folder: Path) -> Mapping[str, Clip]:
    """The voices of a folder by name, in alphabetical order; none where there is no such folder.

    A file that is no voice is left out, with a warning that says why. So is one that leads out of the folder.
    """
    clips: dict[str, Clip] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.startswith(".") or path.suffix.lower() == ".txt":
            continue
        clip, why = _clip(path, folder)
        if clip is not None and clip.name.lower() in {name.lower() for name in (*clips, "default")}:
            clip, why = None, "its name is taken"
        if clip is None:
            _logger.warning("voices: %r is left out: %s", path.name, why)
        else:
            clips[clip.name] = clip
    return clips


def _clip(path: Path, folder: Path) -> tuple[Clip | None, str]:
    match = _NAME.fullmatch(path.stem)
    if path.suffix.lower() not in _KINDS:
        return None, f"a voice is a {', '.join(kind[1:] for kind in _KINDS)} file"
    if match is None:
        return None, "a name is made of letters, digits, - and _, and may end in a language, as in anna.de.wav"
    if not path.is_file():
        return None, "it is no file"
    if not path.resolve().is_relative_to(folder.resolve()):
        return None, "it leads out of the folder"
    if path.stat().st_size > _LARGEST:
        return None, f"it is larger than {_LARGEST / 10**6:g} MB"
    why = _fault(path)
    return (None, why) if why else (Clip(match["name"], str(path), match["language"]), "")


def _fault(path: Path) -> str:
    """What is wrong with a recording; empty where nothing is."""
    try:
        seconds = len(decode(path.read_bytes(), _CHECK_RATE, max_s=LONGEST_S)) / _CHECK_RATE
    except (InvalidAudio, OSError) as error:
        return str(error.args[0]) if isinstance(error, InvalidAudio) else "it cannot be read"
    return "" if seconds >= SHORTEST_S else f"it is {seconds:.1f} s long, and must be {SHORTEST_S:g} to {LONGEST_S:g}"
