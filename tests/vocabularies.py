"""A vocabulary to hold grammars against: every byte is a token, and so is the markup of every family."""

from providers.constraint import Vocabulary

CONTROL = ("<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|constrain|>", "<|im_end|>", "<|call|>")
WORDS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "\n\n", '{"')
TOKENS = [bytes([byte]) for byte in range(256)] + [text.encode() for text in (*WORDS, *CONTROL)]
ENDS = [TOKENS.index(b"<|im_end|>"), TOKENS.index(b"<|call|>")]


def tokens_of(text: str) -> list[int]:
    """As a tokenizer would: the longest there is. Control tokens by their names."""
    data, tokens = text.encode(), []
    while data:
        longest = max((token for token in TOKENS if data.startswith(token)), key=len)
        tokens.append(TOKENS.index(longest))
        data = data[len(longest) :]
    return tokens


def vocabulary() -> Vocabulary:
    control = [TOKENS.index(text.encode()) for text in CONTROL]
    return Vocabulary(TOKENS, control=control, ends=ENDS, tokenize=tokens_of)
