"""How LiteLLM takes a chunk of ours: as it is.

For each chunk of a stream it makes a response of its own first, and throws that away where the provider's is whole
already, as ours are. That was a fifth of what a token costs the event loop (docs/measurements.md).
"""

from typing import Any

from litellm.litellm_core_utils.streaming_handler import CustomStreamWrapper
from litellm.types.utils import ModelResponseStream

from llmux.config import PROVIDER


def install() -> None:
    """Put the shorter way in place. Call once a process."""
    of_litellm = CustomStreamWrapper.chunk_creator

    def chunk_creator(self: CustomStreamWrapper, chunk: Any) -> Any:
        if self.custom_llm_provider != PROVIDER or not isinstance(chunk, ModelResponseStream):
            return of_litellm(self, chunk)
        self.response_id, self.created = chunk.id, chunk.created  # for the last one, which LiteLLM makes
        result = self._dispatch_provider_chunk(chunk=chunk, model_response=chunk, completion_obj={})
        return result.value

    CustomStreamWrapper.chunk_creator = chunk_creator
