"""The tiny checkpoint's tensors, set by hand.

``Axes`` says what each coordinate of the residual stream means. A forward pass works like this:

- The vision tower turns each 28x28 patch into a vector with entries of about +-1 (a hash of colours
  and gradients).
- Layer 1 lets every position attend to words that announce the kind of question, to all image
  patches, to single image patches and single words chosen by random keys, and to the option marker
  ("B.") before it. Its MLP turns the result into bits.
- Layer 2 compares these bits with the content of the words behind the option markers. The option
  whose content fits best determines the letter, so the same option wins when the options are
  reordered.
- The output layer allows only tokens that suit the kind of question; a generated token determines
  its successor.

The constants are chosen so that decisions depend on differences far above the rounding of float32,
and mostly above that of bfloat16, in which lmms-eval loads its Qwen models.
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

# The rotary frequency of pair i of a head is THETA ** (-i / 8). Pair NEAR turns by 0.03 rad per
# token, enough to prefer the closest option marker. Pairs from STILL on hardly turn within a
# prompt, so they hold everything that does not depend on the position.
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
    """What the residual stream's coordinates hold; the embedding writes only the first block."""

    # Brings the length of every embedding to RADIUS. It is nearly constant, so it also serves as
    # the constant input.
    slack = slice(0, 1)
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
    """Builds all tensors; matrices are in torch's (out, in) order."""

    def __init__(self, seed: int, known: Sequence[Token]) -> None:
        self.random = random.Random(f"easi smoke checkpoint {seed}")
        self.tokens = known
        self.ids = {
            token.text.decode("utf-8", "surrogateescape"): n for n, token in enumerate(known)
        }
        self.size = padded(len(known) + len(SPECIAL))

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """All tensors of the checkpoint by name, as float32."""
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
                # An unknown word consists of several pieces, which can all match; each counts less.
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
        """The filters of the patch embedding, of shape (VISION_HIDDEN, 3, 2, PATCH, PATCH).

        For each colour there are its mean, gradients and change in time; the others are mixtures.
        """
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
        """The attention of layer 1.

        The numbers below are the scores that enter the softmax; a difference of 40 or more between
        two positions leaves only one of them.
        """
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
        # cos(0.03 d + 0.6) decreases with the distance d from the marker, here by 4 per token.
        heads.ask(7, NEAR, math.cos(0.6))
        heads.ask(7, NEAR + HEAD_DIM // 2, math.sin(0.6))
        heads.key(7, NEAR, Axes.marker, 250.0 / 4)
        heads.carry(7, Axes.marker, Axes.behind, np.eye(len(MARKERS)) / 4.0)
        return heads

    def _choose(self) -> Attention:
        """The attention of layer 2: one head.

        It attends to content behind an option marker, the more the better it matches the bits.
        """
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
        """The MLP of layer 1: turns shares into 0 or 1, and mixtures into -1 or 1.

        It uses that silu(z) - silu(z - 8) is a ramp from 0 to 8.
        """
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
        # silu(10) is about 10: a constant, which centres the bits.
        gate[unit, Axes.slack] = RMS * 10.0 / RADIUS
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
        """The output layer.

        All logits start at -30. Tokens that suit the question are raised to about 0, a token that
        must follow to 30.
        """
        head = np.zeros((self.size, HIDDEN))
        head[:, Axes.slack] = -30.0 / RADIUS
        (end,) = (n for n, text in enumerate(SPECIAL) if text == "<|im_end|>")
        head[len(self.tokens) + end, Axes.end] = 60.0 / 4.0
        kind = {name: Axes.kind.start + n for n, name in enumerate(KINDS)}
        for n, letter in enumerate(OPTION_LETTERS):
            row = head[self.ids[letter]]
            row[Axes.slack] = 0.0
            # Of two options with the same word the earlier one wins, by more than the rounding.
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
        """Rank tokens of the same kind by the bits, in steps of nearly 2.

        Their places in the list break ties, in steps of 0.2.
        """
        row[Axes.bits] = self._signs(BITS)
        row[Axes.slack] += 0.2 * number / RADIUS


class Attention:
    """One attention layer, written head by head in the units of the residual stream."""

    def __init__(self) -> None:
        self.weights: dict[str, Array] = {part: np.zeros((HIDDEN, HIDDEN)) for part in "qkvo"}
        self.biases: dict[str, Array] = {part: np.zeros(HIDDEN) for part in "qk"}

    def ask(self, head: int, dim: int = STILL, value: float = 1.0) -> None:
        """Make a constant query, so that the key's ``dim`` is the score.

        The factor 4 cancels the division of the scores by sqrt(HEAD_DIM).
        """
        self.biases["q"][head * HEAD_DIM + dim] = 4.0 * value

    def listen(self, head: int, dim: int, axis: slice, gain: float) -> None:
        """Make the query's ``dim`` from the coordinates ``axis``, times ``gain``."""
        self.weights["q"][head * HEAD_DIM + dim, axis] = 4.0 * RMS * gain

    def key(self, head: int, dim: int, axis: slice, gain: float | Array) -> None:
        """Make the key's ``dim`` from the coordinates ``axis``, times ``gain``."""
        self.weights["k"][head * HEAD_DIM + dim, axis] = RMS * gain

    def carry(self, head: int, source: slice, target: slice, mix: Array) -> None:
        """Add the attended ``source`` coordinates to ``target``, multiplied by ``mix``."""
        dims = slice(head * HEAD_DIM, head * HEAD_DIM + source.stop - source.start)
        self.weights["v"][dims, source] = RMS * np.eye(source.stop - source.start)
        self.weights["o"][target, dims] = mix

    def tensors(self) -> dict[str, Array]:
        """The layer's tensors by their names within the layer."""
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
    """Round up to a multiple of 64, as real checkpoints do; some engines require it."""
    return -(-size // 64) * 64
