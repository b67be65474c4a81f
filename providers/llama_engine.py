"""Steps of llama.cpp: tokens of many sequences in one batch, and what each of them wrote."""

import codecs
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import llama_cpp.llama_cpp as llama

from llmux.errors import InvalidRequest, LlmuxError
from providers import llama_log
from providers.context import Request, answer_tokens
from providers.llama_memory import Held, LlamaMemory
from providers.llama_sampler import LlamaSampler
from providers.llama_vocabulary import LlamaVocabulary
from providers.prefix import WORTH, borders, common, image_item
from providers.projector import Picture, Projector
from providers.runtime import Piece, Sampling
from providers.sampler import check_bias, filled, reads_words

_logger = logging.getLogger(__name__)

BATCH = 256
"""Tokens computed in one step: a prompt is cancelled between two of them, and more gain little speed."""

_NO_ROOM = 1
"""What llama_decode returns where no cells are free; nothing was computed then."""


class LlamaSequence:
    """One answer, from its prompt's first token on.

    items: its prompt, as `providers.prefix` writes it; pictures: those of its items that are images
    borders: items after which the state of recurrent layers is kept
    left: as an engine's sequence has it
    """

    def __init__(self, items: Sequence[int], pictures: Mapping[int, Picture], closing: ExitStack) -> None:
        self.items = list(items)
        self.pictures = pictures
        self.closing = closing
        self.borders: Collection[int] = ()
        self.prompt_tokens = self.tokens(0)
        self.left: int | None = None
        self.held: Held | None = None
        self.sampler: LlamaSampler
        self.most = 0
        self.reuse = True
        self.next_token = 0
        self.cached_tokens = 0
        self.characters = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.unsaid: Piece | None = None

    def tokens(self, start: int) -> int:
        """How many tokens the prompt has from this item on."""
        return sum(1 if item >= 0 else self.pictures[item].tokens for item in self.items[start:])


