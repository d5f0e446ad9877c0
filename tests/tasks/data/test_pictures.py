"""Pictures of every kind have the pixels that a person sees, or are refused with what to do; none is taken silently."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from local_eval.tasks.data.images import pixels_of, read_images
from local_eval.tasks.names import TaskError

COLOUR = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
TURNED = 6  # EXIF: show it turned a quarter clockwise


def save(path, image, **options):
    image.save(path, **options)
    return path


def refused(path, reported):
    with pytest.raises(TaskError) as caught:
        read_images([path], ["mine.csv, row 2"])
    assert str(caught.value).startswith(f"mine.csv, row 2: image {path}")
    assert reported in str(caught.value)
    assert str(caught.value).count(str(path)) == 1


def test_grey_palette_and_opaque_pictures_are_read_as_rgb(tmp_path):
    for mode in ["L", "P", "1", "RGBA", "LA"]:
        for ending in ["png", "tif"]:
            image = Image.fromarray(COLOUR).convert(mode)
            expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
            assert np.array_equal(read_images([save(tmp_path / f"a.{ending}", image)])[0], expected)


def test_other_formats_are_read(tmp_path):
    for ending in ["bmp", "webp", "gif"]:
        path = save(
            tmp_path / f"a.{ending}", Image.fromarray(COLOUR), **({"lossless": True} if ending == "webp" else {})
        )
        assert np.array_equal(read_images([path])[0], np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1))


def deep_png(path, colour):
    """A PNG file of 8x6 pixels with 16 bits a channel; Pillow writes grey ones only."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\0" + bytes(8 * 2 * {0: 1, 2: 3, 6: 4}[colour])
    header = struct.pack(">IIBBBBB", 8, 6, 16, colour, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row * 6)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    return path


def test_more_than_eight_bits_a_channel_are_refused(tmp_path):
    for colour in [0, 2, 6]:
        refused(deep_png(tmp_path / "deep.png", colour), "save it as 8-bit RGB")


def test_more_than_eight_bits_in_tiff_are_refused(tmp_path):
    refused(save(tmp_path / "a.tif", Image.fromarray(np.zeros((6, 8), dtype=np.uint16))), "save it as 8-bit RGB")
    refused(save(tmp_path / "b.tif", Image.fromarray(np.zeros((6, 8), dtype=np.float32))), "pixels of kind F")


def test_ink_colours_are_refused(tmp_path):
    for ending in ["jpg", "tif"]:
        refused(save(tmp_path / f"a.{ending}", Image.new("CMYK", (8, 6))), "CMYK")


def test_transparent_pixels_are_refused(tmp_path):
    half = Image.fromarray(COLOUR).convert("RGBA")
    half.putpixel((2, 2), (9, 9, 9, 100))
    refused(save(tmp_path / "a.png", half), "has transparent pixels; put it on a background")
    palette = Image.fromarray(COLOUR).convert("P")
    palette.putpixel((0, 0), 7)
    refused(save(tmp_path / "b.png", palette, transparency=7), "has transparent pixels")
    refused(save(tmp_path / "c.webp", half, lossless=True), "has transparent pixels")


def test_several_frames_are_refused(tmp_path):
    for ending in ["gif", "png", "webp", "tif"]:
        frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "green", "blue")]
        path = save(tmp_path / f"a.{ending}", frames[0], save_all=True, append_images=frames[1:])
        refused(path, "has 3 frames; save the one that is meant")


def test_a_phones_picture_with_a_preview_behind_it_is_the_picture(tmp_path):
    path = save(tmp_path / "a.jpg", Image.new("RGB", (8, 6), "red"), format="MPO", save_all=True,
                append_images=[Image.new("RGB", (4, 3), "blue")])  # fmt: skip
    assert read_images([path]).shape == (1, 3, 6, 8)


def test_what_a_camera_marked_as_turned_is_turned_where_people_would_see_it_so(tmp_path):
    for ending in ["jpg", "png"]:
        exif = Image.Exif()
        exif[0x0112] = TURNED
        path = save(tmp_path / f"a.{ending}", Image.fromarray(COLOUR), exif=exif)
        plain = np.asarray(Image.open(path).convert("RGB"))
        assert np.array_equal(read_images([path])[0], np.rot90(plain, -1).transpose(2, 0, 1))
        assert np.array_equal(read_images([path], upright=False)[0], plain.transpose(2, 0, 1)), "as the official reader"


def test_truncated_pictures_are_refused(tmp_path):
    for ending in ["png", "jpg", "gif", "tif"]:
        for keep in [0.0, 0.1, 0.7]:
            noise = np.random.default_rng(1).integers(0, 256, (90, 90, 3), dtype=np.uint8)
            path = save(tmp_path / f"a.{ending}", Image.fromarray(noise))
            whole = path.read_bytes()
            path.write_bytes(whole[: int(keep * len(whole))])
            refused(path, "cannot be read (")


def test_folders_and_other_files_are_no_pictures(tmp_path):
    (tmp_path / "folder.png").mkdir()
    refused(tmp_path / "folder.png", "it is a folder; name one image file")
    (tmp_path / "text.png").write_text("none")
    refused(tmp_path / "text.png", "it is none of PNG, JPEG")
    (tmp_path / "drawing.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\n")
    refused(tmp_path / "drawing.png", "it is none of PNG, JPEG")
    (tmp_path / "lost.png").symlink_to(tmp_path / "nowhere")
    refused(tmp_path / "lost.png", "does not exist")


def test_other_sizes_are_told_ten_at_once(tmp_path):
    files = [save(tmp_path / f"{k}.png", Image.new("RGB", (8 + (k > 0) * k, 6))) for k in range(15)]
    with pytest.raises(TaskError, match=r"14 faults; the first 10") as caught:
        read_images(files, [f"mine.csv, row {k + 2}" for k in range(15)], source=tmp_path / "mine.csv")
    assert str(caught.value).count("resize the images to one size first") == 10


def test_missing_and_broken_files_are_told_together(tmp_path):
    files = [save(tmp_path / f"{k}.png", Image.new("RGB", (8, 6))) for k in range(6)]
    files[1].unlink()
    files[3].write_bytes(b"")
    with pytest.raises(TaskError) as caught:
        read_images(files)
    assert "1.png does not exist" in str(caught.value)
    assert "3.png cannot be read" in str(caught.value)


def test_one_picture_is_read_as_a_whole(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(COLOUR).save(buffer, "PNG")
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    assert np.array_equal(pixels_of(tmp_path / "a.png", "image", upright=True), COLOUR.transpose(2, 0, 1))
