"""Sets that have a name, and how their files are found: cache, then the mirror folder, then a checked download."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from limner.downloads import check as check
from limner.downloads import download as download
from limner.errors import UserError, nearest

MIRROR = "LIMNER_MIRROR"
_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist"
_FASHION = "https://storage.googleapis.com/tensorflow/tf-keras-datasets"
_CLOTHES = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"


@dataclass(frozen=True)
class Part:
    """One file of a set.

    Attributes:
        mirror: its path below the mirror folder.
        sha256: of the mirror's file.
        url: where it can be had, https; "" if there is no place that is sure to last.
        url_sha256: of that file, where its compression differs from the mirror's.
        size: of that file, in bytes; a download never takes more.
    """

    mirror: str
    sha256: str
    url: str = ""
    url_sha256: str = ""
    size: int = 0


@dataclass(frozen=True)
class Entry:
    """A set of the catalogue. ``parts[0]`` holds the pictures; ``captions`` is a JSON-lines file of captions."""

    parts: tuple[Part, ...]
    licence: str
    labels: tuple[str, ...] = ()
    captions: Part | None = None
    mirror_ok: bool = False
    note: str = ""


CATALOGUE: dict[str, Entry] = {
    "mnist": Entry(
        parts=(
            Part(
                "mnist/train-images-idx3-ubyte.gz",
                "7ff28fd295f802eefc6d40e461175dfe4b969b1842b2abc8c6dc8c20711cf79f",
                f"{_MNIST}/train-images-idx3-ubyte.gz",
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                9_912_422,
            ),
            Part(
                "mnist/train-labels-idx1-ubyte.gz",
                "81a978ae83d39ffdba0db3ce2fcaf80a8921e9629e874428996a2b03242d4b2a",
                f"{_MNIST}/train-labels-idx1-ubyte.gz",
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                28_881,
            ),
        ),
        licence="CC BY-SA 3.0",
    ),
    "fashion-mnist": Entry(
        parts=(
            Part(
                "fashion-mnist/train20k-images-idx3-ubyte.gz",
                "41148e71f4f4e7b99b7cad4008b0701370947b18a5c8afc0e8b291d052541085",
                f"{_FASHION}/train-images-idx3-ubyte.gz",
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                26_421_880,
            ),
            Part(
                "fashion-mnist/train20k-labels-idx1-ubyte.gz",
                "2e4663cb9a460a40410bfba2b54099783135e94cf0ad923a3684f5f152d95801",
                f"{_FASHION}/train-labels-idx1-ubyte.gz",
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                29_515,
            ),
        ),
        licence="MIT",
        labels=tuple(_CLOTHES.split(",")),
        mirror_ok=True,
    ),
    "cifar10": Entry(
        parts=(Part("cifar10/train10k.zip", "abeb1e2756ac00ad076a4490142f12999dc22b7e899899c2a54b8f9c62d22842"),),
        licence="none stated",
        mirror_ok=True,
        note="10,000 of the 50,000 training pictures",
    ),
    "emoji": Entry(
        parts=(Part("emoji/noto72.zip", "d991100ef14448359efe23acf3424f11a6c679e53380a7891b6257b7521de887"),),
        licence="Apache-2.0",
        captions=Part("emoji/captions.jsonl", "c35d42b940712240c103d26362963b8ff392a48c0e6dc9fd4490b847d4ca1432"),
    ),
    "crawl-tiles": Entry(
        parts=(Part("crawl_tiles/nov2015.zip", "7a43417ba57b7332db0d83e2c83cb58df4a0f2b541f7bc57eea967439a2b7a7d"),),
        licence="CC0",
        mirror_ok=True,
    ),
    "facades": Entry(
        parts=(Part("facades/pairs128.zip", "f4e029d47b05392f515f824ae2765f60f088724a6aa4e82645d9c210b12d4280"),),
        licence="none stated",
        note="photo and label map side by side",
    ),
    "edges2shoes": Entry(
        parts=(Part("edges2shoes20/pairs.zip", "88342fd6abdaa37cd4eeaf398ab66f27e0b934b056356ab159eda46f3a3afdb8"),),
        licence="none stated",
        note="edges and photo side by side",
    ),
    "summer2winter": Entry(
        parts=(Part("summer2winter/128.zip", "4048f3c3f07752853ad5a60cc1dbf724d0c111e2bfd574328102fec8aacd72b5"),),
        licence="none stated",
        labels=("summer", "winter"),
        mirror_ok=True,
    ),
    "flowers": Entry(
        parts=(Part("flowers/train96.zip", "0a4d8777b785e3dd510a648a8d70bf0a62420340a653af02b7084e482a26e515"),),
        licence="CC BY",
        mirror_ok=True,
    ),
    "orl": Entry(
        parts=(Part("orl_s2-32.zip", "10da5c968c9749888d389cd5321bbfcc1b97eed99bc3abc0b283805c159d39b1"),),
        licence="none stated",
        mirror_ok=True,
    ),
    "pneumonia": Entry(
        parts=(
            Part("pneumoniamnist_trainval.npz", "36af7ab24fe5c645fb8db681b21f32bac2734346a3d40cd9443396af2d91ed49"),
        ),
        licence="CC BY 4.0",
        labels=("normal", "pneumonia"),
    ),
}


def catalogue(name: str) -> Entry:
    """The row of a name; a UserError with the nearest name if there is none."""
    if name not in CATALOGUE:
        raise UserError(f"no data at '{name}', and no set of that name{nearest(name, CATALOGUE)}")
    return CATALOGUE[name]


@dataclass(frozen=True)
class Located:
    """The files of a set on this machine, pictures first, captions last, and the SHA-256 that each must have."""

    entry: Entry
    files: tuple[tuple[Path, str], ...]

    def check(self) -> None:
        """A UserError if a file is not the one that the catalogue knows."""
        for path, sha256 in self.files:
            check(path, sha256)


def locate(name: str, folder: Path) -> Located:
    """Find the files of a set, or download them to ``folder / name``; :meth:`Located.check` them before use."""
    entry = catalogue(name)
    parts = [*entry.parts, *([entry.captions] if entry.captions else [])]
    kept = tuple((folder / name / part.mirror.rpartition("/")[2], part.url_sha256) for part in parts)
    if all(path.is_file() for path, _ in kept):  # whole sets only: pictures and labels must be of one edition
        return Located(entry, kept)
    root = os.environ.get(MIRROR, "")
    mirrored = tuple((Path(root) / part.mirror, part.sha256) for part in parts)
    if root and all(path.is_file() for path, _ in mirrored):
        note = "20,000 of the 60,000 pictures" if "train20k" in parts[0].mirror else entry.note
        return Located(replace(entry, note=note), mirrored)
    if not all(part.url for part in parts):
        where = f"the folder that {MIRROR} names" + (f" ('{root}')" if root else " (it is not set)")
        raise UserError(f"'{name}' has no public download here; put {parts[0].mirror} into {where}")
    for part, (path, sha256) in zip(parts, kept, strict=True):
        if not path.is_file():
            download(part.url, path, sha256, part.size)
    return Located(entry, kept)
