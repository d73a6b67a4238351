"""The commands that ask a model for more than samples: what its codes are, what a codec gives back, how pictures could
go on; as those of :mod:`limner.commands`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from limner.commands import Outcome, may_write, measure_lines
from limner.contracts import Codec
from limner.data import DataConfig
from limner.data.config import Plan
from limner.data.decode import decode
from limner.data.levels import Pixels
from limner.data.sources import MAX_FILE, PictureError
from limner.distributed import join
from limner.errors import UserError, within
from limner.features import classify, load_extractor
from limner.features.extractor import as_tensor
from limner.files import expanded, write_whole
from limner.judging import as_drawn, captions_of, numbers_of
from limner.latents import along, invert_pictures, label_direction, semantic_directions, walk
from limner.latents.codes import condition, drawn_styles, generator_of, synthesized
from limner.probing import probe as probed
from limner.sampling import complete as completed
from limner.sampling import to_pixels
from limner.sampling.draw import MOST
from limner.tensors import save_tensors
from limner.training.folders import refuse_taken
from limner.training.grids import grid, save_png
from limner.training.showing import fidelity, given_back
from limner.training.snapshot import load

#: Most frames of a walk, and milliseconds of each.
_FRAMES, _MILLISECONDS = 10_000, 80
#: Most pictures that are inverted together.
_MOST = 256
_GRID = {".png": "a .png"}


def interpolate(
    model: Path,
    between: tuple[int, ...],
    frames: int,
    how: str,
    label: str | None,
    seed: int,
    truncation: float | None,
    out: Path,
    overwrite: bool,
) -> Outcome:
    """Pictures on the way from one to the next."""
    may_write(out, overwrite, {".png": "a .png for rows of pictures", ".gif": "a .gif that moves"})
    within("frames", frames * len(between), 1, _FRAMES)
    images = walk(
        load(model, device=join().device),
        list(between),
        frames=frames,
        how=how,
        label=label,
        seed=seed,
        truncation=truncation,
    )
    if out.suffix.lower() == ".gif":
        _save_gif(images, out)
    else:
        rows = [images[first : first + frames + 1] for first in range(0, len(images) - 1, frames)]
        save_png(grid(np.concatenate(rows), columns=frames + 1), out)
    values = {"file": str(out), "pictures": len(images), "between": list(between), "how": how, "seed": seed}
    return Outcome((f"{len(images)} pictures between {', '.join(map(str, between))}: {out}",), values)


def directions(
    model: Path,
    count: int,
    kind: str | None,
    extractor: str,
    n: int,
    number: int,
    reach: float,
    frames: int,
    label: str | None,
    seed: int,
    out: Path,
    overwrite: bool,
) -> Outcome:
    """Ways in which a picture can change."""
    may_write(out, overwrite, _GRID)
    loaded = load(model, device=join().device)
    generator_of(loaded)
    if kind is None:
        found = semantic_directions(loaded, count)
        what = f"the {count} directions along which its layers change most"
    else:
        within("n", n, 16, 100_000)
        w = drawn_styles(loaded, list(range(n)), label, seed)
        images = to_pixels(synthesized(loaded, w, condition(loaded, n, label), 0, seed), loaded.spec.bits)
        eyes = load_extractor(extractor, shape=images.shape[1:])
        if kind not in eyes.classes:
            known = f"it knows {', '.join(eyes.classes[:12])}" if eyes.classes else "it names no classes"
            raise UserError(f"extractor '{extractor}' does not know the class '{kind}': {known}")
        there = torch.from_numpy(classify(eyes, images) == eyes.classes.index(kind))
        found = label_direction(w, there)[None]
        what = f"the direction to '{kind}', from {int(there.sum())} of {n:,} pictures"
    images = along(loaded, found, number=number, reach=reach, frames=frames, label=label, seed=seed)
    save_png(grid(images, columns=frames), out)
    return Outcome((f"{what}: {out}",), {"file": str(out), "directions": found.tolist(), "seed": seed})


def invert(
    model: Path,
    reference: DataConfig,
    n: int,
    space: Literal["w", "z"],
    steps: int,
    seed: int,
    out: Path,
    overwrite: bool,
) -> Outcome:
    """The codes of real pictures: the pictures beside what their codes draw, and the codes in a file of their own."""
    may_write(out, overwrite, _GRID)
    codes = out.with_suffix(".safetensors")
    if not overwrite:
        refuse_taken(codes, ", or add --overwrite")
    within("n", n, 1, _MOST)
    loaded = load(model, device=join().device)
    generator_of(loaded)
    if not reference.source:
        raise UserError("give the real pictures with --reference: a folder, a .zip, 'mnist', 'builtin:glyphs' …")
    real = as_drawn(loaded, reference)
    which = np.linspace(0, len(real) - 1, min(n, len(real))).astype(np.int64)
    label = None
    if loaded.labels:
        if real.label is None:
            raise UserError("this model draws classes, and the pictures have none; put them into folders, one a class")
        label = numbers_of(loaded, real.labels, real.label[which]).tolist()
    pictures = np.ascontiguousarray(real.images[which])
    found = invert_pictures(
        loaded, as_tensor(pictures, torch.device("cpu")) * 2 - 1, space=space, steps=steps, label=label, seed=seed
    )
    save_tensors(codes, {"w": found.w.cpu()})
    save_png(grid(_pairs(pictures, to_pixels(found.pictures, loaded.spec.bits)), columns=_across(len(which))), out)
    psnr = [round(value, 2) for value in found.psnr.tolist()]
    line = f"{len(which)} pictures and what their codes draw, {np.mean(psnr):.1f} dB on average: {out}; codes: {codes}"
    return Outcome((line,), {"file": str(out), "codes": str(codes), "psnr": psnr, "space": space, "seed": seed})


def reconstruct(model: Path, reference: DataConfig, n: int, out: Path, overwrite: bool) -> Outcome:
    """What a codec gives back of real pictures, beside them."""
    may_write(out, overwrite, _GRID)
    within("n", n, 2, _MOST)
    loaded = load(model, device=join().device)
    if not isinstance(loaded.net, Codec):
        raise UserError(
            "this model is no codec; train one with: limner train kl-codec, or find codes with limner invert"
        )
    if not reference.source:
        raise UserError("give the real pictures with --reference: a folder, a .zip, 'mnist', 'builtin:glyphs' …")
    real = as_drawn(loaded, reference)
    which = np.linspace(0, len(real) - 1, min(n, len(real))).astype(np.int64)
    pictures = np.ascontiguousarray(real.images[which])
    back = given_back(loaded, pictures)
    rows = fidelity(back, pictures, seed=0)
    save_png(grid(_pairs(pictures, back), columns=_across(len(which))), out)
    latents = loaded.net.latent_spec(loaded.spec)
    line = f"{len(which)} pictures and what comes back of them, by latents {latents.shape}: {out}"
    values = {"file": str(out), "latents": list(latents.shape), "measures": rows}
    return Outcome((line, *measure_lines(rows)), values)


def complete(
    model: Path,
    reference: DataConfig,
    n: int,
    ways: int,
    known: float,
    mask: Path | None,
    label: str | None,
    prompt: str | None,
    temperature: float | None,
    top_k: int | None,
    top_p: float | None,
    guidance: float | None,
    memory: float | None,
    seed: int,
    out: Path,
    overwrite: bool,
) -> Outcome:
    """Pictures of which a part is written anew: a row each, what is known of it, the ways, and the picture itself."""
    may_write(out, overwrite, _GRID)
    within("n", n, 1, _MOST)
    within("ways", ways, 1, 64)
    within("known", known, 0, 1)
    loaded = load(model, device=join().device)
    if not reference.source:
        raise UserError("give the real pictures with --reference: a folder, a .zip, 'mnist', 'builtin:glyphs' …")
    fresh = _below(known, loaded.spec.size) if mask is None else _mask(mask, loaded.spec.size)
    real = as_drawn(loaded, reference)
    which = np.linspace(0, len(real) - 1, min(n, len(real))).astype(np.int64)
    told: str | list[int] | None = label
    if label is None and loaded.labels and real.label is not None:
        told = numbers_of(loaded, real.labels, real.label[which]).tolist()
    own = captions_of(loaded, real, which)
    pictures = np.ascontiguousarray(real.images[which])
    done = completed(
        loaded,
        pictures,
        fresh,
        ways=ways,
        label=told,
        prompt=own if prompt is None and own and all(map(str.strip, own)) else prompt,
        seed=seed,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        guidance=guidance,
        memory=memory,
    )
    left = np.where(fresh[..., None], np.array(np.iinfo(pictures.dtype).max // 2, pictures.dtype), pictures)
    rows = np.concatenate([left[:, None], done.pictures, pictures[:, None]], axis=1)
    save_png(grid(rows.reshape(-1, *pictures.shape[1:]), columns=ways + 2), out)
    lines = [f"{len(which)} pictures, {fresh.mean():.0%} of each written anew in {ways} ways: {out}"]
    if done.tokens:
        lines.append(
            f"  it writes tokens: {done.kept} of a picture's {done.tokens}, which stand for known pixels alone, were "
            "kept, and known pixels were put back after the codec; where they end there may be a seam"
        )
    if done.unseen:
        lines.append(
            f"  {done.unseen:.0%} of what is known lies after the first {'token' if done.tokens else 'pixel'} that is "
            "written: a model that writes in order has not seen that, and what it writes need not fit it"
        )
    values = {"file": str(out), "ways": ways, "unseen": done.unseen, "seed": seed}
    return Outcome(tuple(lines), values | {"kept": done.kept, "tokens": done.tokens})


def probe(model: Path, data: DataConfig, n: int, seed: int, penalty: float) -> Outcome:
    """How well the classes of pictures can be read off every layer: a line each, and one of the pixels."""
    if not data.source:
        raise UserError("give pictures with classes with --data: a folder (class = sub-folder), 'mnist' …")
    within("n", n, 1, MOST)
    loaded = load(model, device=join().device)
    found = probed(loaded, as_drawn(loaded, data), n=n, seed=seed, penalty=penalty)
    rows = (*found.layers, found.pixels)
    width = max(len(row.name) for row in rows)
    lines = [f"accuracy of a linear classifier, fitted to {found.trained:,} pictures, on {found.held:,} others"]
    lines += [f"  {row.name:<{width}}  {row.accuracy:.3f}  [{row.low:.3f}, {row.high:.3f}]" for row in rows]
    lines.append(
        f"best: {found.best.name}, {found.best.accuracy:.3f}; the pixels themselves {found.pixels.accuracy:.3f}"
    )
    values = {"layers": [asdict(row) for row in found.layers], "pixels": asdict(found.pixels), "best": found.best.name}
    counts = {"trained": found.trained, "held": found.held, "seed": seed, "penalty": penalty}
    return Outcome(tuple(lines), values | counts)


def _below(known: float, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """True below the share of the rows that is known."""
    return np.repeat(np.arange(size[0]) >= round(known * size[0]), size[1]).reshape(size)


def _mask(path: Path, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """True where a picture file is white.

    Raises:
        UserError: it cannot be read, or has another size.
    """
    try:
        with expanded(path).open("rb") as file:
            pixels, header = decode(file.read(MAX_FILE), Plan(size, "L", "stretch", (255, 255, 255)))
    except (OSError, PictureError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"cannot read the mask '{path}': {reason}") from error
    if (header.height, header.width) != size:
        raise UserError(f"the mask '{path}' is {header.height}x{header.width}; the pictures are {size[0]}x{size[1]}")
    white: npt.NDArray[np.bool_] = pixels[..., 0] >= 128
    return white


def _across(n: int) -> int:
    """Pictures in a row of a grid of pairs."""
    return min(n, 8)


def _pairs(pictures: Pixels, found: Pixels) -> Pixels:
    """Rows of pictures, each above a row of what was found; the last rows are filled up with black."""
    across = _across(len(pictures))
    rows = []
    for first in range(0, len(pictures), across):
        for part in (pictures, found):
            row = part[first : first + across]
            rows.append(np.concatenate([row, np.zeros((across - len(row), *row.shape[1:]), row.dtype)]))
    return np.concatenate(rows)


def _save_gif(images: Pixels, path: Path) -> None:
    """A moving picture that comes back and begins again."""
    frames = [grid(one[None], gap=0) for one in (*images, *images[-2:0:-1])]

    def save(temporary: Path) -> None:
        frames[0].save(temporary, format="GIF", save_all=True, append_images=frames[1:], duration=_MILLISECONDS, loop=0)

    write_whole(path, save)
