"""Recorded answers of each family, told apart the same way wherever their pieces are cut.

The answers are written by hand, after the templates and the formats as they are published.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.markup import Markup, ToolCall, markup_of
from providers.reply import Part, Reply, Text
from tests import templates

QWEN, HERMES, HARMONY, PLAIN = map(markup_of, (templates.QWEN, templates.HERMES, templates.GPT_OSS, templates.CHATML))
THOUGHT = "<|im_start|>assistant\n<think>\n"
SILENT = "<|im_start|>assistant\n<think>\n\n</think>\n\n"
BARE = "<|im_start|>assistant\n"
START = "<|start|>assistant"
TOOLS = [
    {"type": "function", "function": {"name": "weather", "parameters": {"properties": {"days": {"type": "integer"}}}}},
    {"type": "function", "function": {"name": "write"}},
]


def said(text: str) -> Text:
    return Text(text)


def thought(text: str) -> Text:
    return Text(text, reasoning=True)


ROME = ToolCall("weather", '{"city": "Rome", "days": 2}')
BONN = ToolCall("weather", '{"city": "Bonn"}')
QWEN_ROME = (
    "<tool_call>\n<function=weather>\n<parameter=city>\nRome\n</parameter>\n<parameter=days>\n2\n</parameter>\n"
    "</function>\n</tool_call>"
)
QWEN_BONN = "<tool_call>\n<function=weather>\n<parameter=city>\nBonn\n</parameter>\n</function>\n</tool_call>"
HERMES_ROME = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome", "days": 2}}\n</tool_call>'
HERMES_BONN = '<tool_call>\n{"name": "weather", "arguments": {"city": "Bonn"}}\n</tool_call>'
ANALYSIS = "<|channel|>analysis<|message|>The user asks.<|end|>"
FINAL = "<|start|>assistant<|channel|>final<|message|>"
TO_ROME = '<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{"city": "Rome", "days": 2}'
WRITTEN = "  if x:\n    print('</tool_call>')\n"

Recording = tuple[Markup, str, str, list[Part]]
"""Markup, end of the prompt, answer, what it means."""

RECORDINGS: dict[str, Recording] = {
    "qwen: reasoning, then an answer": (
        QWEN,
        THOUGHT,
        "The user asks.\n</think>\n\nIt is warm.",
        [thought("The user asks."), said("It is warm.")],
    ),
    "qwen: no reasoning": (QWEN, SILENT, "It is warm.\n", [said("It is warm.\n")]),
    "qwen: reasoning that the model opens": (
        QWEN,
        BARE,
        "<think>\nHm.\n</think>\n\nYes",
        [thought("Hm."), said("Yes")],
    ),
    "qwen: a call": (QWEN, THOUGHT, f"Hm.\n</think>\n\n{QWEN_ROME}", [thought("Hm."), ROME]),
    "qwen: text and two calls": (
        QWEN,
        SILENT,
        f"Let me see:\n\n{QWEN_ROME}\n{QWEN_BONN}",
        [said("Let me see:"), ROME, BONN],
    ),
    "qwen: text after a call": (QWEN, SILENT, f"{QWEN_ROME}\n\nDone.", [ROME, said("Done.")]),
    "qwen: a value with indentation and markup": (
        QWEN,
        SILENT,
        f"<tool_call>\n<function=write>\n<parameter=text>\n{WRITTEN}\n</parameter>\n</function>\n</tool_call>",
        [ToolCall("write", '{"text": "  if x:\\n    print(\'</tool_call>\')\\n"}')],
    ),
    "qwen: cut within reasoning": (QWEN, THOUGHT, "The user as", [thought("The user as")]),
    "qwen: cut within the end of reasoning": (QWEN, THOUGHT, "Hm.\n</thi", [thought("Hm.\n</thi")]),
    "qwen: cut within the beginning of a call": (QWEN, SILENT, "a\n<tool_c", [said("a\n<tool_c")]),
    "qwen: cut within a call": (QWEN, SILENT, f"a\n{QWEN_ROME[:-30]}", [said(f"a\n{QWEN_ROME[:-30]}")]),
    "qwen: a call without its last tag": (QWEN, SILENT, QWEN_ROME.removesuffix("\n</tool_call>"), [ROME]),
    "qwen: a call that is none": (
        QWEN,
        SILENT,
        "<tool_call>\nweather\n</function>\n</tool_call> so",
        [said("<tool_call>\nweather\n</function>\n</tool_call> so")],
    ),
    "qwen: a word about reasoning": (
        QWEN,
        SILENT,
        "Write <think> a </think> b",
        [said("Write <think> a </think> b")],
    ),
    "qwen: nothing": (QWEN, SILENT, "", []),
    "hermes: reasoning and two calls": (
        HERMES,
        BARE,
        f"<think>\nHm.\n</think>\n\n{HERMES_ROME}\n{HERMES_BONN}",
        [thought("Hm."), ROME, BONN],
    ),
    "hermes: text and a call without its end": (
        HERMES,
        BARE,
        f"Let me see.\n{HERMES_ROME.removesuffix('</tool_call>')}",
        [said("Let me see."), ROME],
    ),
    "hermes: broken JSON, then text": (
        HERMES,
        BARE,
        '<tool_call>\n{"name": "weather", "argu\n</tool_call>\nSorry.',
        [said('<tool_call>\n{"name": "weather", "argu\n</tool_call>\nSorry.')],
    ),
    "harmony: analysis and final": (
        HARMONY,
        START,
        f"{ANALYSIS}{FINAL}Warm.",
        [thought("The user asks."), said("Warm.")],
    ),
    "harmony: a call": (
        HARMONY,
        START,
        f"{ANALYSIS}<|start|>assistant{TO_ROME}<|call|>",
        [thought("The user asks."), ROME],
    ),
    "harmony: a call without a channel before it": (
        HARMONY,
        START,
        ' to=functions.weather<|channel|>commentary json<|message|>{"city": "Bonn"}',
        [BONN],
    ),
    "harmony: a preamble and a call": (
        HARMONY,
        START,
        f"<|channel|>commentary<|message|>Let me see.<|end|><|start|>assistant{TO_ROME}",
        [said("Let me see."), ROME],
    ),
    "harmony: a call that is none": (
        HARMONY,
        START,
        '<|channel|>commentary to=functions.weather json<|message|>{"city": ',
        [said('<|channel|>commentary to=functions.weather json<|message|>{"city": ')],
    ),
    "harmony: a tool of its own": (
        HARMONY,
        START,
        f"<|channel|>analysis to=python code<|message|>1 + 1<|end|>{FINAL}2",
        [thought("1 + 1"), said("2")],
    ),
    "harmony: cut within analysis": (
        HARMONY,
        START,
        "<|channel|>analysis<|message|>The user as",
        [thought("The user as")],
    ),
    "harmony: cut within a header": (
        HARMONY,
        START,
        f"{ANALYSIS}<|start|>assistant<|chan",
        [thought("The user asks.")],
    ),
    "harmony: left without a header": (HARMONY, START, "Just text.", [said("Just text.")]),
    "harmony: left at length": (HARMONY, START, "word " * 300, [said("word " * 300)]),
    "plain: markup means nothing": (
        PLAIN,
        BARE,
        f"<think>a</think> {HERMES_BONN}",
        [said(f"<think>a</think> {HERMES_BONN}")],
    ),
    "plain: white space is kept": (PLAIN, BARE, "\n\n a \n b \n", [said("\n\n a \n b \n")]),
}


def parts_of(recording: Recording, pieces: Iterable[str]) -> Iterator[Part]:
    markup, prompt, _, _ = recording
    reply = Reply(markup, prompt, tools=TOOLS)
    for piece in pieces:
        yield from reply.feed(piece)
    yield from reply.finish()


def joined(parts: Iterable[Part]) -> list[Part]:
    """Neighbouring texts of one kind as one."""
    whole: list[Part] = []
    for part in parts:
        last = whole[-1] if whole else None
        if isinstance(part, Text) and isinstance(last, Text) and last.reasoning == part.reasoning:
            whole[-1] = Text(last.text + part.text, part.reasoning)
        else:
            whole.append(part)
    return whole


@pytest.mark.parametrize("name", RECORDINGS)
def test_an_answer_is_told_apart(name: str) -> None:
    *_, answer, expected = RECORDINGS[name]
    assert joined(parts_of(RECORDINGS[name], [answer])) == expected


@pytest.mark.parametrize("name", RECORDINGS)
def test_one_cut_anywhere_changes_nothing(name: str) -> None:
    *_, answer, expected = RECORDINGS[name]
    for at in range(len(answer) + 1):
        assert joined(parts_of(RECORDINGS[name], [answer[:at], answer[at:]])) == expected


@pytest.mark.parametrize("name", RECORDINGS)
def test_neither_does_a_piece_for_each_character(name: str) -> None:
    *_, answer, expected = RECORDINGS[name]
    assert joined(parts_of(RECORDINGS[name], answer)) == expected


@settings(max_examples=300)
@given(st.sampled_from(sorted(RECORDINGS)), st.data())
def test_nor_do_many_cuts(name: str, data: st.DataObject) -> None:
    *_, answer, expected = RECORDINGS[name]
    cuts = sorted(data.draw(st.sets(st.integers(0, len(answer)))) | {0, len(answer)})
    assert joined(parts_of(RECORDINGS[name], [answer[a:b] for a, b in pairwise(cuts)])) == expected


MARKUP = (
    "<think>", "</think>", "<tool_call>", "</tool_call>", "<function=f>", "</function>", "<|channel|>", "<|message|>",
    "<|start|>", "<|end|>", "analysis", "final", " to=functions.f", "assistant", "{}", "a", "\n", " ", "<", "</",
)  # fmt: skip


@settings(max_examples=500)
@given(
    st.sampled_from([QWEN, HERMES, HARMONY, PLAIN]),
    st.sampled_from([THOUGHT, SILENT, BARE, START]),
    st.lists(st.sampled_from(MARKUP), max_size=14),
)
def test_no_answer_at_all_depends_on_its_cuts(markup: Markup, prompt: str, words: list[str]) -> None:
    recording: Recording = (markup, prompt, "".join(words), [])
    whole = joined(parts_of(recording, ["".join(words)]))
    assert joined(parts_of(recording, words)) == whole
    assert joined(parts_of(recording, "".join(words))) == whole


@given(st.sampled_from([THOUGHT, SILENT, BARE]), st.lists(st.sampled_from(MARKUP), max_size=14))
def test_no_word_is_lost_but_tags_and_the_space_around_them(prompt: str, words: list[str]) -> None:
    parts = Reply(QWEN, prompt)  # without tools, nothing becomes a call
    text = "".join(part.text for part in [*parts.feed("".join(words)), *parts.finish()] if isinstance(part, Text))
    for tag in ("<think>", "</think>"):
        text = text.replace(tag, "")
    kept = "".join(words).replace("<think>", "").replace("</think>", "")
    assert "".join(text.split()) == "".join(kept.split())


def test_what_may_become_markup_is_not_shown_before_that_is_known() -> None:
    reply = Reply(QWEN, SILENT, tools=TOOLS)
    assert reply.feed("Look: <tool") == [said("Look:")]
    assert reply.feed("_box>") == [said(" <tool_box>")]
    assert reply.feed("\n<tool_call>\n<function=weather>") == []
    assert reply.feed("\n</function>\n</tool_call>") == [ToolCall("weather", "{}")]


def test_a_call_is_told_as_soon_as_it_is_whole() -> None:
    reply = Reply(HERMES, BARE, tools=TOOLS)
    assert reply.feed(HERMES_BONN) == [BONN]


@pytest.mark.parametrize(
    ("markup", "prompt", "pieces", "reasoning"),
    [
        (QWEN, THOUGHT, ["Hm.", "</think>", "Yes"], [True, True, False, False]),
        (QWEN, BARE, ["<think>", "Hm.", "</think>"], [False, True, True, False]),
        (HARMONY, START, ["<|channel|>analysis", "<|message|>", "Hm.", "<|end|>"], [False, False, True, True, False]),
    ],
)
def test_a_reply_knows_whether_it_is_reasoning(
    markup: Markup, prompt: str, pieces: list[str], reasoning: list[bool]
) -> None:
    reply = Reply(markup, prompt)
    states = [reply.reasoning]
    for piece in pieces:
        reply.feed(piece)
        states.append(reply.reasoning)
    assert states == reasoning


def test_without_tools_the_markup_of_a_call_is_text() -> None:
    for markup, prompt, answer in ((QWEN, SILENT, QWEN_ROME), (HERMES, BARE, HERMES_ROME)):
        reply = Reply(markup, prompt)
        assert joined([*reply.feed(answer), *reply.finish()]) == [said(answer)]
