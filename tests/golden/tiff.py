"""Makes tiff.zip: `files`, small TIFFs of many kinds one behind the other, and expected.csv: how
many bytes each has, and what is right for it: the CRC of its red, green and blue plane in 8 bits as
tifffile reads them, or the words that a refusal must say, with | between them. Where OpenCV and
Pillow (both libtiff) read a file to the same scale, they have to agree.

Needs numpy, tifffile 2026.3, imagecodecs 2026.3, opencv-python 5.0, Pillow 13."""

import csv
import io
import os
import random
import struct
import warnings
import zipfile
import zlib

import cv2
import imagecodecs
import numpy as np
import tifffile
from PIL import Image

W, H = 27, 19
LONG, SHORT, BYTES, ASCII = 4, 3, 7, 2
NONE, LZW, JPEG, DEFLATE, OLD_DEFLATE, PACKBITS, ZSTD = 1, 5, 7, 8, 32946, 32773, 50000


def old_lzw(data):
    """As before 1990: codes from the lowest bit on."""
    codes = [c for i in range(0, len(data), 200) for c in (256, *data[i : i + 200])] + [257]
    bits = sum(code << 9 * i for i, code in enumerate(codes))
    return bits.to_bytes((9 * len(codes) + 7) // 8, "little")


OLD_LZW = -5
ENCODE = {
    OLD_LZW: old_lzw,
    NONE: bytes,
    LZW: imagecodecs.lzw_encode,
    DEFLATE: imagecodecs.zlib_encode,
    OLD_DEFLATE: imagecodecs.zlib_encode,
    ZSTD: imagecodecs.zstd_encode,
}


def tiff(pages, order="<", big=False, loop=None):
    """The file of `pages`: dicts of tag to (type, values), and "chunks", a list of bytes."""
    offset = "Q" if big else "I"
    out = bytearray(b"II" if order == "<" else b"MM")
    out += struct.pack(
        order + "HHHQ" if big else order + "HI", *((43, 8, 0, 0) if big else (42, 0))
    )
    link, starts = len(out) - struct.calcsize(offset), []
    for page in pages:
        tags = {t: v for t, v in page.items() if t != "chunks"}
        places = []
        for chunk in page["chunks"]:
            places.append(len(out))
            out += chunk + b"\0" * (len(chunk) % 2)
        tiled = 322 in tags
        tags.setdefault(324 if tiled else 273, (LONG, places))
        tags.setdefault(325 if tiled else 279, (LONG, [len(c) for c in page["chunks"]]))
        fields = []
        for number, (kind, values) in sorted(tags.items()):
            if isinstance(values, bytes):
                data, count = values, len(values)
            else:
                data = struct.pack(f"{order}{len(values)}{'I' if kind == LONG else 'H'}", *values)
                count = len(values)
            if len(data) > (8 if big else 4):
                place = len(out)
                out += data + b"\0" * (len(data) % 2)
                data = struct.pack(order + offset, place)
            fields.append((number, kind, count, data.ljust(8 if big else 4, b"\0")))
        starts.append(len(out))
        struct.pack_into(order + offset, out, link, len(out))
        out += struct.pack(order + ("Q" if big else "H"), len(fields))
        for number, kind, count, data in fields:
            out += struct.pack(order + "HH" + offset, number, kind, count) + data
        link = len(out)
        out += struct.pack(order + offset, 0)
    if loop is not None:
        struct.pack_into(order + offset, out, link, starts[loop])
    return bytes(out)


def packbits(row_bytes):
    return lambda data: b"".join(
        imagecodecs.packbits_encode(data[i : i + row_bytes]) for i in range(0, len(data), row_bytes)
    )


def stored(block, bits, order, predictor):
    """Rows, columns and values of a strip or tile, uncompressed."""
    rows = block.reshape(len(block), -1)
    if predictor:
        values = block.astype(np.int64)
        values[:, 1:] -= block[:, :-1].astype(np.int64)
        rows = (values % (1 << bits)).reshape(len(block), -1)
    if bits in (8, 16):
        return rows.astype(f"{order}u{bits // 8}").tobytes()
    digits = (rows[..., None].astype(np.int64) >> np.arange(bits)[::-1]) & 1
    return np.packbits(digits.reshape(len(rows), -1).astype(np.uint8), axis=1).tobytes()


def page(
    pixels,
    bits=8,
    photometric=1,
    compression=NONE,
    tile=None,
    rows=None,
    planar=False,
    predictor=False,
    reversed_bits=False,
    order="<",
    extra=(),
    more={},
):
    """Tags and chunks of `pixels`, [h, w, values]."""
    height, width, n = pixels.shape
    size = tile or (rows or height, width)
    chunks = []
    for plane in np.moveaxis(pixels, 2, 0)[..., None] if planar else [pixels]:
        for y in range(0, height, size[0]):
            for x in range(0, width, size[1]):
                block = plane[y : y + size[0], x : x + size[1]]
                if tile:
                    pad = [(0, s - b) for s, b in zip(size, block.shape)] + [(0, 0)]
                    block = np.pad(block, pad, mode="edge")
                if compression == JPEG:
                    block = np.ascontiguousarray(block[..., 0] if block.shape[2] == 1 else block)
                    colours = {2: "rgb", 6: "ycbcr"}.get(photometric) if block.ndim == 3 else None
                    chunk = imagecodecs.jpeg8_encode(
                        block.astype(np.uint8),
                        level=90,
                        colorspace="rgb" if colours else None,
                        outcolorspace=colours,
                        subsampling="420" if colours == "ycbcr" else "444",
                    )
                else:
                    data = stored(block, bits, order, predictor)
                    row_bytes = len(data) // len(block)
                    chunk = ENCODE.get(compression, packbits(row_bytes))(data)
                chunks.append(imagecodecs.bitorder_encode(chunk) if reversed_bits else chunk)
    tags = {
        256: (SHORT, [width]),
        257: (LONG, [height]),
        258: (SHORT, [bits] * n),
        259: (SHORT, [compression]),
        262: (SHORT, [photometric]),
        277: (SHORT, [n]),
        284: (SHORT, [2 if planar else 1]),
        "chunks": chunks,
    }
    tags |= {322: (SHORT, [tile[1]]), 323: (SHORT, [tile[0]])} if tile else {278: (LONG, [size[0]])}
    if predictor:
        tags[317] = (SHORT, [2])
    if reversed_bits:
        tags[266] = (SHORT, [2])
    if extra:
        tags[338] = (SHORT, list(extra))
    if photometric == 6:
        tags[530] = (SHORT, [2, 2])
    return tags | more


def picture(values, bits, seed=0):
    """Smooth, with noise in the middle rows, up to the largest value."""
    y, x, c = np.mgrid[:H, :W, :values]
    most = (1 << bits) - 1
    noise = np.random.default_rng(seed).integers(0, max(2, most // 16), (H, W, values))
    smooth = ((x * (c + 1) + y * 2) * most) // (W * values + 2 * H)
    noise[:7] = noise[11:] = 0
    return np.minimum(smooth + noise, most)


def grid():
    """Variants by name: each pair of choices that can stand together, a few times."""
    kinds = {  # values, bits, photometric, extra samples
        "gray1": (1, 1, 1, ()), "gray2": (1, 2, 1, ()), "gray4": (1, 4, 1, ()),
        "gray8": (1, 8, 1, ()), "gray12": (1, 12, 1, ()), "gray16": (1, 16, 1, ()),
        "white1": (1, 1, 0, ()), "white4": (1, 4, 0, ()), "white8": (1, 8, 0, ()),
        "white16": (1, 16, 0, ()), "palette4": (1, 4, 3, ()), "palette8": (1, 8, 3, ()),
        "rgb8": (3, 8, 2, ()), "rgb16": (3, 16, 2, ()), "rgba8": (4, 8, 2, (2,)),
        "rgba16": (4, 16, 2, (2,)), "alpha8": (2, 8, 1, (2,)), "ycbcr8": (3, 8, 6, ()),
    }  # fmt: skip
    names = {NONE: "none", LZW: "lzw", JPEG: "jpeg", DEFLATE: "deflate", OLD_DEFLATE: "old-deflate",
             PACKBITS: "packbits", ZSTD: "zstd"}  # fmt: skip
    layouts = {"strip": {}, "strips": {"rows": 7}, "tiles": {"tile": (16, 16)},
               "wide-tile": {"tile": (16, 48)}}  # fmt: skip
    choose = random.Random(1)
    for kind, (n, bits, photometric, extra) in kinds.items():
        for compression in names:
            if compression == JPEG and (bits != 8 or extra or photometric in (0, 3)):
                continue
            if photometric == 6 and compression != JPEG:
                continue
            for layout in choose.sample(sorted(layouts), 2):
                sizes = layouts[layout]
                order, big = choose.choice("<>"), choose.random() < 0.4
                planar = n > 1 and photometric != 6 and choose.random() < 0.5
                can = compression in (LZW, DEFLATE, OLD_DEFLATE, ZSTD) and bits in (8, 16)
                predictor = can and choose.random() < 0.5
                reverse = compression != JPEG and choose.random() < 0.25
                more = {}
                if photometric == 3:
                    ramp = np.arange(1 << bits) * 65535 // ((1 << bits) - 1)
                    shift = 8 if choose.random() < 0.3 else 0  # of 8 bits, as some write it
                    map_ = np.concatenate([ramp, ramp[::-1], ramp // 2]) >> shift
                    more = {320: (SHORT, map_.tolist())}
                words = [kind, names[compression], layout, "big-endian" if order == ">" else "",
                         "bigtiff" if big else "", "planar" if planar else "",
                         "predictor" if predictor else "", "reversed" if reverse else ""]  # fmt: skip
                yield (
                    "-".join(w for w in words if w),
                    tiff(
                        [page(picture(n, bits), bits, photometric, compression, planar=planar,
                              predictor=predictor, reversed_bits=reverse, order=order, extra=extra,
                              more=more, **sizes)],
                        order, big,
                    ),
                )  # fmt: skip


def written_by_others():
    """By tifffile, and by libtiff through Pillow and OpenCV."""
    gray, wide, rgb = picture(1, 8)[..., 0], picture(1, 16)[..., 0], picture(3, 8)
    images = {"8": gray.astype("u1"), "16": wide.astype("u2"), "rgb": rgb.astype("u1")}
    for name, image in images.items():
        for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd", "jpeg"):
            if compression == "jpeg" and name == "16":
                continue
            out = io.BytesIO()
            Image.fromarray(image).save(out, "tiff", compression=compression)
            yield f"pillow-{name}-{compression}", out.getvalue()
        for compression in (1, 5, 8, 32946, 32773):
            ok, data = cv2.imencode(".tif", image, [cv2.IMWRITE_TIFF_COMPRESSION, compression])
            assert ok
            yield f"opencv-{name}-{compression}", data.tobytes()
        for compression in (None, "lzw", "zlib", "zstd", "packbits"):
            out = io.BytesIO()
            tifffile.imwrite(
                out, image, compression=compression, predictor=compression in ("lzw", "zlib"),
                tile=(16, 32), bigtiff=compression == "zstd", byteorder=">",
                photometric="rgb" if name == "rgb" else "minisblack",
            )  # fmt: skip
            yield f"tifffile-{name}-{compression}", out.getvalue()
    out = io.BytesIO()
    tifffile.imwrite(out, images["8"], imagej=True, metadata={"axes": "YX"})
    yield "imagej-one", out.getvalue()
    out = io.BytesIO()
    tifffile.imwrite(out, images["16"], ome=True)
    yield "ome-one", out.getvalue()


def one_of_several_pages():
    """Files of one full-size page: the others are smaller copies of it or a mask."""
    image = picture(1, 8)
    full, small = page(image), page(image[::2, ::2], more={254: (LONG, [1])})
    unmarked = page(image[: H // 2, : W // 2])
    yield "page-then-thumbnail", tiff([full, small])
    yield "thumbnail-then-page", tiff([small, full])
    yield "page-then-old-thumbnail", tiff([full, page(image[::2, ::2], more={255: (SHORT, [2])})])
    yield "page-then-mask", tiff([full, page(image // 255, 1, 4, more={254: (LONG, [4])})])
    yield "pyramid", tiff([full, small, page(image[::4, ::4], more={254: (LONG, [1])})], ">", True)
    yield "pyramid-unmarked", tiff([full, unmarked])
    yield "only-a-thumbnail", tiff([small])


def orientations():
    for value in range(1, 9):
        yield f"orientation-{value}", tiff(
            [page(picture(3, 8), 8, 2, more={274: (SHORT, [value])})]
        )


def odd():
    """Right, though unusual."""
    image = picture(1, 8)
    yield "length-0-of-one-strip", tiff([page(image) | {279: (LONG, [0])}])
    yield "old-lzw", tiff([page(image, compression=OLD_LZW) | {259: (SHORT, [LZW])}])
    yield "one-pixel", tiff([page(image[:1, :1])])
    yield "rows-per-strip-without-end", tiff([page(image) | {278: (LONG, [0xFFFFFFFF])}])
    bare = page(image)
    del bare[278], bare[284], bare[277]
    yield "few-tags", tiff([bare])
    yield "void-format", tiff([page(image, more={339: (SHORT, [4])})])
    rgb = page(picture(3, 8), 8, 2)
    rgb[258] = (SHORT, [8])
    yield "bits-once-for-three", tiff([rgb])


def refused():
    """With the word that the message must have."""
    image, rgb = picture(1, 8), picture(3, 8)
    one = page(image)

    def by_tifffile(word, data, **how):
        out = io.BytesIO()
        tifffile.imwrite(out, data, **how)
        return word, out.getvalue()

    gray = image[..., 0].astype("u1")
    yield "int16", *by_tifffile("signed", gray.astype("i2"))
    yield "int8", *by_tifffile("signed", gray.astype("i1"))
    yield "uint32", *by_tifffile("32-bit", gray.astype("u4"))
    yield "float16", *by_tifffile("floating", gray.astype("f2"))
    yield "float32", *by_tifffile("floating", gray.astype("f4"), compression="zlib", predictor=True)
    yield "complex", *by_tifffile("complex", gray.astype("c8"))
    for compression, word in {"lzma": "LZMA", "webp": "WebP", "jpeg2000": "JPEG 2000",
                              "lerc": "LERC", "jpegxl": "JPEG XL", "jpegxr": "JPEG XR",
                              "png": "PNG"}.items():  # fmt: skip
        data = rgb.astype("u1") if compression == "webp" else gray
        yield compression, *by_tifffile(word, data, compression=compression)
    yield "fax", "fax", tiff([page(image // 255, 1) | {259: (SHORT, [4])}])
    yield "unknown-compression", "34567", tiff([one | {259: (SHORT, [34567])}])
    yield "cmyk", "CMYK", tiff([page(picture(4, 8), 8, 5)])
    yield "lab", "Lab", tiff([page(rgb, 8, 8)])
    yield "ycbcr", "YCbCr", tiff([page(rgb, 8, 6)])
    yield "bits-565", "[5, 6, 5]", tiff([page(rgb, 8, 2) | {258: (SHORT, [5, 6, 5])}])
    yield "predictor-12", "predictor", tiff(
        [page(image, 12, compression=LZW, more={317: (SHORT, [2])})]
    )
    yield "channels-chunky", "4 values", tiff([page(picture(4, 8), 8, 1, extra=(0, 0, 0))])
    yield "channels-planar", "4 values", tiff(
        [page(picture(4, 8), 8, 1, planar=True, extra=(0, 0, 0))]
    )
    yield "channels-two", "2 values", tiff([page(picture(2, 8), 8, 1, extra=(0,))])
    yield "two-pages", "2 full-size pages", tiff([one, one])
    yield "two-pages-bigtiff", "2 full-size pages", tiff([one, one], ">", True)
    yield "two-sizes", "2 full-size pages", tiff([one, page(image[:-1])])
    yield "pages-of-document", "3 full-size pages", tiff([page(image, more={254: (LONG, [2])})] * 3)
    yield "only-thumbnails", "2 full-size pages", tiff([page(image, more={254: (LONG, [1])})] * 2)
    yield "camera-raw", "sub-directory", tiff(
        [page(image, more={254: (LONG, [1]), 330: (LONG, [8])})]
    )
    yield "page-page-thumbnail", "2 full-size", tiff(
        [one, one, page(image[::2, ::2], more={254: (LONG, [1])})]
    )
    stack = np.stack([gray] * 4)
    yield "hyperstack", *by_tifffile(
        "4 full-size pages", stack, imagej=True, metadata={"axes": "CYX"}
    )
    yield "ome-channels", *by_tifffile(
        "4 full-size pages", stack, ome=True, metadata={"axes": "CYX"}
    )
    yield "truncated", *by_tifffile("stack", stack, photometric="minisblack", truncate=True)
    yield "imagej-over-4-gb", "4 full-size pages", tiff(
        [page(image, more={270: (ASCII, b"ImageJ=1.54f\nimages=4\nchannels=4\n\0")})]
    )
    yield "metamorph", "3 full-size pages", tiff(
        [page(image, more={33629: (5, bytes(8))}) | {33629: (SHORT, [0] * 3)}]
    )
    yield "volume", "5 full-size pages", tiff([page(image, more={32997: (LONG, [5])})])
    # damaged, or lies
    yield "loop-of-one", "broken TIFF|circle", tiff([one], loop=0)
    yield "loop-of-two", "broken TIFF|circle", tiff(
        [one, page(image[::2, ::2], more={254: (LONG, [1])})], loop=0
    )
    yield "next-outside", "broken TIFF|missing", tiff([one])[:-4] + b"\xff\xff\xff\x7f"
    yield "no-page", "broken TIFF|no image", b"II\x2a\0\0\0\0\0"
    yield "no-offsets", "broken TIFF|offsets", tiff([one | {273: (LONG, [])}])
    yield "few-offsets", "broken TIFF|offsets", tiff([page(image, rows=7) | {273: (LONG, [8, 8])}])
    yield "strip-outside", "broken TIFF|missing", tiff([one | {273: (LONG, [1 << 20])}])
    yield "strip-too-long", "broken TIFF|claim", tiff([one | {279: (LONG, [1 << 20])}])
    yield "strip-too-short", "broken TIFF|too soon", tiff(
        [page(image, rows=7) | {279: (LONG, [7 * W, 7 * W, 3])}]
    )
    yield "higher-than-data", "broken TIFF|too soon", tiff(
        [one | {257: (LONG, [100]), 278: (LONG, [100])}]
    )
    yield "wider-than-allowed", "max_pixels_side", tiff([one | {256: (LONG, [0xFFFFFFFF])}])
    yield "empty", "empty", tiff([one | {257: (LONG, [0])}])
    yield "tile-wide-lie", "broken TIFF|tiles of", tiff(
        [page(image, tile=(32, 32)) | {322: (LONG, [1 << 30])}]
    )
    yield "tile-of-nothing", "broken TIFF|tiles of", tiff(
        [page(image, tile=(32, 32)) | {323: (LONG, [0])}]
    )
    yield "tag-count-lie", "broken TIFF|missing", tiff([one])[:-4].replace(
        struct.pack("<HHI", 256, 3, 1), struct.pack("<HHI", 273, 4, 0xFFFFFFFF)
    ) + bytes(4)
    shared = [8] * H
    yield "shared-strips", "broken TIFF|claim", tiff(
        [page(image, rows=1) | {273: (LONG, shared), 279: (LONG, [400] * H)}]
    )
    yield "many-tags", "broken TIFF|claims 65535", b"MM\0\x2a\0\0\0\x08\xff\xff" + bytes(100)
    yield "palette-short", "broken TIFF|palette", tiff(
        [page(image, 8, 3, more={320: (SHORT, [0] * 30)})]
    )
    damaged = bytearray(tiff([page(image, compression=DEFLATE)]))
    damaged[30:60] = bytes(30)
    yield "deflate-damaged", "broken TIFF|compressed data", bytes(damaged)
    yield "jpeg-other-size", "broken TIFF|expected", tiff(
        [page(image, compression=JPEG, tile=(32, 32)) | {322: (SHORT, [64])}]
    )


def eight(values, bits):
    most = (1 << bits) - 1
    return np.floor(values.astype(np.float64) * 255 / most + 0.5).astype(np.uint8)


def expected(data):
    """Red, green and blue by tifffile, 8 bit, before turning."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        full = [p for p in file.pages if p.subfiletype == 0 and p.imagewidth == W] or file.pages
        page = full[0]
        image = page.asarray()
        if page.photometric == 3:
            colours = page.colormap
            image = np.moveaxis(colours if colours.max() < 256 else colours >> 8, 0, 1)[image]
            return image.astype(np.uint8), page
        if page.planarconfig == 2 and image.ndim == 3:
            image = np.moveaxis(image, 0, 2)
        image = eight(image, page.bitspersample)
        image = 255 - image if page.photometric == 0 else image
    if image.ndim == 2 or image.shape[2] == 2:
        image = np.dstack([image if image.ndim == 2 else image[..., 0]] * 3)
    return image[..., :3], page


def turned(image, value):
    flips = {1: image, 2: image[:, ::-1], 3: image[::-1, ::-1], 4: image[::-1],
             5: image.swapaxes(0, 1), 6: np.rot90(image, -1),
             7: np.rot90(image, 2).swapaxes(0, 1), 8: np.rot90(image)}  # fmt: skip
    return flips[value]


def compared(name, data, image, page):
    """Which of OpenCV and Pillow read it to the same scale, and equally."""
    alone = "page" in name or "pyramid" in name or "length-0" in name
    if alone or page.photometric == 3 or page.bitspersample not in (8, 16) or page.extrasamples:
        return set()
    seen = set()
    for reader in ("opencv", "pillow"):
        try:
            if reader == "opencv":
                if page.planarconfig == 2 and page.bitspersample == 16:
                    continue  # which it takes for one plane
                other = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
                other = other[..., 2::-1] if other.ndim == 3 else other
            else:
                other = np.asarray(Image.open(io.BytesIO(data)))
        except Exception:  # not of a kind that it reads
            continue
        if other is None or other.dtype.itemsize * 8 != page.bitspersample:
            continue
        other = eight(other, page.bitspersample)
        other = other if other.ndim == 3 else np.dstack([other] * 3)
        # Some of their ways leave white at zero.
        equal = (other == image).all() or page.photometric == 0 and (255 - other == image).all()
        assert equal, f"{reader} differs: {name}, {np.abs(other.astype(int) - image).max()}"
        seen.add(reader)
    return seen


def main():
    warnings.simplefilter("ignore")
    import logging

    logging.disable()
    rows, files, agreed = [], {}, {"opencv": 0, "pillow": 0}
    for group in (grid, written_by_others, one_of_several_pages, orientations, odd):
        for name, data in group():
            image, tags = expected(data)
            value = int(name[-1]) if name.startswith("orientation") else 1
            for reader in compared(name, data, image, tags) if value == 1 else set():
                agreed[reader] += 1
            image = turned(image, value)
            planes = [f"{zlib.crc32(image[..., c].tobytes()):08x}" for c in range(3)]
            rows.append([name, len(data), image.shape[1], image.shape[0], *planes, ""])
            files[name] = data
    right = len(files)
    for name, word, data in refused():
        rows.append([name, len(data), "", "", "", "", "", word])
        files[name] = data
    table, all_of_them = io.StringIO(), b"".join(files.values())
    csv.writer(table, lineterminator="\n").writerows(
        [["name", "bytes", "width", "height", "red", "green", "blue", "refused"], *rows]
    )
    assert len(files) == len(rows)
    target = os.path.join(os.path.dirname(__file__), "tiff.zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as out:
        for name, data in {"expected.csv": table.getvalue(), "files": all_of_them}.items():
            out.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    print(right, "read,", len(files) - right, "refused,", agreed, os.path.getsize(target), "bytes")


main()
