"""Texts as what a model is told: numbers of byte-pair tokens (Sennrich et al. 2016, *Neural machine translation of rare
words with subword units*), of a vocabulary that is learned from the captions of a set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from limner.errors import UserError, within
from limner.files import write_text

if TYPE_CHECKING:
    from tokenizers import Tokenizer

#: Says that a place of a text has no token.
NO_TOKEN = -1
#: Bytes that a token stands for at most, captions that a vocabulary is learned from, and bytes of its file.
_LONGEST, _LEARNED, _FILE = 32, 200_000, 32 * 2**20
#: Prompts that a model remembers.
_REMEMBERED = 64


@dataclass(frozen=True)
class TextConfig:
    """How captions are read.

    Attributes:
        vocabulary: most tokens that are told apart; 256 of them are bytes, so that every text can be said.
        length: most tokens of a text; what is longer is cut. Where no caption is so long, fewer are enough.

    Raises:
        UserError: a number outside its bounds.
    """

    vocabulary: int = 1024
    length: int = 64

    def __post_init__(self) -> None:
        within("net.text.vocabulary", self.vocabulary, 256, 65_536)
        within("net.text.length", self.length, 1, 1024)


class CaptionTokenizer:
    """Texts to tokens: bytes, and pairs of tokens that follow each other often. Lower and upper case are one, and so
    are the ways to spell a letter with its accent (NFC).

    Args:
        tokens: byte-level BPE of the ``tokenizers`` library.
        length: most tokens of a text.

    Attributes:
        vocabulary: how many tokens there are.
    """

    def __init__(self, tokens: Tokenizer, length: int) -> None:
        self._tokens, self.length = tokens, length
        self.vocabulary: int = tokens.get_vocab_size()

    @staticmethod
    def learned(captions: Sequence[str], config: TextConfig) -> CaptionTokenizer:
        """Of the pairs that are most frequent in captions."""
        from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

        tokens = Tokenizer(models.BPE())
        tokens.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.NFC()])
        tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokens.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=config.vocabulary,
            show_progress=False,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            max_token_length=_LONGEST,
        )
        tokens.train_from_iterator((_clean(text, config.length) for text in some(captions)), trainer)
        return CaptionTokenizer(tokens, config.length)

    @property
    def config(self) -> TextConfig:
        """How many tokens there are, and how many a text has at most."""
        return TextConfig(self.vocabulary, self.length)

    def fitted(self, captions: Sequence[str]) -> CaptionTokenizer:
        """The same for texts as long as the longest of some captions: what is longer is cut, as ever."""
        longest = max((len(self._numbers(text)) for text in dict.fromkeys(some(captions))), default=1)
        return CaptionTokenizer(self._tokens, min(max(1, longest), self.length))

    def encode(self, texts: Sequence[str]) -> Tensor:
        """The tokens (N, length) int64 of texts, -1 beyond a text's end; of an empty one, which says nothing, all."""
        rows = {text: self._numbers(text) for text in dict.fromkeys(texts)}
        told = torch.full((len(texts), self.length), NO_TOKEN)
        for row, text in zip(told, texts, strict=True):
            numbers = rows[text][: self.length]
            row[: len(numbers)] = torch.tensor(numbers, dtype=torch.int64)
        return told

    def too_long(self, texts: Sequence[str]) -> int:
        """How many texts have more tokens than are heard."""
        longer = {text: len(self._numbers(text)) > self.length for text in dict.fromkeys(texts)}
        return sum(longer[text] for text in texts)

    def decode(self, numbers: Tensor) -> str:
        """The text of tokens (length,), as it is read."""
        return str(self._tokens.decode([number for number in numbers.tolist() if number != NO_TOKEN])).strip()

    def save(self, path: Path) -> None:
        """Write a file in the format of the ``tokenizers`` library; it appears whole."""
        write_text(path, self.to_json())

    def to_json(self) -> str:
        return str(self._tokens.to_str(pretty=False))

    @staticmethod
    def from_json(text: str, length: int, where: str) -> CaptionTokenizer:
        """What :meth:`to_json` tells.

        Args:
            text: JSON.
            length: most tokens of a text.
            where: what to call the source in an error.

        Raises:
            UserError: it is damaged.
        """
        from tokenizers import Tokenizer, models

        try:
            tokens = Tokenizer.from_str(text)
        except Exception as error:  # the library raises nothing more special
            raise UserError(f"{where} is damaged ({error}); restore it from a copy or train the model again") from None
        numbers = sorted(tokens.get_vocab().values())
        if not isinstance(tokens.model, models.BPE) or numbers != [*range(len(numbers))]:
            raise UserError(f"{where} is damaged: it holds no byte pairs of limner's; restore it from a copy")
        return CaptionTokenizer(tokens, length)

    @staticmethod
    def load(path: Path, length: int) -> CaptionTokenizer:
        """From a file, as :meth:`from_json`.

        Raises:
            UserError: it is missing or larger than any of ours, or as for :meth:`from_json`.
        """
        try:
            if path.stat().st_size > _FILE:
                raise UserError(f"{path} is larger than {_FILE // 2**20} MiB; it is not a file of limner")
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise UserError(f"{path} is missing: the model reads texts by it; restore it from a copy") from None
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
        except ValueError:
            raise UserError(f"{path} is damaged: it is no text; restore it from a copy") from None
        return CaptionTokenizer.from_json(text, length, str(path))

    def _numbers(self, text: str) -> list[int]:
        return list(self._tokens.encode(_clean(text, self.length)).ids)


def _clean(text: str, length: int) -> str:
    """The text with single spaces, without the half characters that UTF-8 cannot hold, and without what lies beyond all
    that so many tokens may stand for."""
    few = text[: _LONGEST * (length + 1)]
    return " ".join(few.encode("utf-8", "replace").decode("utf-8").split())


@dataclass(frozen=True)
class Reading:
    """How a training's captions are read.

    Attributes:
        tokenizer: of texts.
        prompts: some different captions, which the model draws in turn where nobody says what to draw.
    """

    tokenizer: CaptionTokenizer
    prompts: tuple[str, ...]


def some(captions: Sequence[str]) -> Sequence[str]:
    """At most 200,000 captions, evenly spaced."""
    return captions[:: max(1, math.ceil(len(captions) / _LEARNED))]


def remembered(captions: Sequence[str]) -> tuple[str, ...]:
    """Up to 64 different captions, evenly spaced among all that say something."""
    different = [*dict.fromkeys(text.strip() for text in captions if text.strip())]
    count = min(len(different), _REMEMBERED)
    return tuple(different[i * len(different) // count] for i in range(count))
