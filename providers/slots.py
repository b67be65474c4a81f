"""What a model remembers of several sequences at once, each in a row of its own: transformers' Cache, in fixed places.

transformers' own DynamicCache takes sequences of one length and copies all of it for each token. Here a row knows how
long it is, a token is written where it belongs, and attention looks at the rows as they lie. Rows and room grow by
doubling, so that what is held follows what is asked for, and all of it is given back when nobody is left.

Three kinds of layers: full attention keeps each token; sliding attention the last few, in a ring; linear attention a
state that each token changes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin, LinearAttentionCacheLayerMixin, get_layer_types_and_kwargs

_LEAST = 256
"""Tokens that a row has room for, at least."""

Tensors = Sequence[torch.Tensor]


class UnknownLayer(Exception):
    """A kind of layer that rows are not known for. Its name is the message."""


@dataclass(slots=True)
class _Step:
    """Which rows the model computes now, and how many tokens each holds before it.

    first: of rows that lie one after the other; None: they lie anywhere
    rows, places: of several rows their numbers, and where each of their new tokens goes: shape (rows, tokens)
    """

    first: int | None = 0
    lengths: Sequence[int] = (0,)
    rows: Any = None
    places: Any = None
    longest: int = 0


class Slots:
    """Rows of one model. No more than `rows`, of `context` tokens at most.

    cache: what the model is given as past_key_values, after `one` or `many` has said which rows are meant
    Raises UnknownLayer.
    """

    def __init__(self, config: Any, *, rows: int, context: int, device: str) -> None:
        self._device = device
        self._step = _Step()
        kinds, settings = get_layer_types_and_kwargs(config.get_text_config(decoder=True))
        self._kinds = kinds
        self._layers = [
            _layer(kind, more, self._step, rows, context) for kind, more in zip(kinds, settings, strict=True)
        ]
        self.cache = Cache(layers=self._layers)
        self._eager = config.get_text_config(decoder=True)._attn_implementation == "eager"

    @property
    def stateful(self) -> bool:
        """Whether a row cannot go back to what it was some tokens ago."""
        return any(not isinstance(layer, _Full) for layer in self._layers)

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for layer in self._layers for tensor in layer.tensors())

    def one(self, row: int, length: int) -> None:
        """The next step computes tokens of this row, which holds `length` of them."""
        self._step.first, self._step.lengths, self._step.longest = row, [length], length

    def many(self, lengths: Sequence[int]) -> None:
        """The next step computes one token for each of the first rows, which hold so many."""
        self._several(0, range(len(lengths)), lengths, 1)

    def ragged(self, rows: Sequence[int], lengths: Sequence[int], tokens: int) -> None:
        """The next step computes so many tokens for each of these rows. What belongs to none, because a row has fewer,
        may stand at its end. For full attention only: states cannot take back what they have seen.
        """
        self._several(None, rows, lengths, tokens)

    def _several(self, first: int | None, rows: Sequence[int], lengths: Sequence[int], tokens: int) -> None:
        step = self._step
        step.first, step.lengths, step.longest = first, lengths, max(lengths)
        step.rows = torch.tensor(list(rows), device=self._device)[:, None]
        step.places = torch.tensor(lengths, device=self._device)[:, None] + torch.arange(tokens, device=self._device)

    def mask(self, dtype: torch.dtype) -> Any:
        """What the model is given as attention_mask for this step: what each token may look at."""
        if len(self._step.lengths) == 1:
            return None  # one row is what the model expects
        places = self._step.places
        seen = torch.arange(self._step.longest + places.shape[1], device=self._device) <= places[:, None, :, None]
        if self._eager:
            seen = torch.zeros(seen.shape, dtype=dtype, device=self._device).masked_fill(~seen, torch.finfo(dtype).min)
        masks = {
            kind: None if isinstance(layer, _Linear) else seen[..., : layer.width]
            for kind, layer in zip(self._kinds, self._layers, strict=True)
        }
        return masks if len(masks) > 1 else next(iter(masks.values()))

    def move(self, source: int, target: int) -> None:
        """Row `target` becomes what `source` is, which is then free."""
        for layer in self._layers:
            for tensor in layer.tensors():
                tensor[target] = tensor[source]

    def exchange(self, one: int, other: int) -> None:
        for layer in self._layers:
            for tensor in layer.tensors():
                tensor[[one, other]] = tensor[[other, one]]

    def free(self) -> None:
        """Give all memory back; no row is in use."""
        for layer in self._layers:
            layer.free()

    def tokens(self, row: int, start: int, end: int) -> torch.Tensor:
        """What full attention keeps of these tokens, in RAM: shape (values,)."""
        parts = [part[row, :, start:end].flatten() for part in self._kept()]
        return torch.cat(parts).to("cpu", copy=True) if parts else torch.empty(0)

    def put_tokens(self, row: int, start: int, end: int, values: torch.Tensor) -> None:
        """Undo `tokens`."""
        values = values.to(self._device)
        for layer in self._layers:
            if isinstance(layer, _Full):
                layer.reserve(row + 1, end)
        parts = list(self._kept())
        sizes = [part.shape[1] * part.shape[3] * (end - start) for part in parts]
        for part, kept in zip(parts, values.split(sizes) if sizes else (), strict=True):
            part[row, :, start:end] = kept.view(part.shape[1], end - start, part.shape[3])

    def state(self, row: int) -> Tensors:
        """What the other layers hold of a row, in RAM."""
        return [
            tensor[row].to("cpu", copy=True)
            for layer in self._layers
            if not isinstance(layer, _Full)
            for tensor in layer.tensors()
        ]

    def put_state(self, row: int, state: Tensors) -> None:
        """Undo `state`."""
        left = iter(state)
        for layer in self._layers:
            if not isinstance(layer, _Full):
                layer.put(row, left, self._device)

    def _kept(self) -> Iterator[torch.Tensor]:
        for layer in self._layers:
            if isinstance(layer, _Full):
                yield from layer.tensors()


def _layer(kind: str, settings: dict[str, Any], step: _Step, rows: int, context: int) -> Any:
    match kind:
        case "full_attention":
            return _Full(step, rows, context)
        case "sliding_attention":
            return _Ring(step, rows, min(settings["sliding_window"], context))
        case "linear_attention" if settings.get("number_of_states", 1) == 1:
            return _Linear(step, rows)
    raise UnknownLayer(kind)


class _Attention(CacheLayerMixin):
    """Keys and values, shape (rows, heads, room, width of a head). width: most tokens that a row keeps."""

    is_sliding = False

    def __init__(self, step: _Step, rows: int, width: int) -> None:
        super().__init__()
        self._step = step
        self._rows = rows
        self.width = width

    def tensors(self) -> list[torch.Tensor]:
        return [] if self.keys is None else [self.keys, self.values]

    def free(self) -> None:
        if self.keys is not None:  # its shape is still good for what comes next
            self.lazy_initialization(self.keys, self.values)

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.keys, self.values = (
            states.new_zeros(1, states.shape[1], 0, states.shape[3]) for states in (key_states, value_states)
        )

    def reserve(self, rows: int, length: int) -> None:
        """Room for so many rows of so many tokens. What is new is zero: attention multiplies also what it ignores."""
        had_rows, _, had, _ = self.keys.shape
        if rows <= had_rows and length <= had:
            return
        rows = had_rows if rows <= had_rows else min(self._rows, max(rows, 2 * had_rows))
        length = had if length <= had else min(self.width, max(length, 2 * had, _LEAST))
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = old.new_zeros(rows, old.shape[1], length, old.shape[3])
            new[:had_rows, :, :had] = old
            setattr(self, name, new)

    def _last_row(self) -> int:
        step = self._step
        return int(step.rows.max()) if step.first is None else step.first + len(step.lengths) - 1

    def get_seq_length(self) -> int:
        return self._step.longest

    def get_max_length(self) -> int:
        return -1


class _Full(_Attention):
    def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        if self.keys is None:
            self.lazy_initialization(key_states, value_states)
        step, (count, _, queries, _) = self._step, key_states.shape
        end = min(step.longest + queries, self.width)
        self.reserve(self._last_row() + 1, end)
        if count == 1:
            for kept, states in ((self.keys, key_states), (self.values, value_states)):
                kept[step.first, :, step.longest : end] = states[0]
        else:
            places = step.places.clamp(max=self.width - 1)
            for kept, states in ((self.keys, key_states), (self.values, value_states)):
                kept[step.rows, :, places] = states.transpose(1, 2)
        rows = step.rows[:, 0] if step.first is None else slice(step.first, step.first + count)
        return self.keys[rows, :, :end], self.values[rows, :, :end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._step.longest + query_length, 0


class _Ring(_Attention):
    """The token at position p lies at p modulo the window. Attention does not mind their order: positions are in the
    keys.
    """

    is_sliding = True

    def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        if self.keys is None:
            self.lazy_initialization(key_states, value_states)
        step, (count, _, queries, _) = self._step, key_states.shape
        self.reserve(self._last_row() + 1, self.width)
        if queries > 1:
            return self._several(self.keys, key_states), self._several(self.values, value_states)
        rows = slice(step.first, step.first + count)
        for kept, states in ((self.keys, key_states), (self.values, value_states)):
            if count == 1:
                kept[step.first, :, step.longest % self.width] = states[0, :, 0]
            else:
                kept[step.rows, :, step.places % self.width] = states.transpose(1, 2)
        used = min(step.longest + 1, self.width)
        return self.keys[rows, :, :used], self.values[rows, :, :used]

    def _several(self, kept: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """A part of a prompt: what its first tokens still see comes before it, in order."""
        row, start, count = self._step.first, self._step.longest, states.shape[2]
        positions = torch.arange(start - self._past(), start + count, device=states.device) % self.width
        seen = torch.cat([kept[row][:, positions[:-count]], states[0]], dim=1)
        last = positions[-min(count, self.width) :]
        kept[row][:, last] = seen[:, -len(last) :]
        return seen[None]

    def _past(self) -> int:
        return min(self._step.longest, self.width - 1)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._past() + query_length, self._step.longest - self._past()

    def put(self, row: int, state: Iterator[torch.Tensor], _: str) -> None:
        self.reserve(row + 1, self.width)
        self.keys[row], self.values[row] = next(state), next(state)


class _Linear(LinearAttentionCacheLayerMixin):
    """The last inputs of a convolution, shape (rows, channels, kernel), and a recurrent state."""

    is_compileable = False
    record_past = False

    def __init__(self, step: _Step, rows: int) -> None:
        self._step = step
        self._rows = rows
        self._kept: dict[str, torch.Tensor] = {}

    def tensors(self) -> list[torch.Tensor]:
        return list(self._kept.values())

    def free(self) -> None:
        self._kept.clear()

    @property
    def has_previous_state(self) -> dict[int, bool]:
        return {0: self._step.longest > 0}

    @property
    def conv_states(self) -> dict[int, torch.Tensor]:
        return {0: self._rows_of("convolution")}

    @property
    def recurrent_states(self) -> dict[int, torch.Tensor]:
        return {0: self._rows_of("recurrent")}

    def lazy_initialization(self, *_: Any, **__: Any) -> None: ...

    def update_conv_state(
        self, conv_states: torch.Tensor, state_idx: int = 0, conv_kernel_size: int | None = None, **_: Any
    ) -> torch.Tensor:
        kernel = conv_states.shape[-1] if conv_kernel_size is None else conv_kernel_size
        if self._step.longest:
            conv_states = torch.cat([self._rows_of("convolution"), conv_states], dim=-1)
        elif conv_states.shape[-1] < kernel:
            conv_states = torch.nn.functional.pad(conv_states, (kernel - conv_states.shape[-1], 0))
        self._write("convolution", self._first_row(), conv_states[..., -kernel:])
        return conv_states

    def update_recurrent_state(self, recurrent_states: torch.Tensor, state_idx: int = 0, **_: Any) -> torch.Tensor:
        self._write("recurrent", self._first_row(), recurrent_states)
        return recurrent_states

    def put(self, row: int, state: Iterator[torch.Tensor], device: str) -> None:
        for name in ("convolution", "recurrent"):
            self._write(name, row, next(state)[None].to(device))

    def _rows_of(self, name: str) -> torch.Tensor:
        first = self._first_row()
        return self._kept[name][first : first + len(self._step.lengths)]

    def _first_row(self) -> int:
        assert self._step.first is not None
        return self._step.first

    def _write(self, name: str, first: int, states: torch.Tensor) -> None:
        end = first + len(states)
        old = self._kept.get(name)
        if old is None or end > len(old):
            had = 0 if old is None else len(old)
            self._kept[name] = states.new_zeros(min(self._rows, max(end, 2 * had)), *states.shape[1:])
            if old is not None:
                self._kept[name][:had] = old
        self._kept[name][first:end] = states
