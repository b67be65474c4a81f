from typing import Any

import pytest

from hooks.tool_choice import narrow
from llmux.errors import InvalidRequest

OF_CHAT = [{"type": "function", "function": {"name": name}} for name in "abc"]
OF_RESPONSES = [{"type": "function", "name": name} for name in "abc"]


@pytest.mark.parametrize("mode", ["auto", "required"])
def test_tools_that_are_not_allowed_are_left_out(mode: str) -> None:
    chat: dict[str, Any] = {
        "tools": OF_CHAT,
        "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [OF_CHAT[2], OF_CHAT[0]]}},
    }
    responses: dict[str, Any] = {
        "tools": OF_RESPONSES,
        "tool_choice": {"type": "allowed_tools", "mode": mode, "tools": [OF_RESPONSES[2], OF_RESPONSES[0]]},
    }
    narrow(chat)
    narrow(responses)
    assert chat == {"tools": [OF_CHAT[2], OF_CHAT[0]], "tool_choice": mode}
    assert responses == {"tools": [OF_RESPONSES[2], OF_RESPONSES[0]], "tool_choice": mode}


@pytest.mark.parametrize("choice", [None, "auto", "required", {"type": "function", "function": {"name": "a"}}])
def test_every_other_choice_is_left_as_it_is(choice: Any) -> None:
    data = {"tools": OF_CHAT, "tool_choice": choice}
    narrow(data)
    assert data == {"tools": OF_CHAT, "tool_choice": choice}


@pytest.mark.parametrize(
    "choice",
    [
        {"type": "allowed_tools"},
        {"type": "allowed_tools", "allowed_tools": 5},
        {"type": "allowed_tools", "allowed_tools": {"mode": "none", "tools": [OF_CHAT[0]]}},
        {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}},
        {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [5]}},
        {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "name": "d"}]}},
    ],
)
def test_a_choice_that_cannot_be_made_is_refused(choice: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        narrow({"tools": OF_CHAT, "tool_choice": choice})
    assert refused.value.param == "tool_choice"
