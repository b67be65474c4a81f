"""Images for Qwen3.5 through transformers: pixels to patches, to what stands for tokens, and where each of them stands.

The parts of Qwen3VLProcessor and Qwen3_5ForConditionalGeneration that deal with images, called one by one: so images
are computed one at a time, a long prompt is computed in steps, and no position is kept on the model from one request to
the next, as its own forward does. Pillow resizes, as Qwen's original processor did, so torchvision is not needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoImageProcessor

from llmux.errors import InvalidRequest
from providers.runtime import Image

_MOST_TOKENS = 4096
"""Of one image, which is made smaller to keep to it: llama.cpp's bound for the same models. Without one, a photograph
of 16 million pixels would take half of the context, and gigabytes while it is looked at.
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """A prompt with its images in place.

    tokens: an image token is repeated for each place that its image takes
    places: of each image, the first that it takes and the first after it
    pixels, grids: of each image, as the vision tower takes them: shape (patches, values), and its rows and columns
    positions: shape (3, 1, tokens): time, row and column
    shift: what is added to the number of a token that follows to make its position
    """

    tokens: list[int]
    places: Sequence[tuple[int, int]]
    pixels: Sequence[torch.Tensor]
    grids: Sequence[torch.Tensor]
    positions: torch.Tensor
    shift: int


class Vision:
    """The eyes of a loaded model."""

    def __init__(self, folder: Path, model: Any, device: str) -> None:
        self._model = model
        self._device = device
        self._processor = AutoImageProcessor.from_pretrained(folder, backend="pil", local_files_only=True)
        self._merged = self._processor.merge_size**2
        side = self._processor.patch_size * self._processor.merge_size
        most = min(self._processor.size["longest_edge"], _MOST_TOKENS * side * side)
        self._size = {"shortest_edge": self._processor.size["shortest_edge"], "longest_edge": most}
        self.token: int = model.config.image_token_id

    def see(self, tokens: Sequence[int], images: Sequence[Image]) -> Seen:
        """Give each image its room in the prompt. Raises InvalidRequest where they are not named one for one."""
        if list(tokens).count(self.token) != len(images):
            raise InvalidRequest("the model's chat template does not name each image once", param="messages")
        pixels, grids = zip(*(self._patches(image) for image in images), strict=True)
        rooms = iter([int(grid.prod()) // self._merged for grid in grids])
        expanded: list[int] = []
        places = []
        for token in tokens:
            room = next(rooms) if token == self.token else 1
            if token == self.token:
                places.append((len(expanded), len(expanded) + room))
            expanded += [token] * room
        ids = torch.tensor([expanded])
        positions, shift = self._model.model.get_rope_index(
            ids, (ids == self.token).int(), image_grid_thw=torch.stack(grids)
        )
        return Seen(expanded, places, pixels, grids, positions.to(self._device), int(shift))

    def _patches(self, image: Image) -> tuple[torch.Tensor, torch.Tensor]:
        try:
            patches = self._processor([image], size=self._size, input_data_format="channels_last", return_tensors="pt")
        except ValueError:  # 200 times as wide as high, or the other way round
            raise InvalidRequest("an image is too narrow for this model", param="messages") from None
        return patches["pixel_values"], patches["image_grid_thw"][0]

    @torch.inference_mode()
    def look(self, seen: Seen, number: int) -> torch.Tensor:
        """What stands in the places of one of the images, shape (places, width)."""
        pixels, grid = seen.pixels[number].to(self._device), seen.grids[number][None].to(self._device)
        looked: torch.Tensor = self._model.get_image_features(pixels, grid).pooler_output[0]
        return looked
