"""The objective of models that write, on a small network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from limner.contracts import Condition, ImageSpec
from limner.errors import UserError
from limner.models import DalleConfig
from limner.models.dalle import Dalle
from limner.objectives import AdamWConfig, Batch, CaptionedLikelihood, CaptionedLikelihoodConfig, Context
from limner.text import TextConfig

SPEC = ImageSpec(1, (2, 3), "tokens", codes=9)


def taught(**config: float) -> CaptionedLikelihood:
    torch.manual_seed(0)
    net = DalleConfig(width=16, depth=1, heads=2, text=TextConfig(300, 4)).autoregressor(SPEC, 0).double()
    for part in net.parameters():
        part.data += 0.2 * torch.randn_like(part)
    return CaptionedLikelihood(net, CaptionedLikelihoodConfig(**config), AdamWConfig(), SPEC)


def batch() -> Batch:
    text = torch.tensor([[5, 299, 7, 8], [6, -1, -1, -1], [-1, -1, -1, -1], [9, 10, -1, -1]])
    images = torch.arange(24).reshape(4, 6) % 9
    return Batch(images.double(), Condition(text=text), torch.arange(4))


def lost(objective: CaptionedLikelihood, given: Batch) -> dict[str, Tensor]:
    return objective.loss(given, Context(0, given.samples, "write", 0.0, dtype=torch.float64))


@torch.no_grad()
def test_it_is_what_the_paper_says() -> None:
    """An eighth of the texts' nats a token, each text alike, and seven eighths of the pictures'."""
    objective, given = taught(label_dropout=0.0), batch()
    assert isinstance(objective.autoregressor, Dalle)
    sites, words = objective.autoregressor.log_probs(given.images.long(), given.cond)
    text = -(words[0].sum() / 4 + words[1].sum() / 1 + words[3].sum() / 2) / 4
    found = lost(objective, given)
    torch.testing.assert_close(found["image"], -sites.mean())
    torch.testing.assert_close(found["text"], text)
    torch.testing.assert_close(found["loss"], 7 / 8 * found["image"] + text / 8)


@torch.no_grad()
def test_a_text_that_is_not_told_is_not_learned() -> None:
    given = batch()
    none = lost(taught(label_dropout=1.0), given)
    assert float(none["text"]) == 0
    free = lost(taught(label_dropout=0.0), Batch(given.images, Condition(), given.samples))
    torch.testing.assert_close(none["image"], free["image"])
    assert float(free["text"]) == 0


@torch.no_grad()
def test_what_is_not_told_is_made_up_for() -> None:
    """On average the text's part of the loss is that of all texts."""
    given = batch()
    many = Batch(given.images.repeat(500, 1), given.cond.index(torch.arange(4).repeat(500)), torch.arange(2000))
    all_told, some = (lost(taught(label_dropout=share), many)["text"] for share in (0.0, 0.3))
    torch.testing.assert_close(some, all_told, rtol=0.05, atol=0)
    assert float((some - all_told).abs()) > 0


@torch.no_grad()
def test_a_batch_may_be_cut() -> None:
    objective, given = taught(label_dropout=0.4), batch()
    whole = lost(objective, given)
    parts = [lost(objective, given.index(slice(*cut))) for cut in ((0, 1), (1, 4))]
    for name, value in whole.items():
        torch.testing.assert_close((parts[0][name] + 3 * parts[1][name]) / 4, value)


def test_its_share_is_a_share() -> None:
    with pytest.raises(UserError, match=r"objective\.text-share is 2"):
        CaptionedLikelihoodConfig(text_share=2)
