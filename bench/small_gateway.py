"""The gateway whose chatterbox classes are small: `python -m bench.small_gateway serve ...`, as of `-m llmux`."""

import os

from llmux.litellm_settings import ENVIRONMENT

os.environ.update(ENVIRONMENT)  # before anything imports LiteLLM

from bench import random_chatterbox
from llmux.cli import main

if __name__ == "__main__":
    with random_chatterbox.small():
        main()
