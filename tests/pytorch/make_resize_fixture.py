"""Writes tests/fixtures/resize/: grey images, and the same images resized by Pillow's BILINEAR.

Run from the repository's root, with numpy and Pillow installed:

    python tests/pytorch/make_resize_fixture.py

`cases.txt` has a line for each case, `images in_height in_width out_height out_width`; `pixels.gz` holds, for each
case in turn, its input images and then its output images, a byte a pixel, row by row.
"""

import gzip
import pathlib
import platform

import numpy
import PIL
from PIL import Image

# images, input height and width, output height and width
CASES = [
    (2, 28, 28, 224, 224),
    (2, 28, 28, 96, 96),
    (2, 28, 28, 28, 28),
    (4, 28, 28, 20, 20),
    (4, 31, 17, 50, 9),
    (4, 31, 17, 9, 50),
    (2, 28, 28, 28, 45),
    (2, 28, 28, 11, 28),
    (2, 97, 64, 13, 7),
    (3, 5, 3, 64, 31),
    (1, 1, 1, 7, 5),
    (1, 40, 33, 1, 1),
]


def image(generator, index, height, width):
    """Noise, two-level noise (whose sums reach both ends of the range), or a smooth picture, in turn."""
    if index % 3 == 0:
        return generator.integers(0, 256, (height, width), dtype=numpy.uint8)
    if index % 3 == 1:
        return generator.choice(numpy.array([0, 255], dtype=numpy.uint8), (height, width))
    rows, columns = numpy.mgrid[0:height, 0:width]
    wave = 127.5 + 127.5 * numpy.sin(rows * 0.7 + index) * numpy.cos(columns * 0.45)
    return numpy.rint(wave).astype(numpy.uint8)


def resize(array, height, width):
    """Rows first, then columns, in two calls.

    Up to Pillow 12, one call does the same. Pillow 13 filters the columns first where that is less work, which rounds
    differently. Images that keep their aspect ratio, as those of the data set do, come out the same in all versions.
    """
    image = Image.fromarray(array)
    rows_first = image.resize((width, array.shape[0]), Image.Resampling.BILINEAR)
    rows_first = rows_first.resize((width, height), Image.Resampling.BILINEAR)
    if array.shape[0] * width == array.shape[1] * height or int(PIL.__version__.split(".")[0]) <= 12:
        at_once = image.resize((width, height), Image.Resampling.BILINEAR)
        assert at_once.tobytes() == rows_first.tobytes()
    return numpy.asarray(rows_first)


def main():
    folder = pathlib.Path("tests/fixtures/resize")
    folder.mkdir(parents=True, exist_ok=True)
    generator = numpy.random.default_rng(20130131)
    pixels = bytearray()
    for case, (count, in_height, in_width, out_height, out_width) in enumerate(CASES):
        inputs = [image(generator, case + i, in_height, in_width) for i in range(count)]
        for array in inputs:
            pixels += array.tobytes()
        for array in inputs:
            pixels += resize(array, out_height, out_width).tobytes()
    (folder / "cases.txt").write_text("".join(" ".join(map(str, case)) + "\n" for case in CASES))
    (folder / "pixels.gz").write_bytes(gzip.compress(bytes(pixels), 9, mtime=0))
    (folder / "README.md").write_text(
        "# Resizing, as Pillow does it\n\n"
        "Written by `tests/pytorch/make_resize_fixture.py` (its first lines describe the two files) with "
        f"Pillow {PIL.__version__}, numpy {numpy.__version__}, Python {platform.python_version()}. "
        "`src/data/resize.rs` must give every byte. Generated images, no data set.\n"
    )


if __name__ == "__main__":
    main()
