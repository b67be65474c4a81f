"""Whether a running gateway does what it should, as its clients see it: `python -m llmux acceptance`.

It knows the gateway by its address and its configuration alone, and nothing of how it decides: what should happen is
said here once more, so that a fault in llmux is not a fault in what llmux is held to.
"""
