"""Decoding: one documented result for each kind of file, the same in a graph and in a SavedModel."""

import io
import struct
import zlib

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies
from PIL import Image, ImageOps

from tfthesis.data import images
from tfthesis.errors import UserError

PIXELS = np.zeros((4, 6, 3), np.uint8)
PIXELS[:, :3] = (200, 30, 60)
PIXELS[:, 3:] = (10, 100, 250)
PICTURE = Image.fromarray(PIXELS)


def encode(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def smooth(height=37, width=53):
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 255 // height, columns * 255 // width, (rows + columns) * 2 % 200], -1).astype(np.uint8)


def translucent():
    alpha = np.full((4, 6, 1), 128, np.uint8)
    alpha[0, 0] = 0
    return np.concatenate([PIXELS, alpha], -1)


def over_white(rgba):
    alpha = rgba[..., 3:] / 255.0
    return np.round(rgba[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)


GREY = np.repeat(np.asarray(PICTURE.convert("L"))[..., None], 3, -1)
GREY_16 = (np.arange(24).reshape(4, 6) * 2800 + 200).astype(np.uint16)
EXACT = {
    "png": (encode(PICTURE, "PNG"), PIXELS),
    "png grey": (encode(PICTURE.convert("L"), "PNG"), GREY),
    "png palette": (encode(PICTURE.quantize(2), "PNG"), PIXELS),
    "png palette 8 bit": (encode(PICTURE.quantize(2), "PNG", bits=8), PIXELS),
    "png 1 bit": (encode(PICTURE.convert("1", dither=0), "PNG"), np.zeros_like(PIXELS)),
    "png 16 bit": (encode(Image.fromarray(GREY_16), "PNG"), np.repeat((GREY_16 >> 8)[..., None], 3, -1)),
    "png alpha": (encode(Image.fromarray(translucent()), "PNG"), over_white(translucent())),
    "png grey alpha": (
        encode(Image.fromarray(translucent()).convert("LA"), "PNG"),
        over_white(np.concatenate([GREY, translucent()[..., 3:]], -1)),
    ),
    "png palette transparent": (
        encode(PICTURE.quantize(2), "PNG", transparency=0),
        np.where(np.arange(6)[None, :, None] < 3, 255, PIXELS),
    ),
    "gif": (encode(PICTURE, "GIF"), PIXELS),
    "gif of two frames": (encode(PICTURE, "GIF", save_all=True, append_images=[PICTURE.convert("L")]), PIXELS),
    "bmp": (encode(PICTURE, "BMP"), PIXELS),
    "bmp 32 bit": (encode(Image.fromarray(translucent()), "BMP"), PIXELS),
}


@pytest.mark.parametrize("kind", EXACT)
def test_decode_gives_the_documented_pixels(kind):
    data, expected = EXACT[kind]
    np.testing.assert_array_equal(images.decode(tf.constant(data)), expected)
    assert images.check_header(data) == (6, 4)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_decode_jpeg_is_close_to_the_picture(mode):
    picture = Image.fromarray(smooth()).convert(mode)
    expected = np.asarray(picture.convert("RGB"), np.float32)
    decoded = np.asarray(images.decode(tf.constant(encode(picture, "JPEG", quality=95))), np.float32)
    assert np.abs(decoded - expected).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", [b"II", b"MM"])
def test_exif_orientation_turns_the_picture_upright(orientation, order):
    sign = "<" if order == b"II" else ">"
    entry = struct.pack(f"{sign}HHIHH", 0x0112, 3, 1, orientation, 0)
    exif = b"Exif\0\0" + order + struct.pack(f"{sign}HIH", 42, 8, 1) + entry + b"\0\0\0\0"
    plain = encode(Image.fromarray(smooth()), "JPEG", quality=95)
    data = encode(Image.fromarray(smooth()), "JPEG", quality=95, exif=exif)
    assert Image.open(io.BytesIO(data)).getexif()[0x0112] == orientation
    stored = Image.fromarray(np.asarray(images.decode(tf.constant(plain))))
    stored.getexif()[0x0112] = orientation
    np.testing.assert_array_equal(images.decode(tf.constant(data)), np.asarray(ImageOps.exif_transpose(stored)))


BAD = {
    "empty": b"",
    "text": b"not an image, but long enough to have a header of thirty bytes",
    "webp": encode(PICTURE, "WEBP"),
    "bmp palette": encode(PICTURE.quantize(2), "BMP"),
    "png of zeros": images.PNG_SIGNATURE + b"\0" * 40,
    "jpeg cut": encode(Image.fromarray(smooth()), "JPEG")[:-200],
    "jpeg magic": b"\xff\xd8\xff" + b"\0" * 50,
    "gif cut": encode(PICTURE, "GIF")[:20],
}


@pytest.mark.parametrize("kind", BAD)
def test_decode_refuses(kind):
    with pytest.raises(tf.errors.InvalidArgumentError):
        images.decode(tf.constant(BAD[kind]))


@pytest.mark.parametrize("kind", sorted(set(BAD) - {"jpeg cut", "png of zeros"}))
def test_header_refuses(kind):
    with pytest.raises(UserError, match="image: "):
        images.check_header(BAD[kind])


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def test_header_limits():
    forged = images.PNG_SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0))
    with pytest.raises(UserError, match="20000 x 20000"):
        images.check_header(forged)
    with pytest.raises(UserError, match="at most 10 bytes"):
        images.check_header(EXACT["png"][0], max_bytes=10)
    frames = [Image.fromarray(np.full((8, 8), value, np.uint8)) for value in range(0, 250, 10)]
    animated = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert images.check_header(animated) == (8, 8)
    with pytest.raises(UserError, match="at most 24 frames"):
        images.check_header(animated, max_frames=24)
    with pytest.raises(UserError, match="at most 1600 pixels"):
        images.check_header(animated, max_pixels=8 * 8 * 25)
    hostile = bytearray(EXACT["gif"][0])
    descriptor = hostile.index(b",", 13)
    hostile[descriptor + 5 : descriptor + 9] = b"\xff\xff\xff\xff"
    with pytest.raises(UserError, match="pixels"):
        images.check_header(bytes(hostile))


