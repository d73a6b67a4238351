"""DICOM files: grey, RGB and palette pictures of up to 16 bits a sample. pydicom (extra ``medical``) reads them.

Grey is shown by one of three windows. "full" maps the whole range that the file's bits can hold linearly onto that of
the picture, so that every stored level stays one and the way back is exact. "file" is the window that the file names
first, and CENTRE/WIDTH one for all files, in the units that the file's rescale slope and intercept lead to (Hounsfield
units of a CT). Colour has no window. Of several frames the first is taken.
What pydicom raises over odd values, ``decode`` makes a reason of.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from limner.data.coded import check_coded
from limner.data.headers import Header, bound, reason
from limner.data.levels import DTYPES, Pixels
from limner.data.sources import PictureError
from limner.errors import missing

if TYPE_CHECKING:
    from pydicom import Dataset

START = 132  # bytes that tell a DICOM file
_GREY = ("MONOCHROME1", "MONOCHROME2")
_PALETTE = "PALETTE COLOR"
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT")
_DEFLATED = "1.2.840.10008.1.2.1.99"

Values = npt.NDArray[Any]


def matches(start: bytes) -> bool:
    """Whether a file that starts with these bytes is DICOM (PS3.10, section 7.1)."""
    return start[128:START] == b"DICM"


def header(file: BinaryIO) -> Header:
    """What the file says of its picture. Raises :class:`PictureError`, or UserError if pydicom is missing."""
    return _Picture.of(_dataset(file, pixels=False)).header


def read(data: bytes, window: str) -> tuple[Pixels, Header]:
    """The first picture of a file, (H, W, C) with C = 1 or 3, uint8 up to 8 stored bits and uint16 above.

    Args:
        data: the file.
        window: "full", "file" or "CENTRE/WIDTH".

    Raises:
        PictureError: it cannot be decoded, and why.
        UserError: pydicom is missing.
    """
    dataset = _dataset(io.BytesIO(data), pixels=True)
    picture = _Picture.of(dataset)
    values = _decoded(dataset, picture)
    if picture.photometric == _PALETTE:
        return _palette(values, dataset), picture.header
    if picture.photometric not in _GREY:
        return picture.whole(picture.counted(values)), picture.header
    grey = _windowed(values, dataset, picture, window)
    top = np.iinfo(grey.dtype).max
    return (top - grey if picture.photometric == "MONOCHROME1" else grey)[..., None], picture.header


@dataclass(frozen=True)
class _Picture:
    """What decides how a file's pixels are read (PS3.3, section C.7.6.3)."""

    rows: int
    columns: int
    samples: int
    photometric: str
    allocated: int
    stored: int
    signed: bool
    frames: int

    @staticmethod
    def of(dataset: Dataset) -> _Picture:
        """Raises :class:`PictureError` for what is no picture of up to 16 bits."""
        if "Rows" not in dataset or "Columns" not in dataset:
            raise PictureError("a DICOM file without a picture")
        try:
            picture = _Picture(
                rows=int(dataset.Rows),
                columns=int(dataset.Columns),
                samples=int(dataset.get("SamplesPerPixel", 1)),
                photometric=str(dataset.PhotometricInterpretation),
                allocated=int(dataset.BitsAllocated),
                stored=int(dataset.BitsStored),
                signed=bool(dataset.get("PixelRepresentation", 0)),
                frames=int(dataset.get("NumberOfFrames", 1) or 1),
            )
            high = int(dataset.get("HighBit", picture.stored - 1))
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            raise PictureError(reason(error)) from error
        if min(picture.rows, picture.columns) < 1:
            raise PictureError(f"a picture of {picture.columns} x {picture.rows} pixels")
        if picture.allocated > 16:
            kind = f", modality {dataset.Modality}" if dataset.get("Modality") else ""
            raise PictureError(f"{picture.allocated}-bit pixels{kind}; pictures have up to 16 bits")
        known = picture.photometric in (*_GREY, _PALETTE, *_COLOURS)
        fits = picture.samples == (3 if picture.photometric in _COLOURS else 1)
        if not known or not fits:
            raise PictureError(f"{picture.samples} samples of {picture.photometric[:40]!r}, which are not read")
        if not 1 <= picture.stored <= picture.allocated or high != picture.stored - 1:
            raise PictureError(f"its {picture.stored} bits do not lie at the low end of {picture.allocated}")
        bound(picture.columns, picture.rows)
        return picture

    @property
    def header(self) -> Header:
        deep = self.stored > 8 and self.photometric != _PALETTE
        return Header(self.rows, self.columns, self.photometric in _GREY, False, deep, self.frames > 1)

    @property
    def levels(self) -> int:
        """The largest stored value, counted from the smallest."""
        return int(2**self.stored - 1)

    def counted(self, values: Values) -> npt.NDArray[np.int64]:
        """Stored values, counted from the smallest that the bits can hold; bits beyond the stored ones are cut off."""
        lowest = 2 ** (self.stored - 1) if self.signed else 0
        return (values.astype(np.int64) + lowest) & self.levels

    def whole(self, counted: npt.NDArray[np.int64]) -> Pixels:
        """0 to ``levels`` linearly onto 0 to 255 or to 65,535: exact, for the picture has at least as many levels."""
        kind = DTYPES[16 if self.stored > 8 else 8]
        top = int(np.iinfo(kind).max)
        return ((counted * (2 * top) + self.levels) // (2 * self.levels)).astype(kind)

    def part(self, shares: npt.NDArray[np.float64]) -> Pixels:
        """0 to 1 onto 0 to 255 or to 65,535."""
        kind = DTYPES[16 if self.stored > 8 else 8]
        return np.rint(shares.clip(0, 1) * float(np.iinfo(kind).max)).astype(kind)


def _dataset(file: BinaryIO, *, pixels: bool) -> Dataset:
    try:
        from pydicom import dcmread
        from pydicom.filereader import read_dataset
    except ImportError:
        raise missing("DICOM files", "medical") from None
    try:
        file.seek(START)
        about = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
        if str(about.get("TransferSyntaxUID", "")) == _DEFLATED:  # pydicom would unpack it without a bound
            raise PictureError("deflated as a whole, which is not read")
        file.seek(0)
        return dcmread(file, stop_before_pixels=not pixels)
    except PictureError:
        raise
    except Exception as error:
        raise PictureError(reason(error)) from error


def _decoded(dataset: Dataset, picture: _Picture) -> Values:
    """The stored values of the first frame, (H, W) or (H, W, 3) RGB."""
    from pydicom.pixels import get_decoder, pixel_array

    try:
        syntax = dataset.file_meta.TransferSyntaxUID
        try:
            ready = get_decoder(syntax).is_available
        except NotImplementedError:
            raise PictureError(f"packed as {syntax.name}, which is not read") from None
        if not ready:
            raise PictureError(f"packed as {syntax.name}, for which there is no decoder: pip install 'limner[medical]'")
        if "PixelData" not in dataset:
            raise PictureError("a DICOM file without pixels")
        check_coded(dataset, picture.rows, picture.columns, picture.frames)
        values: Values = pixel_array(dataset, index=0)
    except PictureError:
        raise
    except RuntimeError as error:  # of all decoders together; what each has to say takes many lines
        raise PictureError(f"packed as {syntax.name}, and no decoder can read it") from error
    except Exception as error:
        raise PictureError(reason(error)) from error
    shape = (picture.rows, picture.columns)
    if values.shape[:2] != shape or values.size != math.prod(shape) * picture.samples:
        raise PictureError(f"damaged: its pixels are {values.shape}, its header promises others")
    return values


def _palette(values: Values, dataset: Dataset) -> Pixels:
    from pydicom.pixels import apply_color_lut

    try:
        colours = apply_color_lut(values, dataset)
    except Exception as error:
        raise PictureError(reason(error)) from error
    # Tables of 16 bits hold a colour of 8 in their high byte, or in both.
    shown: Pixels = (colours[..., :3] >> (8 * colours.itemsize - 8)).astype(np.uint8)
    return shown


def _windowed(values: Values, dataset: Dataset, picture: _Picture, window: str) -> Pixels:
    """Grey (H, W); light is still what the file calls light."""
    from pydicom.pixels import apply_modality_lut

    counted = picture.counted(values)
    if window == "full":
        falls = float(dataset.get("RescaleSlope", 1) or 1) < 0
        return picture.whole(picture.levels - counted if falls else counted)
    try:
        shown = apply_modality_lut(values, dataset).astype(np.float64)
        centre, width = _named_window(dataset) if window == "file" else tuple(map(float, window.split("/")))
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise PictureError(reason(error)) from error
    function = str(dataset.get("VOILUTFunction", "LINEAR") or "LINEAR") if window == "file" else "LINEAR"
    # PS3.3, sections C.11.2.1.2.1, C.11.2.1.3.1 and C.11.2.1.3.2.
    if function == "SIGMOID":
        return picture.part(1 / (1 + np.exp(-4 * (shown - centre) / width)))
    if function == "LINEAR_EXACT":
        return picture.part((shown - centre) / width + 0.5)
    return picture.part((shown - (centre - 0.5)) / max(width - 1, 1e-9) + 0.5)


def _named_window(dataset: Dataset) -> tuple[float, float]:
    """The centre and width that the file names first."""
    centre, width = (_first(dataset.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if centre is None or width is None or width <= 0:
        raise PictureError("names no window of its own; choose window full or CENTRE/WIDTH")
    return centre, width


def _first(value: Any) -> float | None:
    if value is None or (isinstance(value, str) and not value):
        return None
    several = not isinstance(value, (str, float, int)) and hasattr(value, "__len__")
    return float(value[0]) if several else float(value)
