"""`python -m llmux`: see cli.py."""

from llmux.cli import main

main()
