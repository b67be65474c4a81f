"""The account of the device's memory, in GB that are whole numbers here."""

from vram.device import DeviceError, Reading
from vram.memory import Memory


def charged(taken: int, budget: int = 16) -> Memory:
    memory = Memory(budget)
    memory.charged_bytes = taken
    return memory


def test_before_any_reading_the_budget_is_what_there_is() -> None:
    memory = charged(9)

    assert memory.observe(None, moving=False) == 0
    assert (memory.capacity_bytes, memory.free_bytes) == (16, 7)


def test_other_processes_and_what_never_came_back_are_not_free() -> None:
    memory = charged(9)
    memory.observe(Reading(total_bytes=16, used_bytes=13, own_bytes=11), moving=False)

    assert (memory.others_bytes, memory.unreturned_bytes) == (2, 2)
    assert (memory.capacity_bytes, memory.free_bytes) == (12, 3)


def test_others_take_from_the_card_and_not_from_a_budget_below_it() -> None:
    memory = charged(0, budget=10)
    memory.observe(Reading(total_bytes=16, used_bytes=5, own_bytes=0), moving=False)

    assert memory.capacity_bytes == 10


def test_while_models_move_only_other_processes_are_learnt_of() -> None:
    memory = charged(9)
    memory.observe(Reading(total_bytes=16, used_bytes=16, own_bytes=14), moving=True)
    assert (memory.others_bytes, memory.unreturned_bytes) == (2, 0)

    memory.observe(Reading(total_bytes=16, used_bytes=16, own_bytes=None), moving=True)
    assert memory.others_bytes == 2


def test_where_the_driver_tells_nobody_apart_all_beyond_the_models_is_others() -> None:
    memory = charged(9)
    memory.observe(Reading(total_bytes=16, used_bytes=12, own_bytes=None), moving=False, serving=True)

    assert (memory.others_bytes, memory.unreturned_bytes) == (3, 0)


def test_what_the_only_model_that_serves_has_grown_by_is_its_own() -> None:
    memory = charged(9)
    memory.observe(Reading(16, 10, 10), moving=False)
    assert memory.unreturned_bytes == 1

    assert memory.observe(Reading(16, 12, 12), moving=False, serving=True) == 2
    assert memory.unreturned_bytes == 1


def test_after_models_moved_unseen_the_first_reading_charges_nobody() -> None:
    memory = charged(9)
    memory.observe(Reading(16, 9, 9), moving=False)
    memory.charged_bytes = 11
    memory.observe(DeviceError("GPU is lost"), moving=False)

    assert memory.observe(Reading(16, 14, 14), moving=False, serving=True) == 0
    assert memory.unreturned_bytes == 3
    assert memory.observe(Reading(16, 15, 15), moving=False, serving=True) == 1


def test_a_reading_while_models_move_is_nothing_to_compare_the_next_one_with() -> None:
    memory = charged(9)
    memory.observe(Reading(16, 9, 9), moving=False)
    memory.observe(Reading(16, 12, 12), moving=True)

    assert memory.observe(Reading(16, 12, 12), moving=False, serving=True) == 0
    assert memory.unreturned_bytes == 3


def test_memory_that_comes_back_after_all_is_free_again() -> None:
    memory = charged(9)
    memory.observe(Reading(16, 12, 12), moving=False)

    assert memory.observe(Reading(16, 9, 9), moving=False, serving=True) == 0
    assert memory.unreturned_bytes == 0


def test_a_device_that_does_not_answer_is_an_error_until_it_does() -> None:
    memory = charged(9)
    memory.observe(Reading(16, 11, 9), moving=False)
    memory.observe(DeviceError("GPU is lost"), moving=False)
    assert (memory.error, memory.free_bytes) == ("GPU is lost", 5)

    memory.observe(Reading(16, 9, 9), moving=True)
    assert (memory.error, memory.free_bytes) == (None, 7)
