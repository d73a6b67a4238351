"""limner: train, sample, edit with, judge and serve image generators of every family.

The words of the command line are the functions of this module::

    import limner

    run = limner.train("flow", "mnist", minutes=3)
    model = limner.load(run.folder)
    pictures = limner.sample(model, 16, seed=0)
    report = limner.evaluate(limner.sample(model, 1000), limner.open_dataset("mnist"))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from limner import began as _began  # noqa: F401 - as early as can be

if TYPE_CHECKING:
    from limner.comparison import compare
    from limner.contracts import Condition, DecodeConfig, ExtendConfig, ImageSpec, Level, Model, RefineConfig
    from limner.data import DataConfig, Dataset, open_dataset
    from limner.distributed import join
    from limner.errors import UserError
    from limner.features import load_extractor
    from limner.latents import along, invert_pictures, label_direction, semantic_directions, walk
    from limner.metrics import evaluate
    from limner.probing import probe
    from limner.recipes import recipe, resume, train
    from limner.sampling import complete, log_likelihood, sample
    from limner.training.snapshot import load

#: Where each name comes from; it is imported when it is first used, so that ``import limner`` costs little.
_HOMES = {
    "Condition": "limner.contracts",
    "DataConfig": "limner.data",
    "Dataset": "limner.data",
    "DecodeConfig": "limner.contracts",
    "ExtendConfig": "limner.contracts",
    "ImageSpec": "limner.contracts",
    "Level": "limner.contracts",
    "Model": "limner.contracts",
    "RefineConfig": "limner.contracts",
    "UserError": "limner.errors",
    "along": "limner.latents",
    "compare": "limner.comparison",
    "complete": "limner.sampling",
    "evaluate": "limner.metrics",
    "invert_pictures": "limner.latents",
    "join": "limner.distributed",
    "label_direction": "limner.latents",
    "load": "limner.training.snapshot",
    "load_extractor": "limner.features",
    "log_likelihood": "limner.sampling",
    "open_dataset": "limner.data",
    "probe": "limner.probing",
    "recipe": "limner.recipes",
    "resume": "limner.recipes",
    "sample": "limner.sampling",
    "semantic_directions": "limner.latents",
    "train": "limner.recipes",
    "walk": "limner.latents",
}

__all__ = [
    "Condition",
    "DataConfig",
    "Dataset",
    "DecodeConfig",
    "ExtendConfig",
    "ImageSpec",
    "Level",
    "Model",
    "RefineConfig",
    "UserError",
    "along",
    "compare",
    "complete",
    "evaluate",
    "invert_pictures",
    "join",
    "label_direction",
    "load",
    "load_extractor",
    "log_likelihood",
    "open_dataset",
    "probe",
    "recipe",
    "resume",
    "sample",
    "semantic_directions",
    "train",
    "walk",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'limner' has no attribute '{name}'")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
