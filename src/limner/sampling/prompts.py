"""What samples are steered by: classes, or texts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from limner.contracts import Condition, Model
from limner.errors import UserError, nearest

Label = int | str | list[int] | None
Prompt = str | Sequence[str] | None


def condition_for(model: Model, n: int, label: Label, prompt: Prompt, first: int = 0) -> Condition:
    """The condition of the n samples from number ``first`` on: of a model that reads texts one text for all, one each,
    or (None) those that it remembers in turn; of others as :func:`labels_for` has it.

    Raises:
        UserError: the model does not know such a thing, or a text says nothing.
    """
    if model.text is None:
        if prompt is not None:
            raise UserError("this model was trained without captions; leave --prompt out")
        return labels_for(model, n, label, first)
    if label is not None:
        raise UserError("this model draws what a text says and knows no classes: give --prompt instead of --label")
    return Condition(text=model.text.encode(_texts(model, n, prompt, first)))


def told_texts(model: Model, texts: Sequence[str]) -> Tensor:
    """The tokens (N, L) of the captions of pictures, of which some may be empty.

    Raises:
        UserError: the model reads no texts.
    """
    if model.text is None:
        raise UserError("this model was trained without captions; leave them out")
    return model.text.encode(texts)


def _texts(model: Model, n: int, prompt: Prompt, first: int) -> list[str]:
    if prompt is None:
        known = model.prompts or ("",)
        return [known[i % len(known)] for i in range(first, first + n)]
    wanted = [prompt] * n if isinstance(prompt, str) else [*prompt]
    if len(wanted) != n:
        raise UserError(f"{len(wanted)} prompts for {n} samples; give one, or one for each")
    if not all(map(str.strip, wanted)):
        raise UserError("the prompt is empty: say what the pictures are to show, or leave --prompt out")
    return wanted


def labels_for(model: Model, n: int, label: Label, first: int = 0) -> Condition:
    """The condition of the n samples from number ``first`` on: one label for all, one each, or (None) the classes in
    turn.

    Raises:
        UserError: the model has no classes, or not that one.
    """
    if not model.labels:
        if label is not None:
            raise UserError("this model was trained without labels; leave --label out")
        return Condition()
    if label is None:
        return Condition(label=torch.arange(first, first + n) % len(model.labels))
    wanted = label if isinstance(label, list) else [label] * n
    if len(wanted) != n:
        raise UserError(f"{len(wanted)} labels for {n} samples; give one, or one for each")
    return Condition(label=torch.tensor([_number(model.labels, one) for one in wanted]))


def _number(labels: tuple[str, ...], label: int | str) -> int:
    if isinstance(label, str) and label in labels:
        return labels.index(label)
    try:
        number = int(label)
    except ValueError:
        raise UserError(f"label '{label}' is unknown{nearest(str(label), labels)}") from None
    if not 0 <= number < len(labels):
        raise UserError(f"label {label} is out of range; this model has {len(labels)} classes, 0 to {len(labels) - 1}")
    return number
