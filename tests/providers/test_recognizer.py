import torch

from providers.recognizer import stop_when
from providers.worker import Cancelled


def test_each_row_stops_by_its_own_flag() -> None:
    flags = [Cancelled(), Cancelled(), Cancelled()]
    stop = stop_when(flags)
    tokens = torch.zeros((3, 4), dtype=torch.long)
    assert stop(tokens, None).tolist() == [False, False, False]

    flags[1].set()

    assert stop(tokens, None).tolist() == [False, True, False]
