"""One picture file to pixels; Pillow's general reader and arithmetic done by hand are the oracles."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from limner.data import png
from limner.data.config import Fit, Plan
from limner.data.decode import MAX_PIXELS, Decoder, read_header
from limner.data.sources import PictureError
from limner.data.stores import FolderStore

WHITE = (255, 255, 255)


def decode(data, how):
    decoder = Decoder(how, 1)
    decoder.add(data)
    return decoder.finish()[0]


def plan(height, width, mode="RGB", fit="crop", background=WHITE):
    return Plan((height, width), mode, fit, background)


def png_file(width, height, depth, colour, rows: bytes, parts=1, extra=()):
    """A PNG by hand: raw scanlines (filter byte and samples), split into IDAT chunks."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packed = zlib.compress(rows)
    size = -(-len(packed) // parts)
    data = [chunk(b"IDAT", packed[i : i + size]) for i in range(0, len(packed), size)]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + b"".join(data) + chunk(b"IEND", b"")


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([(0, 1), (2, 3), (4, 2), (6, 4)]),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 3),
    st.data(),
)
def test_the_short_way_reads_any_filter_as_pillow_does(kind, width, height, parts, data):
    colour, samples = kind
    rows = b"".join(
        bytes([data.draw(st.integers(0, 4))]) + data.draw(st.binary(min_size=width * samples, max_size=width * samples))
        for _ in range(height)
    )
    file = png_file(width, height, 8, colour, rows, parts)
    found = png.header(file)
    with Image.open(io.BytesIO(file)) as image:
        assert found == (width, height, image.mode)
        expected = np.asarray(image).reshape(height, width, samples)
    lines = png.lines(file, found)
    for row in png.unfilter([lines, lines, lines], found):
        assert np.array_equal(row, expected)


def test_lines_that_are_not_as_stated_are_left_to_pillow():
    kind = png.Plain(2, 2, "L")
    good = b"\0ab\2cd"
    assert png.lines(png_file(2, 2, 8, 0, good), kind) == good
    for wrong in (b"\0ab\5cd", b"\0ab\2c", b"\0ab\2cde"):
        assert png.lines(png_file(2, 2, 8, 0, wrong), kind) is None
    assert png.lines(png_file(2, 2, 8, 0, good), png.Plain(2, 2, "RGB")) is None
    orientation = struct.pack(">I", 0) + b"eXIf" + struct.pack(">I", zlib.crc32(b"eXIf"))
    assert png.lines(png_file(2, 2, 8, 0, good, extra=(orientation,)), kind) is None


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 255), st.booleans())
def test_a_damaged_file_is_read_whole_or_refused(at, value, cut):
    rng = np.random.default_rng(3)
    file = io.BytesIO()
    picture = rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)
    Image.fromarray(picture).save(file, "PNG")
    data = bytearray(file.getvalue())
    at %= len(data)
    data = data[:at] if cut else data[:at] + bytes([value]) + data[at + 1 :]
    with contextlib.suppress(PictureError):  # any other exception would end a decode
        assert decode(bytes(data), plan(9, 7)).shape == (9, 7, 3)


def test_one_flipped_bit_of_the_pixels_never_goes_unseen(noise, encoded):
    data = encoded(noise(8, 8, 3))
    start, stop = data.index(b"IDAT") + 4, data.index(b"IEND") - 8
    for at in range(start, stop):
        damaged = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        assert png.lines(damaged, png.Plain(8, 8, "RGB")) is None


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 4)])
@pytest.mark.parametrize("side", [16, 300])
def test_pixels_of_a_lossless_file_are_kept(noise, encoded, mode, channels, side):
    pixels = noise(side, side + 2, channels)
    for form in ("PNG", "TIFF", "WEBP") if mode != "L" else ("PNG", "TIFF", "PPM"):
        options = {"lossless": True, "exact": True} if form == "WEBP" else {}
        assert np.array_equal(decode(encoded(pixels, form, **options), plan(side, side + 2, mode)), pixels)


def test_sixteen_bits_are_scaled_to_eight():
    deep = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    file = io.BytesIO()
    Image.fromarray(deep).save(file, "PNG")
    assert np.array_equal(decode(file.getvalue(), plan(16, 16, "L"))[..., 0], np.arange(256).reshape(16, 16))


def test_thirty_two_bit_and_floating_point_pixels_are_refused(encoded):
    with pytest.raises(PictureError, match="32-bit"):
        decode(encoded(Image.fromarray(np.full((4, 4), 70_000, np.int32)), "TIFF"), plan(4, 4, "L"))
    with pytest.raises(PictureError, match="floating-point"):
        decode(encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), plan(4, 4, "L"))


