"""Recipes: one readable function each, from a size to all settings of a training."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from limner.config import from_json
from limner.data import DataConfig
from limner.errors import UserError, nearest
from limner.recipes.biggan import biggan
from limner.recipes.codec import KLCodecRecipe, PaletteRecipe, VQCodecRecipe
from limner.recipes.consistency import consistency
from limner.recipes.dalle import dalle
from limner.recipes.dcgan import dcgan
from limner.recipes.ddpm import ddpm
from limner.recipes.decode import AdversarialRecipe, DriftRecipe, VAERecipe
from limner.recipes.dit import dit
from limner.recipes.drift import drift
from limner.recipes.edm import edm
from limner.recipes.extend import CaptionedRecipe, ExtendRecipe, ScaleRecipe, TokenRecipe
from limner.recipes.few_steps import FlowMapRecipe
from limner.recipes.flow import flow
from limner.recipes.imagegpt import imagegpt
from limner.recipes.kl_codec import kl_codec
from limner.recipes.palette import palette
from limner.recipes.pixelcnn import pixelcnn
from limner.recipes.pixelcnn_pp import pixelcnn_pp
from limner.recipes.r3gan import r3gan
from limner.recipes.refine import RefineRecipe
from limner.recipes.sagan import sagan
from limner.recipes.sizes import SIZES, Size, size_for
from limner.recipes.stylegan2 import stylegan2
from limner.recipes.vae import vae
from limner.recipes.var import var
from limner.recipes.vq_codec import vq_codec
from limner.recipes.vqgpt import vqgpt
from limner.recipes.wgan import wgan
from limner.recipes.wgan_gp import wgan_gp
from limner.training.config import Budget
from limner.training.folders import RECIPE
from limner.training.run import RunResult, start
from limner.training.run import resume as _resume

AnyRecipe = (
    RefineRecipe
    | FlowMapRecipe
    | ExtendRecipe
    | TokenRecipe
    | ScaleRecipe
    | CaptionedRecipe
    | AdversarialRecipe
    | DriftRecipe
    | VAERecipe
    | KLCodecRecipe
    | VQCodecRecipe
    | PaletteRecipe
)
RECIPES: dict[str, Callable[[Size], AnyRecipe]] = {
    "flow": flow,
    "edm": edm,
    "ddpm": ddpm,
    "dit": dit,
    "consistency": consistency,
    "pixelcnn": pixelcnn,
    "pixelcnn++": pixelcnn_pp,
    "imagegpt": imagegpt,
    "vqgpt": vqgpt,
    "var": var,
    "dalle": dalle,
    "vae": vae,
    "dcgan": dcgan,
    "wgan": wgan,
    "wgan-gp": wgan_gp,
    "sagan": sagan,
    "biggan": biggan,
    "stylegan2": stylegan2,
    "r3gan": r3gan,
    "drift": drift,
    "kl-codec": kl_codec,
    "vq-codec": vq_codec,
    "palette": palette,
}
#: The budget of those who name none.
DEFAULT_MINUTES = 5.0
#: Where runs go that are given no name.
RUNS = Path("runs")

__all__ = [
    "RECIPES",
    "SIZES",
    "AdversarialRecipe",
    "AnyRecipe",
    "CaptionedRecipe",
    "DriftRecipe",
    "ExtendRecipe",
    "FlowMapRecipe",
    "KLCodecRecipe",
    "PaletteRecipe",
    "RefineRecipe",
    "ScaleRecipe",
    "Size",
    "TokenRecipe",
    "VAERecipe",
    "VQCodecRecipe",
    "biggan",
    "consistency",
    "dalle",
    "dcgan",
    "ddpm",
    "dit",
    "drift",
    "edm",
    "flow",
    "imagegpt",
    "kl_codec",
    "numbered",
    "palette",
    "pixelcnn",
    "pixelcnn_pp",
    "r3gan",
    "recipe",
    "resume",
    "sagan",
    "size_for",
    "stylegan2",
    "train",
    "vae",
    "var",
    "vq_codec",
    "vqgpt",
    "wgan",
    "wgan_gp",
]


def recipe(name: str, size: str = "small") -> AnyRecipe:
    """The settings of a recipe.

    Raises:
        UserError: an unknown recipe or size.
    """
    if name not in RECIPES:
        raise UserError(f"unknown recipe '{name}'{nearest(name, RECIPES)}")
    for known in SIZES:
        if size == known:
            return RECIPES[name](known)
    raise UserError(f"unknown size '{size}'{nearest(size, SIZES)}")


def train(
    chosen: AnyRecipe | str,
    data: DataConfig | str,
    *,
    out: Path | str | Iterable[Path] | None = None,
    minutes: float | None = None,
    images: int | None = None,
    cache: Path | None = None,
    show: bool = True,
    began: float | None = None,
) -> RunResult:
    """Train a generator.

    Args:
        chosen: a recipe's settings, or its name, which takes the size that suits the minutes.
        data: the pictures' settings, or just their source.
        out: the run's folder, which must be new or empty; of several, the first that is. ``runs/RECIPE-DATA-NUMBER`` by
            default.
        minutes, images: the budget, one of them; 5 minutes if neither is given.
        cache, show, began: see :func:`limner.training.run.start`.

    Raises:
        UserError: anything the user can put right.
    """
    budget = Budget(DEFAULT_MINUTES) if minutes is None and images is None else Budget(minutes, images)
    settings = recipe(chosen, size_for(budget.minutes)) if isinstance(chosen, str) else chosen
    source = DataConfig(data) if isinstance(data, str) else data
    name = f"{settings.recipe}-{_word(source.source)}"
    place = numbered(name) if out is None else Path(out) if isinstance(out, str) else out
    return start(settings, source, place, budget, cache=cache, show=show, began=began)


def resume(folder: Path | str, *, cache: Path | None = None, show: bool = True) -> RunResult:
    """Take an interrupted run up again; see :func:`limner.training.run.resume`."""
    return _resume(Path(folder), _read, cache=cache, show=show)


def _read(name: str, plain: Any) -> AnyRecipe:
    if name not in RECIPES:
        raise UserError(f"the run has the recipe '{name}', which this limner does not know{nearest(name, RECIPES)}")
    return from_json(type(RECIPES[name]("tiny")), plain, RECIPE)


def numbered(name: str, first: int = 1) -> Iterator[Path]:
    """Where runs of that name go: ``runs/NAME-1`` and so on."""
    return (RUNS / f"{name}-{number}" for number in itertools.count(first))


def _word(source: str) -> str:
    """What the pictures are called in a run's name."""
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in Path(source.split("?")[0]).stem).strip("-")
