"""The typefaces of ``builtin:glyphs``, found through the Python packages that carry them: no system fonts, no network.

Styles (weights, italics) of one design count as one typeface. Extra-light styles are left out: their strokes are a
third of a pixel wide at 28 pixels and fade to grey.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

from limner.errors import UserError

CHARACTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Typeface:
    """One design. ``files`` are its styles, relative to the package; () is the face built into Pillow."""

    name: str
    package: str
    files: tuple[str, ...]
    licence: str
    held_out: bool = False


@dataclass(frozen=True)
class Style:
    """One font: a typeface in one weight and slope. ``path`` is None for the face built into Pillow."""

    typeface: str
    name: str
    path: Path | None


def _files(folder: str, family: str, suffix: str, styles: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{family}{style}{suffix}" for style in styles.split())


_MPL = "mpl-data/fonts/ttf"
_SANS = "Regular Bold Italic BoldItalic"
_SOURCE = "Light LightIt Regular It Semibold SemiboldIt Bold BoldIt Black BlackIt"
_HANKEN = "Light LightItalic Regular Italic Medium MediumItalic SemiBold SemiBoldItalic Bold BoldItalic"
_OBLIQUE = ".ttf -Bold.ttf -Oblique.ttf -BoldOblique.ttf"

TYPEFACES: tuple[Typeface, ...] = (
    Typeface("DejaVu Sans", "matplotlib", _files(_MPL, "DejaVuSans", "", _OBLIQUE), "Bitstream Vera"),
    Typeface(
        "DejaVu Serif",
        "matplotlib",
        _files(_MPL, "DejaVuSerif", "", ".ttf -Bold.ttf -Italic.ttf -BoldItalic.ttf"),
        "Bitstream Vera",
    ),
    Typeface("DejaVu Sans Mono", "matplotlib", _files(_MPL, "DejaVuSansMono", "", _OBLIQUE), "Bitstream Vera"),
    Typeface(
        "STIX General",
        "matplotlib",
        _files(_MPL, "STIXGeneral", "", ".ttf Bol.ttf Italic.ttf BolIta.ttf"),
        "OFL",
    ),
    Typeface("Computer Modern Roman", "matplotlib", _files(_MPL, "cm", ".ttf", "r10 b10 ti10"), "Bakoma"),
    Typeface("Computer Modern Sans", "matplotlib", _files(_MPL, "cm", ".ttf", "ss10"), "Bakoma"),
    Typeface("Computer Modern Typewriter", "matplotlib", _files(_MPL, "cm", ".ttf", "tt10"), "Bakoma"),
    Typeface("Source Sans Pro", "font_source_sans_pro", _files("files", "SourceSansPro-", ".otf", _SOURCE), "OFL"),
    Typeface("Source Serif Pro", "font_source_serif_pro", _files("files", "SourceSerifPro-", ".otf", _SOURCE), "OFL"),
    Typeface("Fredoka One", "font_fredoka_one", _files("files", "FredokaOne-", ".ttf", "Regular"), "OFL"),
    Typeface(
        "Manrope",
        "font_manrope",
        _files("files", "Manrope-", ".ttf", "Light Regular Medium SemiBold Bold ExtraBold"),
        "OFL",
    ),
    Typeface("Aileron", "PIL", (), "CC0"),
    # Held out: ordinary text faces, one with serifs and one without, in upright and italic and several weights.
    Typeface("Caladea", "font_caladea", _files("files", "Caladea-", ".ttf", _SANS), "Apache-2.0", True),
    Typeface("Hanken Grotesk", "font_hanken_grotesk", _files("files", "HankenGrotesk-", ".otf", _HANKEN), "OFL", True),
)


def _package_folder(package: str) -> Path:
    """Where a package lies, without importing it (matplotlib takes a second to import)."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise UserError(
            f"builtin:glyphs: the package {package}, which carries a typeface, is missing: pip install {package}"
        )
    return Path(spec.origin).parent


def styles(typeface: Typeface) -> tuple[Style, ...]:
    """The fonts of a typeface. Raises UserError if its package or one of its files is missing."""
    if not typeface.files:
        return (Style(typeface.name, "Regular", None),)
    folder = _package_folder(typeface.package)
    paths = [folder / file for file in typeface.files]
    for path in paths:
        if not path.is_file():
            remedy = f"pip install --force-reinstall {typeface.package}"
            raise UserError(f"builtin:glyphs: {path.name} is missing from {folder}: {remedy}")
    return tuple(Style(typeface.name, path.stem, path) for path in paths)


@lru_cache(maxsize=256)
def font(style: Style, pixels_per_em: float) -> ImageFont.FreeTypeFont:
    """The font at a size. Raises UserError if Pillow was built without FreeType."""
    try:
        if style.path is not None:
            return ImageFont.truetype(str(style.path), pixels_per_em, layout_engine=ImageFont.Layout.BASIC)
        built_in = ImageFont.load_default(pixels_per_em)
    except ImportError as error:
        raise UserError("builtin:glyphs: this Pillow lacks FreeType: pip install --force-reinstall pillow") from error
    assert isinstance(built_in, ImageFont.FreeTypeFont)
    return built_in


@lru_cache(maxsize=256)
def cap_height(style: Style) -> float:
    """The height of the capital H, as a share of the em."""
    em = 1000
    _, top, _, bottom = font(style, em).getbbox("H", anchor="ls")
    return (bottom - top) / em


def caption(character: str) -> str:
    """The character's name: "digit seven", "capital letter A", "small letter g"."""
    if character.isdigit():
        names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
        return f"digit {names[int(character)]}"
    return f"{'capital' if character.isupper() else 'small'} letter {character}"