@hypothesis.given(strategies.data())
def test_damaged_headers_are_user_errors(data):
    """Cut anywhere or with bytes changed, a header is read or refused, and nothing else happens."""
    kinds = [encode(Image.fromarray(smooth()), "JPEG"), *(content for content, _ in EXACT.values())]
    damaged = bytearray(data.draw(strategies.sampled_from(kinds)))
    for _ in range(data.draw(strategies.integers(0, 3))):
        damaged[data.draw(strategies.integers(0, len(damaged) - 1))] = data.draw(strategies.integers(0, 255))
    cut = data.draw(strategies.integers(0, len(damaged)))
    try:
        width, height = images.check_header(bytes(damaged[:cut]))
    except UserError:
        return
    assert 1 <= width * height <= images.MAX_PIXELS


def test_header_reads_progressive_jpeg_with_segments_before_the_frame():
    data = encode(Image.fromarray(smooth()), "JPEG", progressive=True, exif=b"Exif\0\0" + b"\0" * 300)
    assert images.check_header(data) == (53, 37)


def test_read_image_names_the_file(tmp_path):
    with pytest.raises(UserError, match=r"gone\.jpg: No such file"):
        images.read_image(tmp_path / "gone.jpg")
    (tmp_path / "void.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"void\.jpg: .*empty"):
        images.read_image(tmp_path / "void.jpg")
    assert images.read_image(EXACT["png"][0]) == EXACT["png"][0]


def test_crop_equals_shorter_side_resize_then_centre_crop():
    picture = tf.constant(np.repeat(smooth(64, 96), 4, 0).repeat(4, 1))  # 256 x 384
    expected = tf.image.resize(picture, [64, 96], antialias=True)[4:60, 20:76]
    np.testing.assert_allclose(images.resize(picture, 56, 56, mode="crop"), expected, atol=2e-3)


def test_stretch_equals_plain_resize():
    expected = tf.image.resize(smooth(), [20, 90], antialias=True)
    np.testing.assert_allclose(images.resize(tf.constant(smooth()), 20, 90, mode="stretch"), expected, atol=1e-3)


def test_shorter_keeps_the_aspect_ratio_up_to_a_limit():
    expected = tf.image.resize(smooth(), [20, 29], antialias=True)
    np.testing.assert_allclose(images.resize(tf.constant(smooth()), 20, 20, mode="shorter"), expected, atol=1e-3)
    assert images.resize(tf.zeros([1, 5000, 3], tf.uint8), 20, 20, mode="shorter").shape == (20, 80, 3)


def test_crop_of_an_extreme_picture_stays_small():
    assert images.resize(tf.zeros([1, 200_000, 3], tf.uint8), 224, 224, mode="crop").shape == (224, 224, 3)


def test_resize_refuses_unknown_modes():
    with pytest.raises(UserError, match="Did you mean 'crop'"):
        images.resize(tf.constant(PIXELS), 4, 4, mode="croq")
    with pytest.raises(UserError, match="equal"):
        images.resize(tf.constant(PIXELS), 4, 5, mode="shorter")


@pytest.fixture(scope="module")
def saved_decoder(tmp_path_factory):
    module = tf.Module()
    module.decode = tf.function(
        lambda image: dict(zip(("pixels", "good"), images.decode_batch(image, 16, 16), strict=True)),
        input_signature=[tf.TensorSpec([None], tf.string, name="image")],
    )
    folder = str(tmp_path_factory.mktemp("decoder"))
    tf.saved_model.save(module, folder, signatures={"decode": module.decode})
    return tf.saved_model.load(folder).signatures["decode"]


def test_saved_model_flags_bad_images_and_leaves_the_others_alone(saved_decoder):
    good = [data for data, _ in EXACT.values()]
    batch = [good[0], *BAD.values(), *good[1:]]
    result = saved_decoder(image=tf.constant(batch))
    expected = [True] + [False] * len(BAD) + [True] * (len(good) - 1)
    assert result["good"].numpy().tolist() == expected
    pixels = result["pixels"].numpy()
    assert not pixels[1 : 1 + len(BAD)].any()
    for row, data in zip(pixels[np.array(expected)], good, strict=True):
        np.testing.assert_allclose(row, images.decode_and_resize(tf.constant(data), 16, 16), atol=1e-4)


@pytest.mark.parametrize("batch", [[], [b"", b"nothing"]])
def test_saved_model_takes_batches_without_a_good_image(saved_decoder, batch):
    result = saved_decoder(image=tf.constant(batch, tf.string))
    assert result["pixels"].shape == (len(batch), 16, 16, 3)
    assert not result["good"].numpy().any()
