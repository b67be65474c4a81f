"""`python -m bench NAME [options]`: one question, asked of this machine."""

import importlib
import sys

QUESTIONS = {
    "vram-sim": "Does the scheduler keep its rules, and what does it cost beside others'?",
    "transcription": "How well and how fast is speech written down, in how much memory?",
    "gpu-vram": "Do predictions hold on a real GPU, and does memory never run out? Needs CUDA.",
}


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in QUESTIONS:
        print("python -m bench NAME [options]")
        for name, question in QUESTIONS.items():
            print(f"  {name:12} {question}")
        return 2
    name, *options = arguments
    status: int = importlib.import_module(f"bench.{name.replace('-', '_')}").main(options)
    return status


sys.exit(main(sys.argv[1:]))