class LlamaEngine:
    """An Engine (`providers.engine`).

    context: a llama_context of BATCH tokens a step; tokens: longest prompt and answer together
    memory: what it remembers; slots: sequences that are computed at one time
    marker: the token that stands for an image in a prompt, where there is a projector
    defaults: what the model wants where a request says nothing
    recurrent: whether it has layers whose state cannot be cut back
    """

    def __init__(
        self,
        context: Any,
        memory: LlamaMemory,
        vocabulary: LlamaVocabulary,
        projector: Projector | None,
        *,
        marker: int | None,
        defaults: Sampling,
        tokens: int,
        slots: int,
        recurrent: bool,
    ) -> None:
        self.step_tokens = BATCH - slots
        self._context = context
        self._memory = memory
        self._vocabulary = vocabulary
        self._projector = projector
        self._marker = marker
        self._defaults = defaults
        self._tokens = tokens
        self._recurrent = recurrent
        self._sequences: list[LlamaSequence] = []
        self._batch = llama.llama_batch_init(BATCH, 0, 1)

    def close(self) -> None:
        llama.llama_batch_free(self._batch)

    def preparation(self, request: Request) -> Callable[[], object] | None:
        return (lambda: self._vocabulary.words) if reads_words(request.sampling) else None

    def add(self, request: Request) -> LlamaSequence:
        sampling = filled(request.sampling, self._defaults)
        check_bias(sampling, self._vocabulary.size)
        with ExitStack() as closing:
            sequence = self._read(request, closing)
            sequence.most = answer_tokens(sequence.prompt_tokens, self._tokens, sampling.max_tokens)
            if sequence.items[-1] < 0:
                raise InvalidRequest("the prompt ends with an image", param="messages")
            sequence.reuse = sampling.seed is None
            if self._recurrent:
                sequence.borders = borders(sequence.items, self._vocabulary.steering)
            sequence.sampler = LlamaSampler(
                sampling,
                [item for item in sequence.items if item >= 0],
                vocabulary=self._vocabulary.size,
                context=self._tokens,
                words=self._vocabulary.words if reads_words(sampling) else None,
            )
            closing.callback(sequence.sampler.close)
            self._begin(sequence)
            sequence.closing = closing.pop_all()
        self._sequences.append(sequence)
        return sequence

    def remove(self, sequence: LlamaSequence) -> None:
        self._sequences.remove(sequence)
        sequence.closing.close()
        if sequence.held is not None:
            self._memory.release(sequence.held)
        self._begin_those_that_wait()

    def step(self, shares: Sequence[tuple[LlamaSequence, int]]) -> Mapping[LlamaSequence, Piece | Exception]:
        try:
            return self._step(shares)
        except BaseException:
            self._memory.clear()
            raise

    def _step(self, shares: Sequence[tuple[LlamaSequence, int]]) -> Mapping[LlamaSequence, Piece | Exception]:
        rows: dict[LlamaSequence, int] = {}
        self._batch.n_tokens = 0
        looking = []
        for sequence, tokens in shares:
            held = sequence.held
            assert held is not None
            if not sequence.left:
                rows[sequence] = self._put(held, sequence.next_token, wanted=True)
                continue
            start = len(held.items)
            if sequence.items[start] < 0:
                looking.append(sequence)
                continue
            end = self._end_of_text(sequence, start, tokens)
            for index in range(start, end):
                last = index == len(sequence.items) - 1
                row = self._put(held, sequence.items[index], wanted=last)
                if last:
                    rows[sequence] = row
            sequence.left -= end - start
        if self._batch.n_tokens:
            self._decode()
        written = {sequence: self._write(sequence, row) for sequence, row in rows.items()}
        for sequence in looking:  # which leaves nothing of what the batch computed to be read
            self._look(sequence)
        for sequence, _ in shares:
            if sequence.held is not None and len(sequence.held.items) in sequence.borders:
                self._memory.keep_state(sequence.held)
        self._begin_those_that_wait()
        return {sequence: piece for sequence, piece in written.items() if piece is not None}

    def _begin_those_that_wait(self) -> None:
        for sequence in self._sequences:
            if sequence.held is None:
                self._begin(sequence)

    def _begin(self, sequence: LlamaSequence) -> None:
        """Unless another one is just computing what this one begins with, too.

        What another prompt computed, and in which cells, is the same up to rounding; a seed is there to rule that out.
        """
        if sequence.reuse and self._worth_waiting(sequence):
            return
        if not sequence.reuse and not any(self._memory.running()):
            self._memory.vacate()
        held = sequence.held = self._memory.take(sequence.items, reuse=sequence.reuse)
        sequence.left = sequence.tokens(len(held.items))
        sequence.cached_tokens = sequence.prompt_tokens - sequence.left

    def _worth_waiting(self, sequence: LlamaSequence) -> bool:
        known = -1
        for other in self._sequences:
            if other is sequence:
                break  # only for those that came before
            if other.left == 0:
                continue
            shared = min(common(other.items, sequence.items), len(sequence.items) - 1)
            if self._recurrent:
                shared = max((border for border in other.borders if border <= shared), default=0)
            done = 0 if other.held is None else len(other.held.items)
            if shared >= done + WORTH:
                known = self._memory.reusable(sequence.items) if known < 0 else known
                if shared >= known + WORTH:
                    return True
        return False

    def _end_of_text(self, sequence: LlamaSequence, start: int, tokens: int) -> int:
        """Where the run of tokens ends that is computed from `start` on: before an image, or at a border."""
        end = min(start + tokens, len(sequence.items))
        end = min([border for border in sequence.borders if border > start] + [end])
        return next((index for index in range(start, end) if sequence.items[index] < 0), end)

    def _put(self, held: Held, token: int, *, wanted: bool) -> int:
        """The token's place in the batch. wanted: whether what follows it will be asked for"""
        batch, row = self._batch, int(self._batch.n_tokens)
        batch.token[row] = token
        batch.pos[row] = held.end
        batch.n_seq_id[row] = 1
        batch.seq_id[row][0] = held.number
        batch.logits[row] = wanted
        batch.n_tokens = row + 1
        held.add(token)
        return row

    def _decode(self) -> None:
        status = _NO_ROOM
        while status == _NO_ROOM:
            status = llama.llama_decode(self._context, self._batch)
            if status == _NO_ROOM and not self._memory.make_room():
                break
        if status != 0:
            _logger.error("llama_decode returned %d", status)
            raise LlmuxError("the model failed while it computed this answer") from llama_log.shortage()

    def _look(self, sequence: LlamaSequence) -> None:
        """Compute the image that comes next, and no other sequence meanwhile."""
        held, projector = sequence.held, self._projector
        assert held is not None
        assert projector is not None
        assert sequence.left is not None
        item = sequence.items[len(held.items)]
        picture = sequence.pictures[item]
        while self._memory.make_room(picture.tokens):
            pass
        end = projector.compute(picture, self._context, position=held.end, sequence=held.number, batch=BATCH)
        held.add(item, positions=end - held.end, cells=picture.tokens)
        sequence.left -= picture.tokens

    def _write(self, sequence: LlamaSequence, row: int) -> Piece | Exception | None:
        """What the sequence says next; None: nothing that is a whole character yet."""
        try:
            token = sequence.sampler.pick(self._context, row)
            logprobs = () if sequence.sampler.logprob is None else (sequence.sampler.logprob,)
        except LlmuxError as error:
            return error
        sequence.next_token = token
        sequence.most -= 1
        ended = self._vocabulary.ends(token)
        text = "" if ended else sequence.characters.decode(self._vocabulary.bytes_of(token))
        piece = Piece(text, 1, sequence.prompt_tokens, None, logprobs, sequence.cached_tokens)
        if sequence.unsaid is not None:
            piece = replace(piece, tokens=sequence.unsaid.tokens + 1, logprobs=(*sequence.unsaid.logprobs, *logprobs))
        if ended or sequence.most <= 0:
            return replace(piece, finish_reason="stop" if ended else "length")
        sequence.unsaid = None if text else piece
        return piece if text else None

    def _read(self, request: Request, closing: ExitStack) -> LlamaSequence:
        """closing: of what was opened for the images"""
        tokens = self._vocabulary.tokenize(request.prompt)
        if self._projector is None or not request.images:
            return LlamaSequence(tokens, {}, closing)
        if self._marker is None or tokens.count(self._marker) != len(request.images):
            raise InvalidRequest("the model's chat template does not name each image once", param="messages")
        items: list[int] = []
        pictures: dict[int, Picture] = {}
        for image in request.images:
            end = tokens.index(self._marker)
            before, tokens = tokens[:end], tokens[end + 1 :]
            item = image_item(image)
            if item not in pictures:
                pictures[item] = closing.enter_context(self._projector.picture(image))
            picture = pictures[item]
            # What a model wants around an image, some templates write, and others leave to the library.
            if before[-len(picture.before) :] != picture.before:
                before += picture.before
            if tokens[: len(picture.after)] != picture.after:
                tokens = picture.after + tokens
            items += [*before, item]
        return LlamaSequence([*items, *tokens], pictures, closing)
