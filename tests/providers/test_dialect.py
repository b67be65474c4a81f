"""Messages in, prompt out; stop strings whatever the borders of the pieces."""

import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmux.errors import InvalidRequest
from providers.dialect import SEAM, StopScanner, render, spans
from tests import templates

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONTROL = ("<|im_start|>", "<|im_end|>")


def prompt(*messages: dict[str, Any], template: str = CHATML, **more: Any) -> str:
    more = {"special_tokens": {}, **more}
    return render(messages, template=template, **more)


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def test_the_prompt_asks_for_the_assistants_turn() -> None:
    assert prompt(user("Hi")) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_parts_of_text_are_joined() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": " two"}]
    assert prompt(user(parts)) == prompt(user("one two"))


def test_a_message_without_content_is_empty() -> None:
    assert prompt(user(None)) == prompt({"role": "user"}) == prompt(user(""))


def test_the_developer_speaks_as_the_system() -> None:
    assert prompt({"role": "developer", "content": "Be brief."}, user("Hi")) == prompt(
        {"role": "system", "content": "Be brief."}, user("Hi")
    )


def test_leading_system_messages_become_one() -> None:
    system = ({"role": "system", "content": "A"}, {"role": "developer", "content": "B"})
    assert prompt(*system, user("Hi")) == prompt({"role": "system", "content": "A\n\nB"}, user("Hi"))


def test_consecutive_messages_of_the_user_stay_as_they_are_where_the_template_takes_them() -> None:
    assert prompt(user("A"), user("B")).count("<|im_start|>user") == 2


def test_a_template_that_wants_alternating_turns_gets_them() -> None:
    strict = (
        "{% for message in messages %}{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Roles must alternate') }}{% endif %}[{{ message.content }}]{% endfor %}"
    )
    assert prompt(user("A"), user("B"), template=strict) == "[A\n\nB]"


def test_the_view_tools_and_special_tokens_reach_the_template() -> None:
    template = "{{ bos_token }}{{ enable_thinking }}{{ tools[0].function.name }}"
    tools = [{"type": "function", "function": {"name": "search"}}]
    rendered = prompt(
        user("Hi"),
        template=template,
        special_tokens={"bos_token": "<s>"},
        tools=tools,
        options={"enable_thinking": False},
    )
    assert rendered == "<s>Falsesearch"


def test_arguments_of_earlier_calls_are_what_templates_can_walk_through() -> None:
    template = (
        "{% for name, value in messages[0].tool_calls[0].function.arguments|items %}{{ name }}={{ value }}{% endfor %}"
    )
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"city": "Rome"}'}}
    assert prompt({"role": "assistant", "content": None, "tool_calls": [call]}, template=template) == "city=Rome"


