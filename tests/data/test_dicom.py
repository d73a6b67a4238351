"""DICOM: files made here by pydicom, whose own decoders are the oracle, and the real ones of the mirror."""

from __future__ import annotations

import contextlib
import io
import struct
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from limner.data import NO_AUGMENT, DataConfig, gather, open_dataset
from limner.data.coded import coded_size
from limner.data.config import Plan
from limner.data.decode import Decoder
from limner.data.sources import PictureError
from limner.errors import UserError
from limner.sampling import to_pixels
from limner.training.grids import save_picture

pydicom = pytest.importorskip("pydicom", reason="needs the extra medical")
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.pixels import pixel_array  # noqa: E402
from pydicom.uid import (  # noqa: E402
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)


def dicom(values, stored, *, syntax=ExplicitVRLittleEndian, compress=None, **attributes):
    """A DICOM file of these stored values, (H, W), (H, W, 3) or with frames before."""
    samples = 3 if values.ndim >= 3 and values.shape[-1] == 3 else 1
    planes = values.ndim - (samples == 3)
    frames, (height, width) = (values.shape[0] if planes == 3 else 1), values.shape[planes - 2 : planes]
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", generate_uid()
    dataset.Rows, dataset.Columns = height, width
    dataset.SamplesPerPixel = samples
    dataset.PhotometricInterpretation = "RGB" if samples == 3 else "MONOCHROME2"
    if samples == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = 8 * values.itemsize
    dataset.BitsStored, dataset.HighBit = stored, stored - 1
    dataset.PixelRepresentation = int(values.dtype.kind == "i")
    if frames > 1:
        dataset.NumberOfFrames = frames
    for name, value in attributes.items():
        setattr(dataset, name, value)
    big = syntax == ExplicitVRBigEndian
    data = values.astype(values.dtype.newbyteorder(">" if big else "<")).tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OB" if values.itemsize == 1 else "OW"
    if compress is not None:
        dataset.compress(compress, generate_instance_uid=False)
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def decode(data, plan):
    decoder = Decoder(plan, 1)
    decoder.add(data)
    return decoder.finish()[0]


def grey(height, width, window="full", bits=16):
    return Plan((height, width), "L", "crop", (255, 255, 255), bits, window)


def read(source, cache, **options):
    return open_dataset(DataConfig(str(source), **options), cache=cache, progress=False)


