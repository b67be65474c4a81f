"""The gateway whose chatterbox classes are small: `python -m bench.small_gateway serve ...`, as of `-m llmux`."""

import os
import runpy

from llmux.litellm_settings import ENVIRONMENT

os.environ.update(ENVIRONMENT)  # before anything imports torch

from bench import random_chatterbox

if __name__ == "__main__":
    with random_chatterbox.small():
        runpy.run_module("llmux", run_name="__main__")