def test_arguments_that_are_no_json_are_handed_on() -> None:
    call = {"function": {"name": "f", "arguments": "{broken"}}
    template = "{{ messages[0].tool_calls[0].function.arguments }}"
    assert prompt({"role": "assistant", "tool_calls": [call]}, template=template) == "{broken"


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([], "at least one message"),
        ([{"role": "wizard", "content": "x"}], r"messages\[0\].role"),
        (["text"], r"messages\[0\].role"),
        ([user(5)], r"messages\[0\].content must be text"),
        ([user("a"), {"role": "assistant", "tool_calls": 5}], r"messages\[1\].tool_calls must be a list"),
        ([user("a"), {"role": "assistant", "tool_calls": ["f"]}], r"tool_calls\[0\] must be an object"),
        ([user("a"), {"role": "assistant", "tool_calls": [{"function": {}}]}], r"tool_calls\[0\] must be an object"),
        ([user([{"type": "image_url", "image_url": {"url": "data:"}}])], "takes no images"),
        ([user([{"type": "input_audio"}])], r"content\[0\] must be a part of type text"),
        ([user(["x"])], r"content\[0\] must be a part of type text"),
    ],
)
def test_messages_that_cannot_be_rendered_are_refused(messages: list[Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        prompt(*messages)


def test_what_the_template_says_is_the_answer() -> None:
    with pytest.raises(InvalidRequest, match="refuses these messages: No system please"):
        prompt(user("Hi"), template="{{ raise_exception('No system please') }}")


def test_other_errors_in_a_template_do_not_quote_the_messages() -> None:
    with pytest.raises(InvalidRequest) as refused:
        prompt(user("my secret"), template="{{ messages[0].content + 1 }}")
    assert "TypeError" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_template_cannot_leave_its_sandbox() -> None:
    with pytest.raises(InvalidRequest, match="SecurityError"):
        prompt(user("Hi"), template="{{ messages.__class__.__mro__ }}")


def test_control_tokens_of_the_client_are_cut() -> None:
    rendered = prompt(user("a<|im_end|>b"), control_tokens=CONTROL)
    assert list(spans(rendered)) == ["<|im_start|>user\na<", "|im_end|>b<|im_end|>\n<|im_start|>assistant\n"]


def test_control_tokens_within_others_are_cut_too() -> None:
    rendered = prompt(user("abc"), template="{{ messages[0].content }}", control_tokens=("ab", "bc"))
    assert rendered == f"a{SEAM}b{SEAM}c"


@given(st.lists(st.sampled_from([*CONTROL, "<|", "im_end", "|>", "<", "x", SEAM]), max_size=12).map("".join))
def test_no_span_holds_a_control_token_that_the_template_did_not_write(content: str) -> None:
    spoken = spans(prompt(user(content), control_tokens=CONTROL))
    written = [span.count(token) for span in spoken for token in CONTROL]
    assert sum(written) == 3  # the turn's start and end, and the assistant's start


# What clients send, in the templates' own way


def asked(name: str, arguments: str = "{}", *, number: int = 1) -> dict[str, Any]:
    return {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": arguments}}


def answered(content: Any, *, number: int = 1) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": f"call_{number}", "content": content}


FIRST = [
    user("Rome?"),
    {"role": "assistant", "content": None, "reasoning_content": "I look.", "tool_calls": [asked("f", '{"a": "ä"}')]},
    answered([{"type": "text", "text": "warm"}]),
]
"""A call and its result, as clients send them: with the reasoning, without content, parts for a text."""

LATER = [*FIRST, {"role": "assistant", "content": "Warm.", "reasoning_content": "Done."}, user("Bonn?")]

CALLED = {
    templates.QWEN: "<tool_call>\n<function=f>\n<parameter=a>\nä\n</parameter>\n</function>\n</tool_call><|im_end|>",
    templates.HERMES: '<tool_call>\n{"name": "f", "arguments": {"a": "ä"}}\n</tool_call><|im_end|>',
    templates.GPT_OSS: '<|start|>assistant to=functions.f<|channel|>commentary json<|message|>{"a": "ä"}<|call|>',
}


@pytest.mark.parametrize("template", CALLED)
def test_calls_and_their_results_are_told_in_the_models_own_markup(template: str) -> None:
    rendered = prompt(*LATER, template=template)
    assert CALLED[template] in rendered
    assert rendered.index("warm") > rendered.index(CALLED[template])


@pytest.mark.parametrize(
    ("template", "marked"),
    [
        (templates.QWEN, "<think>\nI look.\n</think>"),
        (templates.GPT_OSS, "<|channel|>analysis<|message|>I look.<|end|>"),
    ],
)
def test_reasoning_is_sent_back_where_the_template_wants_it(template: str, marked: str) -> None:
    assert marked in prompt(*FIRST, template=template)
    assert "Done." not in prompt(*LATER, template=template)


def test_reasoning_of_earlier_turns_is_dropped_where_the_template_drops_it() -> None:
    assert "I look." not in prompt(*LATER, template=templates.QWEN)


@pytest.mark.parametrize("template", [templates.QWEN, templates.HERMES, templates.GPT_OSS, templates.CHATML])
def test_after_a_failed_turn_the_user_speaks_twice(template: str) -> None:
    rendered = prompt(user("one"), user("two"), template=template)
    assert rendered.index("one") < rendered.index("two")


@pytest.mark.parametrize("template", [templates.QWEN, templates.HERMES, templates.GPT_OSS])
def test_dozens_of_tools_are_all_described(template: str) -> None:
    tools = [{"type": "function", "function": {"name": f"tool_{number}"}} for number in range(36)]
    rendered = prompt(user("Hi"), template=template, tools=tools)
    assert all(f"tool_{number}" in rendered for number in range(36))


@pytest.mark.parametrize("template", [templates.QWEN, templates.GPT_OSS])
def test_a_later_system_message_is_said_by_the_user_where_the_template_takes_none(template: str) -> None:
    late = {"role": "system", "content": "Be brief."}
    assert prompt(user("a"), late, template=template).count("Be brief.") == 1
    assert prompt(user("a"), late, template=templates.CHATML) == (
        "<|im_start|>user\na<|im_end|>\n<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>assistant\n"
    )


def harmony(*messages: dict[str, Any]) -> list[str]:
    """The messages of a prompt for gpt-oss from the first call on, without what ends them."""
    rendered = prompt(user("Hi"), *messages, template=templates.GPT_OSS)
    parts = re.split(r"<\|start\|>", re.sub(r"<\|(?:end|call)\|>", "", rendered))
    return parts[parts.index("user<|message|>Hi") + 1 : -1]


def test_parallel_calls_are_told_one_by_one_where_the_template_takes_one() -> None:
    calls = {"role": "assistant", "content": "", "tool_calls": [asked("f", number=1), asked("g", number=2)]}
    assert harmony(calls, answered("of g", number=2), answered("of f", number=1)) == [
        "assistant to=functions.f<|channel|>commentary json<|message|>{}",
        'functions.f to=assistant<|channel|>commentary<|message|>"of f"',
        "assistant to=functions.g<|channel|>commentary json<|message|>{}",
        'functions.g to=assistant<|channel|>commentary<|message|>"of g"',
    ]


def test_results_without_ids_belong_to_the_calls_in_their_places() -> None:
    calls = [{"type": "function", "function": {"name": name}} for name in "fg"]
    results = [{"role": "tool", "content": text} for text in ("one", "two", "three")]
    assert harmony({"role": "assistant", "tool_calls": calls}, *results)[1::2] == [
        'functions.f to=assistant<|channel|>commentary<|message|>"one"',
        'functions.g to=assistant<|channel|>commentary<|message|>"two"',
    ]
    assert any("three" in message for message in harmony({"role": "assistant", "tool_calls": calls}, *results))


def test_an_id_that_is_no_text_is_none() -> None:
    calls = [{"id": {}, "type": "function", "function": {"name": "f", "arguments": "[" * 100_000}}]
    assert harmony({"role": "assistant", "tool_calls": calls}, answered("x"))[-1].endswith('"x"')


def test_what_is_said_beside_a_call_is_kept_with_its_reasoning() -> None:
    both = {"role": "assistant", "content": "I look.", "reasoning_content": "Hm.", "tool_calls": [asked("f")]}
    assert harmony(both, answered("x"))[0] == "assistant<|channel|>analysis<|message|>Hm.\n\nI look."


def test_a_result_without_a_call_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="there was no previous call"):
        prompt(user("Hi"), answered("x"), template=templates.GPT_OSS)


# Images

SEEN = {"type": "image_url", "image_url": {"url": "data:"}}
LOOK = user([{"type": "text", "text": "What is "}, SEEN, {"type": "text", "text": "?"}])


def test_an_image_stands_where_it_was_sent() -> None:
    rendered = prompt(LOOK, template=templates.QWEN, image_token="<|image_pad|>")
    assert "user\nWhat is <|vision_start|><|image_pad|><|vision_end|>?<|im_end|>" in rendered


def test_an_image_in_the_words_of_the_client_is_none() -> None:
    rendered = prompt(user("<|image_pad|>"), template=templates.QWEN, image_token="<|image_pad|>")
    assert not any("<|image_pad|>" in span for span in spans(rendered))


def test_messages_with_images_are_joined_like_others() -> None:
    strict = "{% if messages | length > 1 %}{{ raise_exception('one') }}{% endif %}" + templates.QWEN
    rendered = prompt(user("a"), LOOK, user("b"), template=strict, image_token="<|image_pad|>")
    assert "a\n\nWhat is <|vision_start|><|image_pad|><|vision_end|>?\n\nb" in rendered


def test_a_template_without_a_place_for_images_refuses_them() -> None:
    template = "{% for part in messages[0].content %}{{ part.text }}{% endfor %}"
    with pytest.raises(InvalidRequest, match="no place for these images"):
        prompt(LOOK, template=template, image_token="<|image_pad|>")


# Stop strings

TEXTS = st.text(alphabet="ab", max_size=12)
STOPS = st.lists(st.text(alphabet="ab", min_size=1, max_size=4), max_size=3)


def scan(stops: list[str], pieces: list[str]) -> tuple[str, bool]:
    scanner, shown = StopScanner(stops), ""
    for piece in pieces:
        text, stopped = scanner.feed(piece)
        shown += text
        if stopped:
            return shown, True
    return shown + scanner.flush(), False


def expected(stops: list[str], text: str) -> tuple[str, bool]:
    """The first stop string to be complete ends the text, the longest where two are complete at once."""
    for end in range(len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            return text[: end - max(map(len, complete))], True
    return text, False


@given(TEXTS, STOPS, st.data())
def test_the_borders_of_the_pieces_do_not_matter(text: str, stops: list[str], data: st.DataObject) -> None:
    borders = sorted(data.draw(st.sets(st.integers(0, len(text)))) | {0, len(text)})
    pieces = [text[start:end] for start, end in pairwise(borders)]
    assert scan(stops, pieces) == expected(stops, text)


def test_only_what_may_begin_a_stop_string_is_held_back() -> None:
    scanner = StopScanner(["\nUser:"])
    assert scanner.feed("Hello\nUs") == ("Hello", False)
    assert scanner.feed("ed car") == ("\nUsed car", False)
    assert scanner.feed("\nUser: next") == ("", True)


def test_without_stop_strings_all_is_shown_at_once() -> None:
    assert StopScanner([]).feed("text") == ("text", False)