@pytest.mark.parametrize("stored", range(9, 17))
@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
def test_the_full_range_keeps_every_level(stored, signed):
    lowest = -(2 ** (stored - 1)) if signed else 0
    levels = np.arange(2**stored).reshape(2 ** (stored // 2), -1) + lowest
    got = decode(dicom(levels.astype(np.int16 if signed else np.uint16), stored), grey(*levels.shape))[..., 0]
    assert got.dtype == np.uint16
    assert (got.min(), got.max()) == (0, 65_535)
    back = np.rint(got * ((2**stored - 1) / 65_535)).astype(int) + lowest
    assert np.array_equal(back, levels)


def test_12_bits_in_16_bits_out_and_no_level_lost_on_the_way(tmp_path, cache):
    """From a file, through the cache, a batch of a training and a sample's file, and back to the stored values."""
    stored = np.random.default_rng(0).permutation(4096).astype(np.uint16).reshape(64, 64)
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in ("a", "b.dcm"):  # told by their content
        (folder / name).write_bytes(dicom(stored, 12, RescaleSlope=1, RescaleIntercept=-1024))
    data = read(folder, cache)
    assert data.spec.bits == 16
    images, _ = gather(data, np.array([0, 1]), augment=NO_AUGMENT, seed=0, samples=torch.arange(2))
    for i, picture in enumerate(to_pixels(images, data.spec.bits)):
        save_picture(picture, tmp_path / "samples" / f"{i}.png")
    for path in (tmp_path / "samples").iterdir():
        with Image.open(path) as image:
            written = np.asarray(image).astype(np.float64)
        assert np.array_equal(np.rint(written * 4095 / 65_535), stored)
    samples = read(tmp_path / "samples", cache)
    assert samples.fingerprint == data.fingerprint


@pytest.mark.parametrize(
    ("syntax", "compress"),
    [
        (ImplicitVRLittleEndian, None),
        (ExplicitVRBigEndian, None),
        (ExplicitVRLittleEndian, RLELossless),
        (ExplicitVRLittleEndian, JPEG2000Lossless),
        (ExplicitVRLittleEndian, JPEGLSLossless),
    ],
    ids=["implicit", "big-endian", "rle", "jpeg2000", "jpeg-ls"],
)
def test_every_way_of_packing_gives_the_same_picture(syntax, compress):
    values = np.random.default_rng(1).integers(0, 4096, (41, 50), dtype=np.uint16)
    plain = decode(dicom(values, 12), grey(41, 50))
    assert np.array_equal(decode(dicom(values, 12, syntax=syntax, compress=compress), grey(41, 50)), plain)
    colour = np.random.default_rng(2).integers(0, 256, (41, 50, 3), dtype=np.uint8)
    plan = Plan((41, 50), "RGB", "crop", (255, 255, 255))
    assert np.array_equal(decode(dicom(colour, 8, syntax=syntax, compress=compress), plan), colour)


def test_windows():
    units = np.arange(-1000, 1000, dtype=np.int16).reshape(40, 50)
    stored = (units + 1024).astype(np.uint16)
    about = {"RescaleSlope": 1, "RescaleIntercept": -1024, "WindowCenter": [50, 9], "WindowWidth": [350, 9]}
    data = dicom(stored, 12, **about)
    shown = decode(data, grey(40, 50, "40/400"))[..., 0]
    # PS3.3 C.11.2.1.2.1: black up to centre - 0.5 - (width - 1) / 2, white above centre - 0.5 + (width - 1) / 2.
    assert (shown[units <= 40 - 0.5 - 399 / 2] == 0).all()
    assert (shown[units > 40 - 0.5 + 399 / 2] == 65_535).all()
    inside = (units > 40 - 200) & (units < 40 + 199)
    expected = ((units - 39.5) / 399 + 0.5) * 65_535
    assert np.abs(shown - expected)[inside].max() <= 0.5 + 1e-6
    assert np.array_equal(decode(data, grey(40, 50, "file")), decode(data, grey(40, 50, "50/350")))
    oracle = pydicom.pixels.apply_windowing(
        pydicom.pixels.apply_modality_lut(stored, dataset := pydicom.dcmread(io.BytesIO(data))), dataset, index=0
    )
    spread = (oracle - oracle.min()) / (oracle.max() - oracle.min())
    assert np.abs(decode(data, grey(40, 50, "file"))[..., 0] / 65_535 - spread).max() < 1e-4
    for function, at_centre in (("SIGMOID", 0.5), ("LINEAR_EXACT", 0.5)):
        curve = decode(dicom(stored, 12, **about, VOILUTFunction=function), grey(40, 50, "file"))[..., 0]
        assert curve[units == 50] / 65_535 == pytest.approx(at_centre, abs=1e-4)
        assert (np.diff(curve.reshape(-1).astype(int)) >= 0).all()
    eight = decode(data, grey(40, 50, "40/400", bits=8))[..., 0]
    assert np.abs(eight - shown / 257).max() <= 0.5
    with pytest.raises(PictureError, match="no window of its own"):
        decode(dicom(stored, 12), grey(40, 50, "file"))


def test_what_is_dark_stays_dark():
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    plain = decode(dicom(values, 12), grey(64, 64))
    inverted = decode(dicom(values, 12, PhotometricInterpretation="MONOCHROME1"), grey(64, 64))
    assert np.array_equal(inverted, 65_535 - plain)
    falling = dicom(values, 12, RescaleSlope=-2, RescaleIntercept=100)
    assert np.array_equal(decode(falling, grey(64, 64)), inverted)
    risen = decode(dicom(values, 12, RescaleSlope=2, RescaleIntercept=100), grey(64, 64))
    assert np.array_equal(risen, plain)


def test_bits_beyond_the_stored_ones_do_not_count():
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    assert np.array_equal(decode(dicom(values | 0xF000, 12), grey(64, 64)), decode(dicom(values, 12), grey(64, 64)))


def test_a_palette_and_eight_bits():
    index = np.arange(16, dtype=np.uint8).reshape(4, 4)
    colours = np.random.default_rng(0).integers(0, 256, (3, 16)).astype(np.uint16)
    tables = {}
    for name, table in zip(("Red", "Green", "Blue"), colours, strict=True):
        tables[f"{name}PaletteColorLookupTableDescriptor"] = [16, 0, 16]
        tables[f"{name}PaletteColorLookupTableData"] = (table * 257).astype("<u2").tobytes()
    data = dicom(index, 8, PhotometricInterpretation="PALETTE COLOR", **tables)
    got = decode(data, Plan((4, 4), "RGB", "crop", (255, 255, 255)))
    assert np.array_equal(got, colours.T.reshape(4, 4, 3))
    plain = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(decode(dicom(plain, 8), grey(16, 16, bits=8))[..., 0], plain)


def test_of_several_frames_the_first_is_taken_and_the_report_says_so(tmp_path, cache):
    frames = np.random.default_rng(0).integers(0, 4096, (5, 6, 7), dtype=np.uint16)
    path = tmp_path / "volume.dcm"
    path.write_bytes(dicom(frames, 12))
    data = read(path, cache)
    assert len(data) == 1
    assert np.array_equal(np.rint(data.images[0, ..., 0] * (4095 / 65_535)), frames[0])
    assert "1 pictures of several frames give the first" in data.report.notes


def test_classes_zips_and_other_files_beside(make_zip, encoded, noise, cache):
    scans = np.random.default_rng(0).integers(0, 256, (4, 6, 7), dtype=np.uint8)
    files = {f"{'ab'[i % 2]}/{i}": dicom(scan, 8) for i, scan in enumerate(scans)}
    picture = noise(6, 7)
    data = read(make_zip({**files, "b/5.png": encoded(picture)}), cache)
    assert data.labels == ("a", "b")
    assert data.spec.bits == 8
    assert np.array_equal(data.images[..., 0], np.stack([scans[0], scans[2], scans[1], scans[3], picture]))


REFUSED = {
    "32-bit": lambda v: dicom(v.astype(np.uint32), 32),
    "without a picture": lambda v: _without(v, "Rows"),
    "without pixels": lambda v: _without(v, "PixelData"),
    "above the bound": lambda v: dicom(v, 12, Rows=60_000, Columns=60_000),
    "do not lie at the low end": lambda v: dicom(v, 12, HighBit=15),
    "which are not read": lambda v: dicom(v, 12, PhotometricInterpretation="HSV"),
    "deflated": lambda v: dicom(v, 12, syntax=DeflatedExplicitVRLittleEndian),
    "damaged": lambda v: dicom(v, 12)[:-40],
    "9 x 0 pixels": lambda v: dicom(v, 12, Rows=0),
    "'7,25'": lambda v: dicom(v, 12, RescaleSlope="7.25").replace(b"7.25", b"7,25"),
    "'MultiValue'": lambda v: dicom(v, 12, RescaleSlope=[1, 2]),
    "Unknown Value Representation": lambda v: dicom(v, 12).replace(b"\x28\0\x10\0US", b"\x28\0\x10\0ZZ"),
}


def _without(values, name):
    dataset = pydicom.dcmread(io.BytesIO(dicom(values, 12)))
    del dataset[name]
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


@pytest.mark.parametrize("word", REFUSED)
def test_what_cannot_be_decoded_is_listed(word, make_folder, cache):
    values = np.random.default_rng(0).integers(0, 4096, (8, 9), dtype=np.uint16)
    folder = make_folder({"bad": REFUSED[word](values), "good": dicom(values, 12)})
    data = read(folder, cache)
    assert len(data) == 1
    ((name, reason),) = data.report.skipped
    assert name == "bad"
    assert word in reason
    assert "\n" not in reason


def test_any_cut_and_any_flip_is_read_or_refused():
    values = np.random.default_rng(0).integers(0, 4096, (8, 9), dtype=np.uint16)
    data = dicom(values, 12, compress=RLELossless)
    rng = np.random.default_rng(1)
    for at in rng.integers(140, len(data), 60):
        for damaged in (data[:at], data[:at] + bytes([rng.integers(256)]) + data[at + 1 :]):
            with contextlib.suppress(PictureError):  # any other exception would end a decode
                assert decode(damaged, grey(8, 9)).shape == (8, 9, 1)


def test_a_stream_that_would_become_larger_than_its_file_says_is_not_decoded():
    values = np.random.default_rng(0).integers(0, 256, (41, 50), dtype=np.uint8)
    data = dicom(values, 8, compress=JPEG2000Lossless)
    at = data.index(b"\xff\x4f\xff\x51")
    bomb = bytearray(data)
    struct.pack_into(">II", bomb, at + 8, 60_000, 60_000)
    with pytest.raises(PictureError, match="60000 x 60000"):
        decode(bytes(bomb), grey(41, 50, bits=8))
    runs = bytearray(dicom(np.zeros((64, 64), np.uint8), 8, compress=RLELossless))
    start = runs.rindex(b"\x01\0\0\0\x40\0\0\0") + 64
    assert runs[start : start + 128] == b"\xc1\0" * 64  # 64 zeros each
    runs[start : start + 128] = b"\x81\0" * 64  # 128 zeros each
    with pytest.raises(PictureError, match="longer than the picture"):
        decode(bytes(runs), grey(64, 64, bits=8))


def test_sizes_of_streams(noise):
    for form, options in (("JPEG", {}), ("JPEG", {"progressive": True}), ("JPEG2000", {"no_jp2": True})):
        file = io.BytesIO()
        Image.fromarray(noise(33, 47, 3)).save(file, form, **options)
        assert coded_size(file.getvalue()) == (33, 47)
    assert coded_size(b"\xff\xd8\xff\xe0\0\x04") is None
    assert coded_size(b"") is None


def test_settings_that_are_no_window():
    for window in ("lung", "40", "40/0", "a/b", "40/400/3", "nan/3", "1/inf"):
        with pytest.raises(UserError, match="window"):
            DataConfig("x", window=window)


def bundled(name):
    """A file that comes with pydicom."""
    with open(pydicom.data.get_testdata_file(name, download=False), "rb") as file:
        return file.read()


def test_one_scan_in_seven_packings():
    plain = decode(bundled("MR_small.dcm"), grey(64, 64))
    for kind in ("RLE", "bigendian", "expb", "implicit", "jp2klossless", "jpeg_ls_lossless", "padded"):
        assert np.array_equal(decode(bundled(f"MR_small_{kind}.dcm"), grey(64, 64)), plain), kind


def test_lossless_jpeg_is_lossless():
    plan = Plan((100, 100), "RGB", "crop", (255, 255, 255))
    packed, plain = (decode(bundled(f"SC_rgb_{kind}.dcm"), plan) for kind in ("jpeg_gdcm", "rle"))
    assert np.array_equal(packed, plain)


def test_real_files_that_no_decoder_reads_say_so():
    for name, word in (
        ("JPGExtended.dcm", "packed as JPEG Extended (Process 2 and 4), and no decoder can read it"),
        ("JPEG2000-embedded-sequence-delimiter.dcm", "damaged: its compressed pixels are 1024 x"),
        ("MR_truncated.dcm", "less than expected"),
        ("rtdose_rle.dcm", "32-bit pixels, modality RTDOSE"),
        ("reportsi.dcm", "without a picture"),
        ("image_dfl.dcm", "deflated"),
    ):
        with pytest.raises(PictureError) as caught:
            decode(bundled(name), grey(64, 64))
        assert word in str(caught.value)
        assert "\n" not in str(caught.value)


def test_without_the_extra_the_line_says_what_to_install(make_folder, cache, monkeypatch):
    folder = make_folder({"scan": bundled("CT_small.dcm")})
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(UserError, match=r"pip install 'limner\[medical\]'"):
        read(folder, cache)


REAL = {  # file: (height, width, mode) of what is decoded
    "CT_small.dcm": (128, 128, "L"),
    "ExplVR_BigEnd.dcm": (60, 80, "RGB"),
    "MR_small.dcm": (64, 64, "L"),
    "MR_small_RLE.dcm": (64, 64, "L"),
    "SC_rgb_jpeg.dcm": (256, 256, "RGB"),
    "examples_palette.dcm": (350, 800, "RGB"),
    "examples_rgb_color.dcm": (240, 320, "RGB"),
}


@pytest.mark.parametrize("name", REAL)
def test_every_real_file_is_decoded_right(name, mirror, cache):
    height, width, mode = REAL[name]
    data = read(mirror / "dicom" / name, cache, size=(height, width))
    assert data.spec.mode == mode
    assert data.images.shape[1:3] == (height, width)
    dataset = pydicom.dcmread(mirror / "dicom" / name)
    values = pixel_array(dataset, index=0)
    assert values.shape[:2] == (height, width)
    if mode == "L":
        assert np.array_equal(data.images[0, ..., 0].astype(int) - 2**15, values)
    elif "palette" in name:
        assert np.array_equal(data.images[0], pydicom.pixels.apply_color_lut(values, dataset) >> 8)
    else:
        assert np.array_equal(data.images[0], values)


def test_the_folder_of_real_files_lists_the_dose_grid(mirror, cache):
    data = read(mirror / "dicom", cache)
    assert len(data) == 7
    assert data.spec.mode == "RGB"
    assert [name for name, _ in data.report.skipped] == ["rtdose.dcm"]
    assert data.report.skipped[0][1] == "32-bit pixels, modality RTDOSE; pictures have up to 16 bits"
    ct = read(mirror / "dicom" / "CT_small.dcm", cache)
    mr, packed = (read(mirror / "dicom" / name, cache) for name in ("MR_small.dcm", "MR_small_RLE.dcm"))
    assert ct.spec.bits == 16
    assert mr.fingerprint == packed.fingerprint
