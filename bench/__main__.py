"""`python -m bench NAME [options]`: one question, asked of this machine."""

import importlib
import sys

QUESTIONS = {
    "chat-one": "What does the gateway cost one stream of chat, beside its runtime alone?",
    "vram-sim": "Does the scheduler keep its rules, and what does it cost beside others'?",
    "speech": "What does the gateway cost a voice, how early is it heard, and is it understood?",
    "gpu-speech": "How fast is chatterbox on a real GPU, and what does it leave behind? Needs CUDA.",
    "transcription": "How well and how fast is speech written down, in how much memory?",
    "keys": "What do keys in a database cost beside keys in a file?",
    "keys-durability": "What is left of keys, budgets and spend when something is killed in the middle of requests?",
    "gpu-vram": "Do predictions hold on a real GPU, and does memory never run out? Needs CUDA.",
}


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in QUESTIONS:
        print("python -m bench NAME [options]")
        for name, question in QUESTIONS.items():
            print(f"  {name:16} {question}")
        return 2
    name, *options = arguments
    status: int = importlib.import_module(f"bench.{name.replace('-', '_')}").main(options)
    return status


sys.exit(main(sys.argv[1:]))
