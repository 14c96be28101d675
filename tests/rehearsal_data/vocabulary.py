"""The tiny checkpoint's vocabulary: the tokens, and what each one means to the weights.

It is a byte-level BPE, so any text can be encoded and decoded. Words of the benchmarks are whole
tokens (``ignore_merges``), pairs of lower-case letters are the only merges, and everything else is
split into bytes.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from itertools import product

OPTION_LETTERS = "ABCDEF"
# Words that end the list of options in the benchmarks' prompts; the text after them belongs to no
# option.
CLOSING_WORDS = (
    "Answer",
    "Please",
    "Give",
    "Reply",
    "Enclose",
    "Respond",
    "Select",
    "Only",
    "Note",
    "Return",
)
NO_OPTION = "-"

# Kinds of question, and the words in a prompt that announce them. A prompt without any of these
# words is multiple choice.
TRIGGERS: dict[str, tuple[str, ...]] = {
    "numeric": ("phrase", "float"),  # VSI-Bench and SPAR-Bench, both backends
    "reasoning": ("formatted",),  # OmniSpatial asks for a last line "formatted exactly as"
    # SPAR-Bench, view_change_infer
    "movement": (
        "_right",
        "_left",
        "_up",
        "_down",
        "_forward",
        "_backward",
    ),
    "centimeters": ("centimeters", "centimetre", "centimetres", "cm"),
    "meters": ("meters", "meter", "metres"),
    "square": ("square", "area"),
    "count": ("many",),
}

# Possible answers to a numeric question, each with the unit it suits best.
NUMBERS: tuple[tuple[str, str], ...] = (
    ("2", "count"),
    ("3", "count"),
    ("4", "count"),
    ("5", "count"),
    ("6", "count"),
    ("0.8", "meters"),
    ("1.2", "meters"),
    ("1.5", "meters"),
    ("1.9", "meters"),
    ("2.4", "meters"),
    ("2.9", "meters"),
    ("3.5", "meters"),
    ("45", "centimeters"),
    ("70", "centimeters"),
    ("110", "centimeters"),
    ("160", "centimeters"),
    ("200", "centimeters"),
    ("9.5", "square"),
    ("14.2", "square"),
    ("21", "square"),
    ("28.6", "square"),
    ("40", "square"),
)
MOVES = (
    "move_right:0.4",
    "move_left:0.7",
    "move_forward:1.2",
    "move_backward:0.3",
    "move_up:0.2",
    "move_down:0.5",
    "move_right:1.5",
    "move_left:1.1",
)
TURNS = (
    ",rotate_right:15",
    ",rotate_left:30",
    ",rotate_up:5",
    ",rotate_down:10",
    ",rotate_right:60",
    ",rotate_left:10",
    ",rotate_up:20",
    ",rotate_down:2",
)

# Lines of reasoning, each a chain of tokens; all end in the line that the prompt asks for.
REASONING: tuple[tuple[str, ...], ...] = (
    ("The nearest object decides", " which side is meant."),
    (
        "First,",
        " the scene is read from the viewer",
        " and the objects are placed",
        " on a map.",
        " Then the view is turned",
        " and compared with every option.",
    ),
    ("Both objects", " rest on the floor,", " one of them further back."),
)
CONCLUSION = "\nAnswer: "

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

# Words that all prompts of a benchmark share, and words that do not matter for an answer: they are
# tokens without content.
_SILENT = """
a an the this that these those is are was be been being it its of in on at to for from with \
without by as and or not if then than
do does did can could will would should you your we our i they them their there here what which \
who where when how why
user system assistant helpful spatial reasoning task receive single rgb frame frames depicting \
scene question natural language query
relationships between objects image images video videos options option answer answers candidates \
each tagged capital letter letters
based provide always ground grounded visual evidence hallucinate unseen uncertain pick most \
plausible never refuse reply insufficient
information guidelines please follow steps step analyze first carefully observe identify all \
relevant their next break down key
components need addressed think through arrive may necessary transfer perspective better \
understand finally select appropriate
analysis end separate line exactly note only respond providing any additional directly choices \
given best correct word briefly one
using number enclose within multiple choice following hint choices corresponding give me values \
represent bounding box coordinates
normalized scale top corner origin about s
"""

# Words with content: they can distinguish one question, or one option, from another.
_TELLING = """
left right front back behind above below under over near far close closer closest nearest farthest \
further beside inside outside
up down north south east west northeast northwest southeast southwest center middle side edge \
corner forward backward clockwise
counterclockwise turn rotate move moving facing face towards away toward higher lower taller \
shorter larger smaller bigger longer wider
first second third last before after order appear appearance same different similar parallel \
perpendicular opposite direction distance
depth height width length size room area floor wall ceiling door window table chair sofa bed desk \
lamp shelf cabinet drawer monitor
keyboard mouse laptop phone book cup bottle plate bowl knife spoon fork sink stove oven fridge \
refrigerator microwave washer toilet
bathtub shower mirror towel pillow blanket curtain carpet rug plant vase picture painting clock \
box bag basket bin trash backpack
shoe hat shirt person man woman boy girl child people dog cat horse bird bear cow sheep elephant \
zebra giraffe car truck bus train
bicycle bike motorcycle boat airplane road street sidewalk tree grass sky sun shadow building \
house tower bridge sign light traffic
red green blue yellow white black gray grey brown orange purple pink cyan magenta circle triangle \
star ball cube cylinder cone sphere
camera viewer viewpoint view standing sitting robot navigate walk stop yes no none both neither \
zero two three four five six seven
eight nine ten jigsaw piece style art depth relative reflectance point points darker lighter \
brighter match matching likely count
existence counting total visible hidden start route reach goal plan memory update prediction \
motion interactive instance attribute
kitchen bathroom bedroom office hall hallway stairs entrance exit tv television stool bench heater \
printer whiteboard suitcase
armchair bookshelf mug nightstand radiator wardrobe coffee houseplant
"""


@dataclass(frozen=True)
class Token:
    """One vocabulary entry, and how the weights treat it.

    Attributes:
        text: Its text as bytes.
        content: Whether it can distinguish questions or options.
        word: Whether it is a whole word, not a piece of an unknown word.
        option: The letter of an option marker such as ``B.``; NO_OPTION for a closing word.
        trigger: The kind of question it announces.
        speaks: Whether it is only generated, never read.
        next: What must follow: a token's text, or "turn" or "letter" for any of those.
        ends: Whether nothing may follow.
    """

    text: bytes
    content: bool = False
    word: bool = False
    option: str = ""
    trigger: str = ""
    speaks: bool = False
    next: str = ""
    ends: bool = False


def tokens() -> list[Token]:
    """All tokens without the special ones, in id order; the first 256 are the bytes themselves."""
    found: dict[bytes, Token] = {}

    def add(token: Token) -> None:
        found.setdefault(token.text, token)

    says = {number for number, _ in NUMBERS} | set(OPTION_LETTERS)
    telling_bytes = (
        set(string.ascii_letters.encode()) | set(string.digits.encode()) | set(range(0x80, 0x100))
    )
    for value in range(256):
        byte = bytes([value])
        add(Token(byte, content=value in telling_bytes, ends=byte.decode("latin-1") in says))
    for letter in OPTION_LETTERS:
        for opening, closing in product(("", "(", " ", " ("), ".:)"):
            add(Token(f"{opening}{letter}{closing}".encode(), option=letter))
    for word in CLOSING_WORDS:
        for text in (word, f" {word}"):
            add(Token(text.encode(), option=NO_OPTION, word=True))
    for kind, words in TRIGGERS.items():
        for text in (form for word in words for form in _forms(word)):
            add(Token(text.encode(), trigger=kind, word=True))
    for word in _SILENT.split():
        for text in _forms(word):
            add(Token(text.encode(), word=True))
    for word in _TELLING.split():
        for text in _forms(word):
            add(Token(text.encode(), content=True, word=True))
    for pair in MERGES:
        add(Token("".join(pair).encode(), content=True))
    for text, _ in NUMBERS:
        add(Token(text.encode(), ends=True, speaks=True))
    for text in MOVES:
        add(Token(text.encode(), speaks=True, next="turn"))
    for text in TURNS:
        add(Token(text.encode(), speaks=True, ends=True))
    for chain in REASONING:
        for text, after in zip(chain, (*chain[1:], CONCLUSION), strict=True):
            add(Token(text.encode(), speaks=True, next=after))
    add(Token(CONCLUSION.encode(), speaks=True, next="letter"))
    return list(found.values())


def _forms(word: str) -> tuple[str, ...]:
    if not word[0].isalpha():
        return (word,)
    return (word, f" {word}", word.capitalize())


def _merges() -> list[tuple[str, str]]:
    return [
        *product(string.ascii_lowercase, string.ascii_lowercase),
        *((" ", letter) for letter in string.ascii_lowercase),
    ]


MERGES = _merges()

# An option marker ("B." "(B)" "B:" with its space) is one piece, words keep their leading space,
# and each digit is a piece.
SPLIT_PATTERN = (
    r" ?\(?[A-F][.:)]"
    r"|'(?:[sdmt]|ll|ve|re)"
    r"|[^\r\n\p{L}\p{N}]?\p{L}+"
    r"|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+"
    r"|\s+(?!\S)"
    r"|\s+"
)


def printable() -> dict[int, str]:
    """GPT-2's byte-level alphabet: a printable character for each byte.

    Printable bytes stand for themselves.
    """
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {value: chr(value) for value in shown}
    hidden = (value for value in range(256) if value not in alphabet)
    return alphabet | {value: chr(256 + n) for n, value in enumerate(hidden)}
