"""The tiny checkpoint's tensors, laid out by hand. What a coordinate of the residual stream means is fixed by ``Axes``.

A forward pass goes:

- the vision tower turns each 28x28 patch into a vector of about +-1 entries (a hash of colours and gradients);
- layer 1 lets every position look at: words that announce the kind of question, all image patches, single image
  patches and single words chosen by random keys, and the option marker ("B.") it stands behind; its MLP turns what was
  found into bits;
- layer 2 matches those bits with the content of the words behind the option markers: the option whose content suits
  best has its letter chosen. Options thus keep winning or losing when they are reordered;
- the output layer allows only what suits the kind of question; tokens that were generated name their successor.

Numbers behind the layout are chosen so that sums are decided by distances far above the rounding of float32, and mostly
above that of bfloat16, in which lmms-eval loads its Qwen models.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import vocabulary
from .vocabulary import MOVES, NUMBERS, OPTION_LETTERS, REASONING, SPECIAL, TRIGGERS, TURNS, Token

Array = NDArray[np.float64]

HIDDEN, HEADS, HEAD_DIM, FEED_FORWARD = 160, 10, 16, 64
VISION_HIDDEN, VISION_HEADS, PATCH, MERGED = 32, 2, 14, 4
RADIUS = 40.0  # length of every embedding: makes RMSNorm a constant factor
RMS = RADIUS / math.sqrt(HIDDEN)

# Rotary frequencies are THETA ** (-i / 8) for pair i of a head. Pair NEAR turns 0.03 rad per token, enough to prefer the
# closest option marker; the pairs from STILL on do not turn within any prompt and carry everything positionless.
NEAR, NEAR_FREQUENCY, STILL = 1, 0.03, 7
THETA = NEAR_FREQUENCY**-8
MATCH_DIMS = (4, 5, 6, 12, 13, 14)


CHAIN = (*tuple(text for chain in REASONING for text in chain[1:]), vocabulary.CONCLUSION)
KINDS = tuple(TRIGGERS)
MARKERS = OPTION_LETTERS + vocabulary.NO_OPTION
CONTENT, BITS = 16, 16
WORD_HEADS = (4, 5, 6, 8, 9)


@dataclass(frozen=True)
class Axes:
    """Which coordinates of the residual stream hold what. Only the first block is written by the embedding."""

    slack = slice(
        0, 1
    )  # fills every embedding up to RADIUS; nearly constant, so also the constant one
    end = slice(1, 2)  # the answer is complete
    speaks = slice(2, 3)  # this token was generated
    letter_now = slice(3, 4)  # the answer's letter is due
    turn_now = slice(4, 5)  # the second half of a movement is due
    text = slice(5, 6)  # a piece of text that carries content
    image = slice(6, 7)  # an image patch
    content = slice(7, 23)
    levels = slice(23, 28)  # how strongly each of the word-choosing heads wants this word
    marker = slice(28, 35)  # one per option letter, the last for words that close the list
    trigger = slice(35, 42)  # one per kind
    successor = slice(42, 42 + len(CHAIN))
    # layer 1, attention
    announced = slice(56, 63)  # share of each kind among the triggers of the prompt
    seen = slice(63, 79)  # what was seen in the images
    read = slice(79, 95)  # what was read in the text
    behind = slice(95, 102)  # the option marker this position stands behind
    option = slice(95, 101)  # ... if it is an option's
    # layer 1, feed-forward
    kind = slice(102, 109)  # 0 or 1 per kind
    bits = slice(109, 125)  # -1 or 1
    # layer 2, attention
    vote = slice(125, 131)  # share of each option letter


class Weights:
    """Lays out all tensors. Every ``_..._rows`` helper returns a matrix in torch's (out, in) order."""

    def __init__(self, seed: int, known: Sequence[Token]) -> None:
        self.random = random.Random(f"easi smoke checkpoint {seed}")
        self.tokens = known
        self.ids = {
            token.text.decode("utf-8", "surrogateescape"): n for n, token in enumerate(known)
        }
        self.size = padded(len(known) + len(SPECIAL))

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        parts: dict[str, Array] = {
            "model.embed_tokens.weight": self._embeddings(),
            **self._vision(),
        }
        parts |= self._layer(0, self._look(), self._feed_forward())
        parts |= self._layer(1, self._choose(), _no_feed_forward())
        parts["model.norm.weight"] = np.ones(HIDDEN)
        parts["lm_head.weight"] = self._output()
        return {name: np.ascontiguousarray(parts[name], dtype=np.float32) for name in sorted(parts)}

    # -- randomness: python's generator, whose streams do not change between releases

    def _signs(self, *shape: int) -> Array:
        return np.array([self.random.choice((-1.0, 1.0)) for _ in range(math.prod(shape))]).reshape(
            shape
        )

    def _gauss(self, *shape: int) -> Array:
        return np.array([self.random.gauss(0.0, 1.0) for _ in range(math.prod(shape))]).reshape(
            shape
        )

    def _rotation(self, size: int) -> Array:
        """A random signed permutation: mixes coordinates and keeps +-1 entries +-1."""
        order = list(range(size))
        self.random.shuffle(order)
        shuffled: Array = np.eye(size)[order]
        return shuffled * self._signs(size, 1)

    # -- embedding

    def _embeddings(self) -> Array:
        table = np.zeros((self.size, HIDDEN))
        for row, token in zip(table, self.tokens, strict=False):  # the table is padded
            row[Axes.end] = 4.0 * token.ends
            row[Axes.speaks] = 4.0 * token.speaks
            row[Axes.letter_now] = 4.0 * (token.next == "letter")
            row[Axes.turn_now] = 4.0 * (token.next == "turn")
            if token.next in CHAIN:
                row[Axes.successor][CHAIN.index(token.next)] = 4.0
            if token.option:
                row[Axes.marker][MARKERS.index(token.option)] = 4.0
            if token.trigger:
                row[Axes.trigger][KINDS.index(token.trigger)] = 4.0
            if token.content:
                whole = token.word or (len(token.text) == 1 and token.text.isdigit())
                # A word that falls into pieces has many chances to match; each is worth less.
                row[Axes.text] = 4.0 if whole else 2.8
                row[Axes.content] = self._signs(CONTENT)
                row[Axes.levels] = [
                    self.random.randint(0, 15 if whole else 7) / 2 for _ in WORD_HEADS
                ]
        table[:, 0] = np.sqrt(RADIUS**2 - (table[:, 1:] ** 2).sum(axis=1))
        return table

    # -- vision: patches -> ramps that are 0 or 1 nearly everywhere -> content

    def _vision(self) -> dict[str, Array]:
        size, merged = VISION_HIDDEN, VISION_HIDDEN * MERGED
        ramps = merged // 2
        constant = 6.0  # in the last coordinate; dominates the norm of a patch
        proj_bias = np.zeros(size)
        proj_bias[-1] = constant
        rms = constant / math.sqrt(size)
        directions = self._gauss(ramps, MERGED, size)
        directions[:, :, -1] = 0.0
        directions = directions.reshape(ramps, merged) / math.sqrt(MERGED * 3)
        thresholds = self._gauss(ramps) * 0.8
        gain, height = 12.0, 4.0
        first = np.repeat(directions * rms * gain, 2, axis=0)
        first_bias = np.repeat(-thresholds * gain, 2)
        first_bias[1::2] -= height
        mix = self._signs(CONTENT, ramps) * 2.0 / (height * math.sqrt(ramps))
        second = np.zeros((HIDDEN, merged))
        second[Axes.content, 0::2], second[Axes.content, 1::2] = mix, -mix
        second_bias = np.zeros(HIDDEN)
        second_bias[Axes.content] = -mix.sum(axis=1) * height / 2
        second_bias[Axes.image] = 4.0
        second_bias[Axes.slack] = math.sqrt(RADIUS**2 - 16.0 - CONTENT)
        block = "visual.blocks.0."
        return {
            "visual.patch_embed.proj.weight": self._patch_filters(),
            f"{block}norm1.weight": np.ones(size),
            f"{block}norm2.weight": np.ones(size),
            f"{block}attn.qkv.weight": np.zeros((3 * size, size)),
            f"{block}attn.qkv.bias": np.zeros(3 * size),
            f"{block}attn.proj.weight": np.zeros((size, size)),
            f"{block}attn.proj.bias": proj_bias,
            **{
                f"{block}mlp.{part}_proj.{what}": np.zeros(
                    (size, size) if what == "weight" else size
                )
                for part in ("gate", "up", "down")
                for what in ("weight", "bias")
            },
            "visual.merger.ln_q.weight": np.ones(size),
            "visual.merger.mlp.0.weight": first,
            "visual.merger.mlp.0.bias": first_bias,
            "visual.merger.mlp.2.weight": second,
            "visual.merger.mlp.2.bias": second_bias,
        }

    def _patch_filters(self) -> Array:
        """(VISION_HIDDEN, 3, 2, PATCH, PATCH): per colour its mean, gradients and change in time; then mixtures."""
        line = np.linspace(-1.0, 1.0, PATCH)
        flat, ramp = np.ones(PATCH), line * 1.7
        shapes = [
            np.outer(flat, flat),
            np.outer(flat, ramp),
            np.outer(ramp, flat),
            np.outer(ramp, ramp),
        ]
        steady, change = np.array([0.5, 0.5]), np.array([0.5, -0.5])
        filters = []
        for colour in range(3):
            for time, shape in [*((steady, shape) for shape in shapes), (change, shapes[0])]:
                one = np.zeros((3, 2, PATCH, PATCH))
                one[colour] = time[:, None, None] * shape / PATCH**2
                filters.append(one)
        mixtures = self._gauss(VISION_HIDDEN - 1 - len(filters), len(filters)) / math.sqrt(6)
        filters += list(np.tensordot(mixtures, np.array(filters), axes=1))
        return np.array([*filters, np.zeros((3, 2, PATCH, PATCH))])

    # -- language layers

    def _layer(
        self, number: int, attention: Attention, feed_forward: dict[str, Array]
    ) -> dict[str, Array]:
        prefix = f"model.layers.{number}."
        norms = {
            f"{prefix}{name}.weight": np.ones(HIDDEN)
            for name in ("input_layernorm", "post_attention_layernorm")
        }
        return norms | {
            f"{prefix}{name}": value for name, value in (attention.tensors() | feed_forward).items()
        }

    def _look(self) -> Attention:
        """Layer 1. Scores below are what softmax sees; 40 and more between two positions decides outright."""
        heads = Attention()
        heads.ask(0)
        heads.key(0, STILL, Axes.trigger, 10.0)
        heads.carry(0, Axes.trigger, Axes.announced, np.eye(len(KINDS)) / 4.0)
        for head in (1, 2, 3):
            heads.ask(head)
            heads.key(head, STILL, Axes.image, 10.0)
            if head > 1:
                heads.key(
                    head, STILL, Axes.content, 10.0 * self._gauss(CONTENT) / math.sqrt(CONTENT)
                )
            heads.carry(
                head, Axes.content, Axes.seen, self._rotation(CONTENT) * (2.0 if head == 1 else 0.7)
            )
        for level, head in enumerate(WORD_HEADS):
            heads.ask(head)
            heads.key(head, STILL, Axes.text, 10.0)
            heads.key(
                head, STILL, slice(Axes.levels.start + level, Axes.levels.start + level + 1), 16.0
            )
            heads.carry(head, Axes.content, Axes.read, self._rotation(CONTENT) * 1.6)
        heads.ask(7)
        heads.key(7, STILL, Axes.marker, 260.0 / 4)
        # cos(0.03 d + 0.6) falls from the marker itself on, by 4 per token of distance d at this height.
        heads.ask(7, NEAR, math.cos(0.6))
        heads.ask(7, NEAR + HEAD_DIM // 2, math.sin(0.6))
        heads.key(7, NEAR, Axes.marker, 250.0 / 4)
        heads.carry(7, Axes.marker, Axes.behind, np.eye(len(MARKERS)) / 4.0)
        return heads

    def _choose(self) -> Attention:
        """Layer 2, one head: content behind an option marker, the better it matches the bits the more."""
        heads = Attention()
        heads.ask(0)
        heads.key(0, STILL, Axes.option, 150.0)
        heads.ask(0, STILL + HEAD_DIM // 2)
        heads.key(0, STILL + HEAD_DIM // 2, Axes.text, 15.0)
        heads.key(0, STILL + HEAD_DIM // 2, Axes.image, 15.0)
        for number, dim in enumerate(MATCH_DIMS):
            heads.listen(0, dim, slice(Axes.bits.start + number, Axes.bits.start + number + 1), 1.0)
            heads.key(0, dim, Axes.content, 8.0 * self._gauss(CONTENT) / math.sqrt(CONTENT))
        heads.carry(0, Axes.option, Axes.vote, np.eye(len(OPTION_LETTERS)))
        return heads

    def _feed_forward(self) -> dict[str, Array]:
        """Turns shares into 0 or 1 and mixtures into -1 or 1: silu(z) - silu(z - 8) is a ramp from 0 to 8."""
        gate, up, down = (
            np.zeros((FEED_FORWARD, HIDDEN)),
            np.zeros((FEED_FORWARD, HIDDEN)),
            np.zeros((HIDDEN, FEED_FORWARD)),
        )
        up[:, Axes.slack] = RMS / RADIUS
        unit = 0
        for number in range(len(KINDS)):
            self._ramp(gate, unit, {Axes.announced.start + number: 1.0}, threshold=0.04, gain=200.0)
            down[Axes.kind.start + number, unit : unit + 2] = 1 / 8, -1 / 8
            unit += 2
        found = [*range(Axes.seen.start, Axes.seen.stop), *range(Axes.read.start, Axes.read.stop)]
        for number in range(BITS):
            direction = self._gauss(len(found)) / math.sqrt(len(found))
            self._ramp(
                gate, unit, dict(zip(found, direction, strict=True)), threshold=0.0, gain=80.0
            )
            down[Axes.bits.start + number, unit : unit + 2] = 2 / 8, -2 / 8
            unit += 2
        gate[unit, Axes.slack] = (
            RMS * 10.0 / RADIUS
        )  # silu(10) is 10: the constant that centres the bits
        down[Axes.bits, unit] = -1 / 10
        return {
            "mlp.gate_proj.weight": gate,
            "mlp.up_proj.weight": up,
            "mlp.down_proj.weight": down,
        }

    @staticmethod
    def _ramp(
        gate: Array, unit: int, direction: dict[int, float], threshold: float, gain: float
    ) -> None:
        for coordinate, value in direction.items():
            gate[unit : unit + 2, coordinate] = RMS * gain * value
        gate[unit, Axes.slack] = -RMS * gain * threshold / RADIUS
        gate[unit + 1, Axes.slack] = -RMS * (gain * threshold + 8.0) / RADIUS

    # -- output

    def _output(self) -> Array:
        """Logits: everything starts at -30, what suits the question is lifted to about 0, what must follow to 30."""
        head = np.zeros((self.size, HIDDEN))
        head[:, Axes.slack] = -30.0 / RADIUS
        (end,) = (n for n, text in enumerate(SPECIAL) if text == "<|im_end|>")
        head[len(self.tokens) + end, Axes.end] = 60.0 / 4.0
        kind = {name: Axes.kind.start + n for n, name in enumerate(KINDS)}
        for n, letter in enumerate(OPTION_LETTERS):
            row = head[self.ids[letter]]
            row[Axes.slack] = 0.0
            # A tie between two options with the same word goes to the earlier one, by more than rounding.
            row[Axes.vote.start + n] = 12.0 * (1.15 - 0.05 * n)
            if n < 4:
                row[Axes.bits] = self._signs(BITS) / 8.0
            else:
                row[Axes.slack] = -3.0 / RADIUS
            for name in ("numeric", "reasoning", "movement"):
                row[kind[name]] = -30.0
            row[Axes.letter_now] = 30.0 / 4.0
        for text, unit in NUMBERS:
            row = head[self.ids[text]]
            row[kind["numeric"]] = 30.0
            row[kind[unit]] = 20.0
            if unit == "meters":
                row[kind["square"]] = -20.0  # "square meters" announces both
            self._prefer(row, [number for number, suits in NUMBERS if suits == unit].index(text))
        for n, text in enumerate(chain[0] for chain in REASONING):
            row = head[self.ids[text]]
            row[kind["reasoning"]] = 30.0
            row[Axes.speaks] = -60.0 / 4.0
            self._prefer(row, n)
        for n, text in enumerate(CHAIN):
            head[self.ids[text], Axes.successor.start + n] = 60.0 / 4.0
        for n, text in enumerate(MOVES):
            row = head[self.ids[text]]
            row[kind["movement"]] = 30.0
            row[Axes.speaks] = -60.0 / 4.0
            self._prefer(row, n)
        for n, text in enumerate(TURNS):
            row = head[self.ids[text]]
            row[Axes.turn_now] = 60.0 / 4.0
            self._prefer(row, n)
        return head * RMS

    def _prefer(self, row: Array, number: int) -> None:
        """Rank equals by the bits: steps of nearly 2; ties are broken by the place in the list, by steps of 0.2."""
        row[Axes.bits] = self._signs(BITS)
        row[Axes.slack] += 0.2 * number / RADIUS


class Attention:
    """One attention layer, written head by head in the units of the residual stream."""

    def __init__(self) -> None:
        self.weights: dict[str, Array] = {part: np.zeros((HIDDEN, HIDDEN)) for part in "qkvo"}
        self.biases: dict[str, Array] = {part: np.zeros(HIDDEN) for part in "qk"}

    def ask(self, head: int, dim: int = STILL, value: float = 1.0) -> None:
        """A constant query: the key's ``dim`` counts as it is (the factor 4 undoes the division by sqrt(16))."""
        self.biases["q"][head * HEAD_DIM + dim] = 4.0 * value

    def listen(self, head: int, dim: int, axis: slice, gain: float) -> None:
        self.weights["q"][head * HEAD_DIM + dim, axis] = 4.0 * RMS * gain

    def key(self, head: int, dim: int, axis: slice, gain: float | Array) -> None:
        self.weights["k"][head * HEAD_DIM + dim, axis] = RMS * gain

    def carry(self, head: int, source: slice, target: slice, mix: Array) -> None:
        """What a chosen position has in ``source`` is added to ``target``, through ``mix``."""
        dims = slice(head * HEAD_DIM, head * HEAD_DIM + source.stop - source.start)
        self.weights["v"][dims, source] = RMS * np.eye(source.stop - source.start)
        self.weights["o"][target, dims] = mix

    def tensors(self) -> dict[str, Array]:
        named = {f"self_attn.{part}_proj.weight": value for part, value in self.weights.items()}
        named |= {f"self_attn.{part}_proj.bias": value for part, value in self.biases.items()}
        return named | {"self_attn.v_proj.bias": np.zeros(HIDDEN)}


def _no_feed_forward() -> dict[str, Array]:
    return {
        "mlp.gate_proj.weight": np.zeros((FEED_FORWARD, HIDDEN)),
        "mlp.up_proj.weight": np.zeros((FEED_FORWARD, HIDDEN)),
        "mlp.down_proj.weight": np.zeros((HIDDEN, FEED_FORWARD)),
    }


def padded(size: int) -> int:
    """Vocabulary sizes are multiples of 64 in real checkpoints, and some engines want that."""
    return -(-size // 64) * 64
