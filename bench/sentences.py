"""English sentences to be spoken: as many as wanted, always the same, from 5 words to 300.

Made of everyday parts by chance, so that no model can know them by heart. No numbers and no rare names: how a model
spells those is not what is measured.
"""

import math
import random

_WHO = (
    "the teacher", "my older sister", "a young doctor", "the captain of the ship", "our neighbour", "the old farmer",
    "her best friend", "the new manager", "a tired driver", "the whole family", "nobody in the village", "the postman",
    "a group of students", "the woman next door", "his grandfather", "the engineer", "every child", "the head cook",
)  # fmt: skip
_DID = (
    "carried the heavy boxes", "forgot the keys", "painted the kitchen door", "wrote a long letter", "missed the train",
    "found a silver coin", "opened the window", "cooked potatoes and fish", "repaired the broken radio", "told a story",
    "bought fresh bread", "lost the last game", "planted apple trees", "answered the telephone", "cleaned the garden",
    "waited for the bus", "heard a strange noise", "drew a map of the island", "closed the shop early", "sang a song",
)  # fmt: skip
_WHERE = (
    "in the garden", "at the railway station", "behind the church", "near the river", "on the way to London",
    "in a small hotel", "by the sea", "across the street", "at the market", "in the middle of the forest",
    "under the bridge", "at school", "in the library", "outside the hospital", "on the roof", "at home",
)  # fmt: skip
_WHEN = (
    "on Monday morning", "yesterday", "before breakfast", "in the summer", "last week", "during the storm",
    "late at night", "on a cold day in winter", "after the meeting", "every Friday", "long ago", "this afternoon",
)  # fmt: skip
_WHY = (
    "because the weather was good", "although it was raining", "while the music was playing",
    "since there was nothing else to do", "as if nothing had happened", "so that everybody could see it",
    "even though the road was closed", "because the water was too cold", "until the lights went out",
    "while the others were asleep", "before anybody noticed", "because it was cheaper than the other one",
)  # fmt: skip
_LONGEST = 24
"""Words after which a full stop is due: nobody speaks 300 without one."""


def sentences(count: int, *, seed: int = 1, shortest: int = 5, longest: int = 300) -> list[str]:
    """Lengths are spread evenly on a logarithmic scale: as many from 5 to 10 words as from 150 to 300."""
    chance = random.Random(seed)
    steps = [index / max(count - 1, 1) for index in range(count)]
    return [_text(round(shortest * math.pow(longest / shortest, step)), chance) for step in steps]


def _text(words: int, chance: random.Random) -> str:
    text: list[str] = []
    while words - len(text) >= 5:
        text += _sentence(min(words - len(text), _LONGEST), chance)
    return " ".join(text)


def _sentence(words: int, chance: random.Random) -> list[str]:
    """At least a subject and what it did; more as long as there is room."""
    parts = [f"{chance.choice(_WHO)} {chance.choice(_DID)}"]
    for more in (_WHERE, _WHEN, _WHY):
        part = chance.choice(more)
        if len(" ".join([*parts, part]).split()) <= words:
            parts.append(part)
    joined = " ".join(parts).split()
    joined[0] = joined[0].capitalize()
    joined[-1] += "."
    return joined
