"""Pictures of 16 bits: files written by hand, byte for byte, are the oracle."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from limner.data import DataConfig, open_dataset
from limner.data.config import Plan
from limner.data.decode import Decoder
from limner.data.levels import with_bits
from limner.data.png import sixteen_bits
from limner.data.sources import PictureError
from limner.training.grids import save_picture

WHITE = (255, 255, 255)
MODES = {1: "L", 2: "RGBA", 3: "RGB", 4: "RGBA"}


def decode(data, plan):
    decoder = Decoder(plan, 1)
    decoder.add(data)
    return decoder.finish()[0]


def plan(height, width, mode, fit="crop", background=WHITE, bits=16):
    return Plan((height, width), mode, fit, background, bits)


def deep(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 2**16, shape, dtype=np.uint16)


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(pixels, filters=None, extra=b"", rows=None):
    """A PNG of 16 bits; ``rows`` are filtered bytes (height, stride), where they are not the plain pixels."""
    height, width, samples = pixels.shape
    plain = pixels.astype(">u2").reshape(height, -1).view(np.uint8) if rows is None else rows
    kinds = np.zeros(height, np.uint8) if filters is None else np.array(filters, np.uint8)
    lines = np.hstack([kinds[:, None], plain]).tobytes()
    head = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[samples], 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    )


def unfiltered(filters, rows, step):
    """The bytes that filtered lines stand for (PNG specification, section 9), one at a time."""
    out = np.zeros_like(rows)
    for y, kind in enumerate(filters):
        for x in range(rows.shape[1]):
            left = int(out[y, x - step]) if x >= step else 0
            above = int(out[y - 1, x]) if y else 0
            corner = int(out[y - 1, x - step]) if y and x >= step else 0
            guess = left + above - corner
            near = min((left, above, corner), key=lambda value: abs(guess - value))
            out[y, x] = (int(rows[y, x]) + (0, left, above, (left + above) // 2, near)[kind]) % 256
    return out


def as_mode(pixels, mode):
    """The same picture with the channels of the mode, where that loses nothing."""
    samples = pixels.shape[2]
    if samples == 2:
        return np.concatenate([np.repeat(pixels[..., :1], 3, axis=2), pixels[..., 1:]], axis=2)
    assert MODES[samples] == mode
    return pixels


@settings(max_examples=60)
@given(st.sampled_from([1, 2, 3, 4]), st.integers(1, 5), st.integers(1, 5), st.data())
def test_any_png_of_16_bits_is_read_whole(samples, width, height, data):
    filters = [data.draw(st.integers(0, 4)) for _ in range(height)]
    stride = width * samples * 2
    drawn = data.draw(st.binary(min_size=height * stride, max_size=height * stride))
    rows = np.frombuffer(drawn, np.uint8).reshape(height, stride)
    expected = unfiltered(filters, rows, samples * 2).view(">u2").reshape(height, width, samples)
    got = decode(png(expected, filters, rows=rows), plan(height, width, MODES[samples]))
    assert got.dtype == np.uint16
    assert np.array_equal(got, as_mode(expected.astype(np.uint16), MODES[samples]))


def tiff(pixels, order, *, packed=False, tags=()):
    """A TIFF of 16 bits by hand, one strip, plain or deflated; TIFF 6.0, sections 2 and 8."""
    height, width, samples = pixels.shape
    body = pixels.astype(f"{order}u2").tobytes()
    body = zlib.compress(body) if packed else body
    pack = "<" if order == "<" else ">"
    bits = struct.pack(f"{pack}{samples}H", *[16] * samples)
    fields = {
        256: (4, 1, width),
        257: (4, 1, height),
        258: (3, samples, 8) if samples > 2 else (3, samples, 16),
        259: (3, 1, 8 if packed else 1),
        262: (3, 1, 1 if samples < 3 else 2),
        273: (4, 1, 8 + len(bits)),
        277: (3, 1, samples),
        278: (4, 1, height),
        279: (4, 1, len(body)),
        284: (3, 1, 1),
    }
    if samples == 4:
        fields[338] = (3, 1, 2)
    fields |= {number: (3, 1, value) for number, value in tags}
    directory = struct.pack(f"{pack}H", len(fields))
    for number, (kind, count, value) in sorted(fields.items()):
        inside = struct.pack(f"{pack}HH", value, 0) if kind == 3 and count == 1 else struct.pack(f"{pack}I", value)
        directory += struct.pack(f"{pack}HHI", number, kind, count) + inside
    directory += struct.pack(f"{pack}I", 0)
    start = 8 + len(bits) + len(body)
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{pack}HI", 42, start)
    return head + bits + body + directory


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "deflated"])
@pytest.mark.parametrize("samples", [1, 3, 4])
def test_any_tiff_of_16_bits_is_read_whole(order, packed, samples):
    pixels = deep(5, 7, samples)
    got = decode(tiff(pixels, order, packed=packed), plan(5, 7, MODES[samples]))
    assert np.array_equal(got, pixels)


def test_a_tiff_whose_white_is_zero_is_turned_around():
    pixels = deep(5, 7, 1)
    assert np.array_equal(decode(tiff(pixels, "<", tags=[(262, 0)]), plan(5, 7, "L")), 65_535 - pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_to_all_bits(orientation):
    upright = deep(4, 6, 3)
    turned = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1), 7: np.rot90(upright.transpose(1, 0, 2), 2), 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    for data in (
        png(turned, extra=chunk(b"eXIf", exif.tobytes()[6:])),
        tiff(np.ascontiguousarray(turned), "<", tags=[(274, orientation)]),
    ):
        assert np.array_equal(decode(data, plan(4, 6, "RGB")), upright)


@pytest.mark.parametrize("samples", [1, 3, 4])
def test_what_is_written_is_read(samples, tmp_path):
    pixels = deep(9, 6, samples)
    save_picture(pixels, tmp_path / "x.png")
    data = (tmp_path / "x.png").read_bytes()
    assert data == sixteen_bits(pixels)
    assert np.array_equal(decode(data, plan(9, 6, MODES[samples])), pixels)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert image.size == (6, 9)
        seen = np.asarray(image).reshape(9, 6, samples)
    assert np.array_equal(seen, pixels if samples == 1 else pixels >> 8)


def test_alpha_and_a_clear_colour_are_composited_with_all_bits():
    pixels, background = deep(6, 5, 4), (10, 200, 30)
    got = decode(png(pixels), plan(6, 5, "RGB", background=background)).astype(float)
    alpha = pixels[..., 3:] / 65_535
    expected = pixels[..., :3] * alpha + np.array(background) * 257.0 * (1 - alpha)
    assert np.abs(got - expected).max() <= 0.5 + 1e-6
    colour = deep(2, 2, 3)
    key = chunk(b"tRNS", colour[0, 1].astype(">u2").tobytes())
    got = decode(png(colour, extra=key), plan(2, 2, "RGB", background=background))
    assert got[0, 1].tolist() == [value * 257 for value in background]
    assert np.array_equal(got[1], colour[1])
    kept = decode(png(colour, extra=key), plan(2, 2, "RGBA"))
    assert kept[..., 3].tolist() == [[65_535, 0], [65_535, 65_535]]


def test_grey_survives_a_way_through_colour():
    grey = np.arange(2**16, dtype=np.uint16).reshape(256, 256, 1)
    colour = np.repeat(grey, 3, axis=2)
    assert np.array_equal(decode(png(colour), plan(256, 256, "L")), grey)
    assert np.array_equal(decode(png(grey), plan(256, 256, "RGB")), colour)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_fitting_is_that_of_8_bits_with_finer_steps(fit, mode):
    y, x = np.mgrid[:40, :60]
    shades = np.stack([128 + 100 * np.sin(x / 9 + i) * np.cos(y / (7 + i)) for i in range(4)], axis=2)
    samples = {"L": 1, "RGB": 3, "RGBA": 4}[mode]
    eight = np.rint(shades[..., :samples]).astype(np.uint8)
    shape = plan(24, 20, mode, fit, (9, 80, 200))
    got = decode(png(with_bits(eight, 16)), shape)
    file = io.BytesIO()
    Image.fromarray(eight[..., 0] if samples == 1 else eight).save(file, "PNG")
    expected = decode(file.getvalue(), plan(24, 20, mode, fit, (9, 80, 200), bits=8))
    # Pillow rounds after each of two passes, and colours with alpha also when they are multiplied and divided by it.
    alpha, roundings = (expected[..., 3:] / 255, 2.5) if mode == "RGBA" else (1.0, 1.5)
    assert (np.abs(got / 257 - expected) * alpha).max() < roundings
    assert len(np.unique(got)) > 1.5 * len(np.unique(expected))
    # A picture of 8 bits takes the same way.
    assert np.array_equal(decode(file.getvalue(), shape), got)


@settings(max_examples=40)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from(["crop", "pad", "stretch"]),
)
def test_one_colour_stays_one_colour(height, width, to_height, to_width, fit):
    pixels = np.full((height, width, 3), (9 * 257, 80 * 257, 200 * 257), np.uint16)
    got = decode(png(pixels), plan(to_height, to_width, "RGB", fit, (9, 80, 200)))
    assert got.shape == (to_height, to_width, 3)
    assert (got == pixels[0, 0]).all()


def test_a_damaged_deep_file_is_refused():
    data = png(deep(9, 7, 3))
    for damaged in (data[:60], data[: len(data) // 2], data[:70] + b"\xff" * 9 + data[79:]):
        with pytest.raises(PictureError):
            decode(damaged, plan(9, 7, "RGB"))


def read(source, cache, **options):
    return open_dataset(DataConfig(str(source), **options), cache=cache, progress=False)


@pytest.mark.parametrize("samples", [1, 3])
def test_a_set_of_deep_pictures_keeps_16_bits(samples, make_folder, cache):
    pictures = [deep(6, 5, samples, seed=i) for i in range(7)]
    files = {f"{i}.png": png(picture) for i, picture in enumerate(pictures)}
    files["6.png"] = tiff(pictures[6], "<")
    data = read(make_folder(files), cache)
    assert data.spec.bits == 16
    assert data.images.dtype == np.uint16
    assert np.array_equal(data.images, pictures)
    assert data.report.notes == ()
    values = np.stack(pictures) / 32_767.5 - 1
    assert data.stats.mean == pytest.approx(values.mean(axis=(0, 1, 2)), abs=1e-9)
    assert data.stats.std == pytest.approx((values - values.mean(axis=(0, 1, 2))).std(), rel=1e-6)
    again = read(make_folder(files), cache)
    assert again.fingerprint == data.fingerprint
    flat = read(make_folder(files), cache, bits=8)
    assert flat.images.dtype == np.uint8
    assert "7 pictures of 16 bits are scaled to 8" in flat.report.notes
    assert flat.fingerprint != data.fingerprint


def test_one_shallow_picture_makes_8_bits_unless_asked_otherwise(make_zip, encoded, noise, cache):
    files = {f"{i}.png": png(deep(4, 4, 1, seed=i)) for i in range(600)}
    shallow = noise(4, 4)
    files["100.png"] = encoded(shallow)  # a sample takes every third
    path = make_zip(files)
    data = read(path, cache)
    assert data.images.dtype == np.uint8
    assert "599 pictures of 16 bits are scaled to 8" in data.report.notes
    assert np.array_equal(data.images[100, ..., 0], shallow)
    data = read(path, cache, bits=16)
    assert data.images.dtype == np.uint16
    assert data.report.notes == ("1 pictures of 8 bits are scaled to 16",)
    assert np.array_equal(data.images[100, ..., 0], shallow * np.uint16(257))
    assert np.array_equal(data.images[7], deep(4, 4, 1, seed=7))
    folders = [p for p in (cache / "datasets").iterdir() if p.is_dir()]
    assert all(len(list(folder.glob("images.*"))) == 1 for folder in folders)


def test_arrays_of_16_bits(tmp_path, cache):
    np.savez(tmp_path / "s.npz", images=deep(30, 6, 5))
    data = read(tmp_path / "s.npz", cache)
    assert np.array_equal(data.images[..., 0], deep(30, 6, 5))
    flat = read(tmp_path / "s.npz", cache, bits=8)
    assert np.array_equal(flat.images, with_bits(deep(30, 6, 5)[..., None], 8))
    assert "pictures of 16 bits are scaled to 8" in flat.report.notes
    assert read(tmp_path / "s.npz", cache, size=(3, 4), mode="RGB").images.shape == (30, 3, 4, 3)
