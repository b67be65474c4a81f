import random

from bench.mutation import NAMES, mutated


def test_the_same_chance_does_the_same_damage() -> None:
    sound = bytes(range(256)) * 8
    assert mutated(sound, random.Random(3)) == mutated(sound, random.Random(3))


def test_files_are_cut_flipped_lengthened_and_left_alone_under_another_name() -> None:
    chance, sound = random.Random(1), bytes(range(256)) * 8
    damaged = [mutated(sound, chance) for _ in range(200)]

    assert {name for name, _ in damaged} == set(NAMES)
    assert any(len(data) < len(sound) for _, data in damaged)
    assert any(len(data) > len(sound) for _, data in damaged)
    assert any(len(data) == len(sound) and data != sound for _, data in damaged)
    assert any(data == sound for _, data in damaged)