@pytest.mark.parametrize("background", [WHITE, (10, 200, 30)])
def test_alpha_is_composited_or_kept(noise, encoded, background):
    pixels = noise(6, 5, 4)
    data = encoded(pixels)
    assert np.array_equal(decode(data, plan(6, 5, "RGBA")), pixels)
    alpha = pixels[..., 3:] / 255.0
    expected = pixels[..., :3] * alpha + np.array(background) * (1 - alpha)
    got = decode(data, plan(6, 5, "RGB", background=background))
    assert np.abs(got - expected).max() <= 1.0


def test_transparent_palette_and_grey_are_composited(encoded):
    palette = Image.new("P", (4, 2), 1)
    palette.putpalette([0, 0, 0, 200, 0, 0])
    data = encoded(palette, transparency=1)
    assert (decode(data, plan(2, 4)) == 255).all()
    assert (decode(encoded(palette), plan(2, 4)) == (200, 0, 0)).all()
    grey = Image.fromarray(np.dstack([np.full((2, 2), 40, np.uint8), np.zeros((2, 2), np.uint8)]), "LA")
    assert (decode(encoded(grey), plan(2, 2, "L", background=(7, 7, 7))) == 7).all()


@pytest.mark.parametrize("grey", [True, False], ids=["grey", "coloured"])
@pytest.mark.parametrize("form", ["BMP", "TIFF", "PNG", "GIF"])
def test_a_palette_is_grey_where_all_its_colours_are(form, grey, noise, encoded, make_folder):
    index, colours = noise(6, 5), np.repeat(np.arange(256, dtype=np.uint8)[::-1, None], 3, axis=1)
    colours[index[0, 0], 2] ^= 0 if grey else 1
    image = Image.fromarray(index)
    image.putpalette(colours.tobytes())
    data = encoded(image, form)
    store = FolderStore(make_folder({"picture": data}))
    (entry,) = store.entries()
    header = read_header(store.reader(), entry)
    assert header.grey == grey
    decoder = Decoder(plan(6, 5), 1)
    decoder.add(data)
    assert decoder.headers == [header]
    assert np.array_equal(decoder.finish()[0], colours[index])


def test_cmyk_becomes_rgb_and_black_and_white_becomes_grey(encoded):
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    red = decode(encoded(cmyk, "TIFF"), plan(8, 8))
    assert red[..., 0].min() > 200
    assert red[..., 1:].max() < 60
    assert (decode(encoded(Image.new("1", (3, 3), 1)), plan(3, 3, "L")) == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_orientation_is_applied(encoded, orientation, form):
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16] = 255
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's transposition that the orientation takes back
    image = Image.fromarray(upright)
    if orientation in undo:
        image = image.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100, "subsampling": 0} if form == "JPEG" else {}
    got = decode(encoded(image, form, exif=exif, **options), plan(16, 32))
    assert np.abs(got.astype(int) - upright).max() < 12


def test_the_first_frame_of_an_animation_is_taken(encoded):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    assert (decode(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), plan(4, 4)) == (255, 0, 0)).all()


def test_a_bomb_is_refused_by_its_header():
    side = int(MAX_PIXELS**0.5) + 1
    with pytest.raises(PictureError, match="bound"):
        decode(png_file(side, side, 8, 0, b"\0" * 1000), plan(8, 8, "L"))
    with pytest.raises(PictureError, match="bound"):
        decode(png_file(2**30, 2**30, 8, 0, b"\0" * 1000), plan(8, 8, "L"))


def test_crop_takes_the_centre_pad_keeps_all_stretch_fills(encoded):
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = (255, 0, 0)
    data = encoded(wide)
    crop = decode(data, plan(8, 8))
    assert crop[:, 2:6, 0].min() > 240
    pad = decode(data, plan(24, 24, fit="pad", background=(1, 2, 3)))
    assert (pad[:8] == (1, 2, 3)).all()
    assert np.array_equal(pad[8:16], wide)
    stretch = decode(data, plan(8, 8, fit="stretch"))
    assert stretch[:, 0].max() < 30
    assert stretch[:, 4, 0].min() > 200


def test_padding_with_alpha_is_transparent(noise, encoded):
    got = decode(encoded(noise(4, 8, 4)), plan(8, 8, "RGBA", fit="pad"))
    assert (got[:2, :, 3] == 0).all()


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_shrinking_is_antialiased(encoded, fit):
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    got = decode(encoded(stripes), plan(16, 16, "L", fit=fit)).astype(float)
    assert np.abs(got - 127.5).max() < 12


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.sampled_from(get_args(Fit)))
def test_any_size_fits_any_size(height, width, to_height, to_width, fit):
    file = io.BytesIO()
    Image.new("RGB", (width, height), (9, 80, 200)).save(file, "PNG")
    got = decode(file.getvalue(), plan(to_height, to_width, fit=fit, background=(9, 80, 200)))
    assert got.shape == (to_height, to_width, 3)
    assert (got == (9, 80, 200)).all()
