"""DALL-E (Ramesh et al. 2021, *Zero-shot text-to-image generation*): the tokens of a text and then those of a picture,
in one sequence of one causal transformer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from limner.contracts import Captioned, Condition, ImageSpec
from limner.distributions import Categorical
from limner.models.attention import attend
from limner.models.dit import turned
from limner.models.gpt import GPT
from limner.models.layers import Pointwise, wide, zeroed
from limner.models.transformer import Attention, Memory, TokenState, TransformerConfig, surprise
from limner.text import NO_TOKEN, TextConfig


@dataclass(frozen=True)
class DalleConfig(TransformerConfig):
    """Shape of a causal transformer that hears a text first.

    Attributes:
        text: how many text tokens there are, and how many a text has; a training makes that of what its captions hold.
    """

    text: TextConfig = field(default_factory=TextConfig)
    kind: Literal["dalle"] = "dalle"

    def autoregressor(self, spec: ImageSpec, classes: int) -> Dalle:
        return Dalle(self, spec, classes)


class Dalle(GPT, Captioned):
    """Tokens (N, T) of pictures as :class:`GPT` has them, behind those of their texts.

    A text has as many places as the longest one; where it has no token, each place has an embedding of its own (section
    2.2 of the paper). What is told of a text is no site: it is read in one pass before the first of these.

    Args:
        config: its shape.
        spec: of one map of tokens.
        classes: number of labels, which may be told beside texts; 0 for none.
    """

    def __init__(self, config: DalleConfig, spec: ImageSpec, classes: int) -> None:
        super().__init__(config, spec, classes)
        self.length = config.text.length
        self.read = nn.Embedding(config.text.vocabulary, self.dim)
        nn.init.normal_(self.read.weight, std=0.1)
        self.missing = nn.Parameter(0.02 * torch.randn(self.length, self.dim))
        self.text_places = nn.Parameter(0.02 * torch.randn(self.length, self.dim))
        self.text_head = zeroed(Pointwise(self.dim, config.text.vocabulary))

    def log_probs(self, values: Tensor, cond: Condition) -> tuple[Tensor, Tensor]:
        x = self.through(values, cond)
        words = wide(self.text_head(self.norm(x[:, : self.length])))
        text = self._text(cond, len(values))
        return -surprise(self._head(x[:, self.length :]), values), -surprise(words, text, none=NO_TOKEN)

    def heard(self, values: Tensor, cond: Condition) -> Tensor:
        """Texts and then values, (N, L + T, D): what the first L say is of texts."""
        return torch.cat([self._told(self._text(cond, len(values))), self.embed(values[:, :-1])], dim=1)

    def placed(self) -> Tensor:
        return torch.cat([self.text_places, super().placed()])

    def turns(self) -> Tensor:
        """A text lies along the diagonal that leads to the picture's first pixel."""
        before = torch.arange(-self.length, 0, device=self.start.device, dtype=torch.float32)
        return torch.cat([turned(before, before, self.dim // self.heads)[:, None, None], super().turns()])

    def init_state(self, n: int, cond: Condition) -> tuple[TokenState, Categorical]:
        state = self._begun(n, cond)
        x = self._told(self._text(cond, n))
        state.place = x.shape[1]
        x = x + state.placed[: state.place]
        if state.label is not None:
            x = x + state.label
        for block, memory in zip(self.blocks, state.memories, strict=True):
            x = block(x, state.turns[: state.place], _keeping(memory))
        return state, Categorical(self._head(x[:, -1:]))

    def _told(self, text: Tensor) -> Tensor:
        """The beginning of all, and texts (N, L): (N, L + 1, D)."""
        words = torch.where((text == NO_TOKEN)[..., None], self.missing, self.read(text.clamp_min(0)))
        return torch.cat([self.start.expand(len(text), 1, -1), words], dim=1)

    def _text(self, cond: Condition, n: int) -> Tensor:
        """(N, L) tokens."""
        none = (n, self.length)
        return torch.full(none, NO_TOKEN, device=self.start.device) if cond.text is None else cond.text


def _keeping(memory: Memory) -> Attention:
    """Attention of the first tokens to those up to themselves, whose keys and values are kept."""

    def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        memory.keys[:, :, : key.shape[2]], memory.values[:, :, : key.shape[2]] = key, value
        return attend(query, key, value, causal=True)

    return attention
