"""The captions of a run's pictures: what they are read by, learned once and kept in the run's folder."""

from __future__ import annotations

import sys
from pathlib import Path

from limner.data import Dataset
from limner.data.stream import Stream
from limner.distributed import World
from limner.errors import UserError
from limner.text import CaptionTokenizer, Reading, remembered, some
from limner.training.job import Recipe
from limner.training.snapshot import TEXT


def reading_of(
    recipe: Recipe, dataset: Dataset, world: World, *, run: Path | None = None, show: bool = True
) -> Reading | None:
    """How the recipe reads these pictures' captions; None where it does not.

    Args:
        recipe: all settings.
        dataset: the pictures.
        world: the processes; the first one learns the tokens.
        run: the folder of a run that goes on, by whose tokens captions are read.
        show: say on standard error how many captions are cut.

    Raises:
        UserError: there are no captions, or the run's tokens are missing or damaged.
    """
    config = recipe.reads()
    if config is None:
        return None
    captions = dataset.captions
    if captions is None or not any(map(str.strip, captions)):
        raise UserError(_none(recipe.recipe, dataset))
    known = captions

    def learned() -> str:
        tokenizer = CaptionTokenizer.learned(known, config)
        cut = tokenizer.too_long(some(known))
        if cut and show:
            print(
                f"{cut:,} of {len(some(known)):,} captions have more than {config.length} tokens: what lies beyond is "
                "cut; --net.text.length is how many are heard",
                file=sys.stderr,
            )
        return tokenizer.to_json()

    def kept() -> str:
        assert run is not None
        return CaptionTokenizer.load(run / TEXT, config.length).to_json()

    # Learned once: another version of the library might learn other tokens.
    text: str = world.lead(learned if run is None else kept)
    tokenizer = CaptionTokenizer.from_json(text, config.length, TEXT)
    return Reading(tokenizer.fitted(known), remembered(known))


def _none(recipe: str, dataset: Dataset) -> str:
    source = dataset.report.source
    if isinstance(dataset.feed, Stream):
        return (
            f"{recipe} learns pictures with captions, and those of {source} are left out because it is decoded as it "
            "goes: give --data.stream off"
        )
    return (
        f"{recipe} learns pictures with captions, and {source} has none: put a metadata.jsonl with lines such as "
        '{"file_name": "1.png", "text": "a red circle"} beside the pictures, or a .txt beside each'
    )
