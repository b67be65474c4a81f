"""Several sequences at once on a model of transformers: the engine of `providers.engine` for safetensors.

A step computes the next token of all answers in one pass, and then the parts of prompts that are due, each in a pass of
its own: no prompt is padded to another's length, and states (Qwen3.5's) need no special case.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from providers.context import Request, answer_tokens
from providers.fault import fault_of
from providers.kept_blocks import NOTHING, Border, KeptBlocks
from providers.prefix import WORTH, borders, common, image_item
from providers.runtime import FinishReason, Image, Piece, Sampling, TokenLogprob
from providers.sampler import check_bias, filled, reads_words
from providers.slots import Slots
from providers.torch_sampler import TorchSampler
from providers.torch_vocabulary import TorchVocabulary

if TYPE_CHECKING:
    from providers.vision import Seen, Vision

_logger = logging.getLogger(__name__)

STEP_TOKENS = 256
"""Of prompts in one step."""

_SCORES = 2**25
"""Attention scores that one pass may compute at once, where a model writes all of them down (gpt-oss, because of its
sinks): in bfloat16, with the copies that it makes, a third of a GB.
"""


class TorchSequence:
    """One answer, from its prompt's first token on.

    tokens: prompt and answer; items: what stands in each place of them, as `providers.prefix` says it
    most: tokens that the answer may have
    computed: how many tokens its row holds; cached: how many of these were not computed for it
    leader: whoever computes a prompt just now that begins alike
    """

    def __init__(
        self, tokens: list[int], items: list[int], most: int, row: int, sampler: TorchSampler, writer: Any
    ) -> None:
        self.tokens = tokens
        self.items = items
        self.prompt_tokens = len(tokens)
        self.most = most
        self.row = row
        self.sampler = sampler
        self.writer = writer
        self.seen: Seen | None = None
        self.looked: dict[int, torch.Tensor] = {}
        self.borders: list[int] = []
        self.reuses = True
        self.leader: TorchSequence | None = None
        self.computed = self.cached = 0
        self.finished: FinishReason | None = None
        self.held = 0
        self.held_logprobs: list[TokenLogprob] = []

    @property
    def left(self) -> int | None:
        return None if self.leader else max(0, self.prompt_tokens - self.computed)


class TorchEngine:
    """model: loaded on `device`, in eval mode
    vision: its eyes; defaults: what it wants where a request says nothing
    context: longest prompt and answer together, in tokens; rows: sequences at one time
    kept_bytes: of RAM for beginnings of prompts

    Raises providers.slots.UnknownLayer.
    """

    step_tokens = STEP_TOKENS

    def __init__(
        self,
        model: Any,
        vocabulary: TorchVocabulary,
        vision: "Vision | None",
        defaults: Sampling,
        *,
        device: str,
        context: int,
        rows: int,
        kept_bytes: int,
    ) -> None:
        self._model = model
        self._config = model.config.get_text_config()
        self._vocabulary = vocabulary
        self._vision = vision
        self._defaults = defaults
        self._device = device
        self._context = context
        self._slots = Slots(model.config, rows=rows, context=context, device=device)
        self._kept_blocks = KeptBlocks(kept_bytes)
        self._rows: list[TorchSequence | None] = [None] * rows

    def preparation(self, request: Request) -> Callable[[], object] | None:
        return (lambda: self._vocabulary.words) if reads_words(request.sampling) else None

    def add(self, request: Request) -> TorchSequence:
        sampling = filled(request.sampling, self._defaults)
        check_bias(sampling, self._vocabulary.size)
        tokens = self._vocabulary.tokenize(request.prompt)
        seen = self._vision.see(tokens, request.images) if self._vision is not None and request.images else None
        if seen is not None:
            tokens = seen.tokens
        most = answer_tokens(len(tokens), self._context, sampling.max_tokens)
        sampler = TorchSampler(
            sampling,
            tokens,
            vocabulary=self._vocabulary.size,
            device=self._device,
            words=self._vocabulary.words if reads_words(sampling) else None,
        )
        sequence = TorchSequence(
            tokens,
            _items(tokens, seen, request.images),
            most,
            self._rows.index(None),
            sampler,
            self._vocabulary.writer(),
        )
        sequence.seen = seen
        sequence.reuses = sampling.seed is None  # what others left behind is the same up to rounding, and no more
        sequence.leader = self._leader(sequence.items) if sequence.reuses else None
        if sequence.leader is None:
            self._begin(sequence)
        self._rows[sequence.row] = sequence
        return sequence

    @torch.inference_mode()
    def step(self, shares: Sequence[tuple[TorchSequence, int]]) -> Mapping[TorchSequence, Piece | Exception]:
        written: dict[TorchSequence, Piece | Exception | None] = {}
        writing = self._first_rows([sequence for sequence, _ in shares if sequence.left == 0])
        prompts = [(sequence, tokens) for sequence, tokens in shares if sequence.left]
        if writing:
            logits = self._continue(writing)
            for sequence, row in zip(writing, logits, strict=True):
                written[sequence] = self._write(sequence, row)
        for group in self._groups(prompts):
            for sequence, computed in self._computed(group).items():
                if isinstance(computed, Exception):
                    written[sequence] = computed
                elif computed is not None:
                    self._keep(sequence)
                    self._let_go(sequence)
                    written[sequence] = self._write(sequence, computed)
        return {sequence: result for sequence, result in written.items() if result is not None}

    @torch.inference_mode()
    def remove(self, sequence: TorchSequence) -> None:
        try:
            if sequence.left == 0 and not self._slots.stateful:
                self._keep(sequence)
            elif sequence.finished == "stop":
                self._keep(sequence)
                self._keep_border(sequence)
        except Exception:
            _logger.debug("what a sequence held is not kept", exc_info=True)
        self._rows[sequence.row] = None
        self._let_go(sequence)
        if not any(self._rows):
            self._slots.free()

    def close(self) -> None:
        self._slots.free()
        self._kept_blocks.clear()

    # Prompts

    def _leader(self, items: Sequence[int]) -> TorchSequence | None:
        """Whoever is worth waiting for: most of the prompt that it computes is the beginning of this one."""
        for other in self._rows:
            if other is not None and other.leader is None and other.left:
                alike = common(items, other.items)
                if alike >= WORTH and 2 * alike >= other.prompt_tokens:
                    return other
        return None

    def _let_go(self, leader: TorchSequence) -> None:
        for other in self._rows:
            if other is not None and other.leader is leader:
                other.leader = None
                self._begin(other)

    @torch.inference_mode()
    def _begin(self, sequence: TorchSequence) -> None:
        """Take over what is known of a prompt."""
        if not self._kept_blocks.keeps:
            return
        items, row, slots = sequence.items, sequence.row, self._slots
        at_borders = None
        if slots.stateful:
            at_borders = [place for place, item in enumerate(items) if item in self._vocabulary.control]
            sequence.borders = borders(items, self._vocabulary.control)
        found = self._kept_blocks.find(items, at_borders) if sequence.reuses else NOTHING
        if found is not NOTHING:
            for number, block in enumerate(found.blocks):
                start = number * KeptBlocks.BLOCK
                slots.put_tokens(row, start, start + KeptBlocks.BLOCK, block)
            if found.border is not None:
                slots.put_tokens(row, len(found.blocks) * KeptBlocks.BLOCK, found.length, found.border.tail)
                slots.put_state(row, found.border.state)
        sequence.computed = sequence.cached = found.length

    def _groups(self, prompts: Sequence[tuple[TorchSequence, int]]) -> Iterator[Sequence[tuple[TorchSequence, int]]]:
        """Prompts that are computed in one pass: of about the same length, as the shorter ones are filled up."""
        if self._slots.stateful:
            yield from ([prompt] for prompt in prompts)
            return
        due = [(sequence, min(tokens, sequence.left or 0)) for sequence, tokens in prompts]
        group: list[tuple[TorchSequence, int]] = []
        for prompt in sorted(due, key=lambda each: -each[1]):
            longest = group[0][1] if group else prompt[1]
            if group and (2 * prompt[1] < longest or longest * (len(group) + 1) > self._pass_tokens(0)):
                yield group
                group = []
            group.append(prompt)
        if group:
            yield group

    def _computed(
        self, group: Sequence[tuple[TorchSequence, int]]
    ) -> Mapping[TorchSequence, torch.Tensor | Exception | None]:
        """Of each prompt the logits of its last token, once it is done, or what went wrong with it."""
        if len(group) > 1:
            return self._compute_prompts(group)
        ((sequence, tokens),) = group
        try:
            return {sequence: self._compute_prompt(sequence, tokens)}
        except Exception as error:
            if fault_of(error) is not None:
                raise
            return {sequence: error}

    def _compute_prompts(
        self, group: Sequence[tuple[TorchSequence, int]]
    ) -> Mapping[TorchSequence, torch.Tensor | None]:
        sequences, counts = zip(*group, strict=True)
        starts = [sequence.computed for sequence in sequences]
        self._slots.ragged([sequence.row for sequence in sequences], starts, max(counts))
        ids = torch.tensor(
            [
                sequence.tokens[start : start + count] + [0] * (max(counts) - count)
                for sequence, start, count in zip(sequences, starts, counts, strict=True)
            ],
            device=self._device,
        )
        places = torch.tensor(starts, device=self._device)[:, None] + torch.arange(max(counts), device=self._device)
        lasts = sorted(set(counts))
        kept = torch.tensor(lasts, device=self._device) - 1
        logits = self._pass({"input_ids": ids}, self._positions(places), kept)
        for sequence, count in group:
            sequence.computed += count
        return {
            sequence: None if sequence.left else logits[row, lasts.index(count)]
            for row, (sequence, count) in enumerate(group)
        }

    def _compute_prompt(self, sequence: TorchSequence, tokens: int) -> torch.Tensor | None:
        """Compute so many tokens more. The logits of the prompt's last one, shape (vocabulary,), once it is done."""
        logits = None
        until = min(sequence.computed + tokens, sequence.prompt_tokens)
        while sequence.computed < until:
            start = sequence.computed
            ends = [until, start + self._pass_tokens(start), *(end for end in sequence.borders if end > start)]
            end = min(ends)
            unseen = [] if sequence.seen is None else self._unseen(sequence, start, end)
            if unseen:
                assert self._vision is not None
                assert sequence.seen is not None
                sequence.looked[unseen[0]] = self._vision.look(sequence.seen, unseen[0])
                if len(unseen) > 1:  # one at a time: who waits for it may leave, and others go on
                    return None
            self._slots.one(sequence.row, start)
            logits = self._pass(self._prompt_input(sequence, start, end), self._prompt_positions(sequence, start, end))
            sequence.computed = end
            if end in sequence.borders:
                self._keep(sequence)
                self._keep_border(sequence)
        return None if logits is None or sequence.left else logits[0, -1]

    def _unseen(self, sequence: TorchSequence, start: int, end: int) -> list[int]:
        assert sequence.seen is not None
        within = [number for number, (first, past) in enumerate(sequence.seen.places) if first < end and past > start]
        sequence.looked = {number: sequence.looked[number] for number in within if number in sequence.looked}
        return [number for number in within if number not in sequence.looked]

    def _prompt_input(self, sequence: TorchSequence, start: int, end: int) -> Mapping[str, torch.Tensor]:
        ids = torch.tensor([sequence.tokens[start:end]], device=self._device)
        if not sequence.looked:
            return {"input_ids": ids}
        assert sequence.seen is not None
        embeddings = self._model.get_input_embeddings()(ids)
        for number, features in sequence.looked.items():
            first, past = sequence.seen.places[number]
            low, high = max(first, start), min(past, end)
            embeddings[0, low - start : high - start] = features[low - first : high - first].to(embeddings.dtype)
        return {"inputs_embeds": embeddings}

    def _prompt_positions(self, sequence: TorchSequence, start: int, end: int) -> torch.Tensor:
        if sequence.seen is not None:
            return sequence.seen.positions[..., start:end]
        return self._positions(torch.arange(start, end, device=self._device)[None])

    def _pass_tokens(self, position: int) -> int:
        """How many tokens of a prompt are computed in one pass, after `position` others."""
        if self._config._attn_implementation != "eager":
            return STEP_TOKENS
        heads: int = self._config.num_attention_heads
        return max(1, min(STEP_TOKENS, _SCORES // (heads * (position + STEP_TOKENS))))

    # Answers

    def _continue(self, writing: Sequence[TorchSequence]) -> torch.Tensor:
        """One token more of each, in the order of their rows. What may follow it, shape (sequences, vocabulary)."""
        places = [sequence.computed for sequence in writing]
        if len(writing) == 1:
            self._slots.one(writing[0].row, places[0])
        else:
            self._slots.many(places)
        shifts = [0 if each.seen is None else each.seen.shift for each in writing]
        ids = torch.tensor([[sequence.tokens[-1]] for sequence in writing], device=self._device)
        at = torch.tensor([[place + shift] for place, shift in zip(places, shifts, strict=True)], device=self._device)
        logits = self._pass({"input_ids": ids}, self._positions(at))
        for sequence in writing:
            sequence.computed += 1
        return logits[:, -1]

    def _first_rows(self, writing: Sequence[TorchSequence]) -> Sequence[TorchSequence]:
        """Give these the first rows, one after the other, where there are several. In the order of their rows."""
        if len(writing) <= 1:
            return writing
        late = [sequence for sequence in writing if sequence.row >= len(writing)]
        for row in range(len(writing)):
            other = self._rows[row]
            if other not in writing:
                sequence = late.pop()
                if other is None:
                    self._slots.move(sequence.row, row)
                else:
                    self._slots.exchange(sequence.row, row)
                    other.row = sequence.row
                self._rows[sequence.row], self._rows[row] = other, sequence
                sequence.row = row
        return sorted(writing, key=lambda sequence: sequence.row)

    def _write(self, sequence: TorchSequence, logits: torch.Tensor) -> Piece | Exception | None:
        try:
            token = sequence.sampler.pick(logits)
            if sequence.sampler.logprob is not None:
                sequence.held_logprobs.append(sequence.sampler.logprob)
            sequence.tokens.append(token)
            sequence.items.append(token)
            sequence.held += 1
            if token in self._vocabulary.ends:
                return self._piece(sequence, "", "stop")
            text = sequence.writer.text(token)
            if len(sequence.tokens) - sequence.prompt_tokens == sequence.most:
                return self._piece(sequence, text, "length")
            return self._piece(sequence, text) if text else None
        except Exception as error:
            if fault_of(error) is not None:
                raise
            return error

    def _piece(self, sequence: TorchSequence, text: str, finished: FinishReason | None = None) -> Piece:
        sequence.finished = finished
        held, sequence.held = sequence.held, 0
        logprobs, sequence.held_logprobs = tuple(sequence.held_logprobs), []
        return Piece(text, held, sequence.prompt_tokens, finished, logprobs, sequence.cached)

    # The model

    def _pass(
        self, tokens: Mapping[str, torch.Tensor], positions: torch.Tensor, kept: torch.Tensor | int = 1
    ) -> torch.Tensor:
        """Compute tokens of the rows that the slots were told of. Logits, shape (rows, kept, vocabulary): of so many
        tokens at the end, or of those at these places.
        """
        logits: torch.Tensor = self._model(
            **tokens,
            position_ids=positions,
            attention_mask=self._slots.mask(self._model.dtype),
            past_key_values=self._slots.cache,
            use_cache=True,
            logits_to_keep=kept,
        ).logits
        return logits

    def _positions(self, places: torch.Tensor) -> torch.Tensor:
        """Of text; for a model with eyes the same in time, row and column."""
        return places if self._vision is None else places.expand(3, *places.shape)

    # What is kept

    def _keep(self, sequence: TorchSequence) -> None:
        if not self._kept_blocks.keeps:
            return
        row, slots = sequence.row, self._slots
        self._kept_blocks.keep(sequence.items[: sequence.computed], lambda start, end: slots.tokens(row, start, end))

    def _keep_border(self, sequence: TorchSequence) -> None:
        """The state after what is computed of a sequence."""
        if not self._kept_blocks.keeps:
            return
        computed, row = sequence.computed, sequence.row
        tail = self._slots.tokens(row, computed - computed % KeptBlocks.BLOCK, computed)
        self._kept_blocks.keep_border(sequence.items[:computed], Border(tail, self._slots.state(row)))


def _items(tokens: Sequence[int], seen: "Seen | None", images: Sequence[Image]) -> list[int]:
    items = list(tokens)
    if seen is not None:
        for (first, past), image in zip(seen.places, images, strict=True):
            items[first:past] = [image_item(image)] * (past - first)
    return items
