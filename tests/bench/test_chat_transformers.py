"""What `python -m bench chat-transformers` makes of what it sees."""

import pytest

from bench.chat import Round
from bench.chat_transformers import is_ahead, table


@pytest.mark.parametrize(("serve", "batching", "ahead"), [(9, 9, True), (11, 9, False), (9, 11, False), (10, 9, False)])
def test_the_gateway_has_to_be_ahead_of_both(serve: float, batching: float, ahead: bool) -> None:
    results = {
        "gateway": Round(10, 1, 1, 1),
        "serve": Round(serve, 1, 1, 1),
        "serve, batching": Round(batching, 1, 1, 1),
    }
    assert is_ahead(results) is ahead
    assert any("MISSED" in line for line in table(4, results)) is not ahead
