"""Writes the binary files of the corpus that other programs make: pictures, archives, arrays,
weights, XML, HDF5 and uploads, valid and hostile. Needs numpy, Pillow, tifffile (with imagecodecs
for some compressions), h5py and torch. `cargo test --release --test fuzz -- corpus` writes the
files of this program's own kinds; tables and records are written by hand.
"""

import gzip
import io
import json
import pathlib
import struct
import zipfile
import zlib

import h5py
import numpy as np
import tifffile
import torch
from PIL import Image

HERE = pathlib.Path(__file__).parent / "corpus"
GOLDEN = pathlib.Path(__file__).parents[1] / "tests/golden"
RNG = np.random.default_rng(1)
GRAY = (np.add.outer(np.arange(12), np.arange(10)) * 11 % 256).astype(np.uint8)
DEEP = (GRAY.astype(np.uint16) * 257)
RGB = np.stack([GRAY, GRAY[::-1], 255 - GRAY], 2)
RGBA = np.dstack([RGB, GRAY])


def put(name, content):
    path = HERE / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def pillow(array, form, mode=None, **options):
    out, image = io.BytesIO(), Image.fromarray(array)
    (image.convert(mode) if mode else image).save(out, form, **options)
    return out.getvalue()


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(width, height, depth, color, body, chunks=(), interlace=0):
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace)
    pixels = chunk(b"IDAT", zlib.compress(body))
    parts = [chunk(b"IHDR", header), *chunks, pixels, chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def pngs():
    put("png/gray.png", pillow(GRAY, "PNG"))
    put("png/gray16.png", pillow(DEEP, "PNG"))
    put("png/rgb.png", pillow(RGB, "PNG"))
    put("png/rgba.png", pillow(RGBA, "PNG"))
    put("png/palette.png", pillow(RGB, "PNG", "P"))
    put("png/one_bit.png", pillow(GRAY, "PNG", "1"))
    put("png/gray_alpha.png", pillow(RGBA, "PNG", "LA"))
    rows = b"".join(bytes([filter]) + bytes(8) for filter in range(5)) + bytes(9 * 3)
    put("png/filters.png", png_of(8, 8, 8, 0, rows))
    put("png/interlaced.png", png_of(8, 8, 8, 0, bytes(8 * 8 + 15), interlace=1))
    palette = chunk(b"PLTE", bytes(range(6)))
    put("png/palette_index_too_large.png", png_of(4, 2, 8, 3, b"\0\1\2\3\4" * 2, [palette]))
    put("png/palette_of_4_bytes.png", png_of(4, 2, 8, 3, bytes(10), [chunk(b"PLTE", bytes(4))]))
    put("png/palette_empty.png", png_of(4, 2, 8, 3, bytes(10), [chunk(b"PLTE", b"")]))
    put("png/palette_missing.png", png_of(4, 2, 8, 3, bytes(10)))
    put("png/transparent.png", png_of(4, 2, 8, 3, bytes(10), [palette, chunk(b"tRNS", bytes(9))]))
    put("png/8192_a_side.png", png_of(8192, 8192, 8, 0, bytes(9)))
    put("png/8192_rgba16.png", png_of(8192, 8192, 16, 6, bytes(9)))
    put("png/2_to_the_31.png", png_of(2**31 - 1, 2**31 - 1, 16, 6, b""))
    put("png/no_width.png", png_of(0, 8, 8, 0, b""))
    put("png/text_bomb.png", png_of(4, 4, 8, 0, bytes(20),
        [chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 22), 9))]))
    put("png/profile_bomb.png", png_of(4, 4, 8, 0, bytes(20),
        [chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1 << 22), 9))]))
    frames = chunk(b"acTL", struct.pack(">II", 2, 0))
    frame = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 9, 9, 0, 0, 1, 1, 0, 0))
    put("png/animated.png", png_of(4, 4, 8, 0, bytes(20), [frames, frame]))
    put("png/cut.png", pillow(RGB, "PNG")[:70])


def jpegs():
    for name, options in {"baseline": {}, "progressive": {"progressive": True},
                          "420": {"subsampling": 2}, "444": {"subsampling": 0}}.items():
        put(f"jpeg/rgb_{name}.jpg", pillow(RGB, "JPEG", quality=60, **options))
    put("jpeg/gray.jpg", pillow(GRAY, "JPEG"))
    put("jpeg/cmyk.jpg", pillow(RGB, "JPEG", "CMYK"))
    exif = Image.Exif()
    exif[0x0112] = 6
    put("jpeg/turned.jpg", pillow(RGB, "JPEG", exif=exif))
    whole = pillow(RGB, "JPEG", quality=60)
    at = whole.index(b"\xff\xc0") + 5
    put("jpeg/claims_65535.jpg", whole[:at] + b"\xff\xff\xff\xff" + whole[at + 4:])
    put("jpeg/claims_8192.jpg", whole[:at] + b"\x20\x00\x20\x00" + whole[at + 4:])
    put("jpeg/no_height.jpg", whole[:at] + b"\x00\x00" + whole[at + 2:])
    put("jpeg/cut.jpg", whole[:len(whole) - 30])


def tiffs():
    def tiff(array, **options):
        out = io.BytesIO()
        tifffile.imwrite(out, array, metadata=None, software=False, **options)
        return out.getvalue()
    large = np.tile(GRAY, (3, 3))
    for compression in [None, "lzw", "adobe_deflate", "packbits", "zstd", "jpeg"]:
        put(f"tiff/gray_{compression}.tif", tiff(large, compression=compression))
    put("tiff/gray16_predictor.tif", tiff(DEEP, compression="adobe_deflate", predictor=True))
    put("tiff/tiled_lzw.tif", tiff(np.tile(GRAY, (2, 4)), tile=(16, 16), compression="lzw"))
    put("tiff/big.tif", tiff(GRAY, bigtiff=True))
    put("tiff/big_endian.tif", tiff(DEEP, byteorder=">"))
    put("tiff/planar.tif", tiff(np.moveaxis(RGB, 2, 0), photometric="rgb", planarconfig="separate"))
    put("tiff/rgb.tif", tiff(RGB, photometric="rgb"))
    put("tiff/min_is_white.tif", tiff(GRAY, photometric="miniswhite"))
    put("tiff/float.tif", tiff(GRAY.astype(np.float32)))
    put("tiff/pages.tif", tiff(np.stack([GRAY, GRAY])))
    put("tiff/palette.tif", pillow(RGB, "TIFF", "P"))
    put("tiff/one_bit_g4.tif", pillow(GRAY, "TIFF", "1", compression="group4"))

    def directory(entries, after=0, data=b""):
        body = struct.pack("<H", len(entries))
        for tag, kind, count, value in entries:
            body += struct.pack("<HHII", tag, kind, count, value)
        return b"II*\0\x08\0\0\0" + body + struct.pack("<I", after) + data
    plain = [(256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
             (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, 8), (279, 4, 1, 64)]

    def changed(**values):
        return [(t, k, c, values.get(f"t{t}", v)) for t, k, c, v in plain]
    put("tiff/loop.tif", directory(plain, after=8))
    put("tiff/8192_a_side.tif", directory(changed(t256=8192, t257=8192, t278=8192)))
    put("tiff/no_rows_per_strip.tif", directory(changed(t278=0)))
    put("tiff/strip_elsewhere.tif", directory(changed(t273=2**32 - 9)))
    put("tiff/no_samples.tif", directory(changed(t277=0)))
    put("tiff/samples_65535.tif", directory(changed(t277=65535)))
    put("tiff/2_to_the_32.tif", directory(changed(t256=2**32 - 1, t257=2**32 - 1)))
    many = [(t, k, 2**31 if t in (273, 279) else c, v) for t, k, c, v in plain]
    put("tiff/strips_2_to_the_31.tif", directory(many))


def gzips():
    def gz(data):
        return gzip.compress(data, mtime=0)
    whole = gz(pillow(GRAY, "PNG"))
    put("gzip/png.gz", whole)
    put("gzip/tiff.gz", gz(pillow(DEEP, "TIFF")))
    put("gzip/jpeg.gz", gz(pillow(RGB, "JPEG")))
    put("gzip/plain.png", pillow(GRAY, "PNG"))
    png = pillow(GRAY, "PNG")
    put("gzip/two_members.gz", gz(png[:40]) + gz(png[40:]))
    put("gzip/padded.gz", whole + bytes(9))
    put("gzip/twice.gz", gz(whole))
    put("gzip/bomb.gz", gz(bytes(1 << 23)))
    put("gzip/cut.gz", whole[:-9])


def foreign_hdf5():
    def h5(name, **sets):
        path = HERE / "predictions_hdf5" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as f:
            for key, value in sets.items():
                f.create_dataset(key, **value)
    rows = RNG.random((3, 28), np.float32)
    ids = np.array([b"a", b"b", b"c"], dtype="S8")
    h5("foreign_fixed.h5", probabilities={"data": rows}, ids={"data": ids})
    h5("foreign_text.h5", probabilities={"data": rows.astype(np.float64)},
       ids={"data": ["a", "b", "c"], "dtype": h5py.string_dtype()})
    h5("foreign_chunked.h5", probabilities={"data": rows, "chunks": (1, 28), "compression": 9})
    h5("claims_rows.h5", probabilities={"shape": (10**12, 28), "dtype": "f4", "chunks": (1, 28)})
    h5("claims_memory.h5", probabilities={"shape": (10**8, 28), "dtype": "f4", "chunks": (1, 28)})


def weights():
    def st(header, data=b""):
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data
    one = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    put("safetensors/one.safetensors", st({"w": one}, bytes(24)))
    put("safetensors/described.safetensors", st({"__metadata__": {
        "arch": "se_resnext_tiny", "stem": "standard", "head": "linear", "channels": "4",
        "classes": "28", "normalization": "{}"}, "w": one}, bytes(24)))
    state = {"state": "{}", "xxh3": "0"}
    put("safetensors/state.safetensors", st({"__metadata__": state, "w": one}, bytes(24)))
    for name, shape, offsets in [
        ("overflow", [2**32, 2**32], [0, 24]),
        ("negative", [-1, 3], [0, 24]),
        ("zero", [0, 2**63], [0, 0]),
        ("past_end", [2, 3], [0, 2**60]),
        ("backwards", [2, 3], [24, 0]),
    ]:
        w = {**one, "shape": shape, "data_offsets": offsets}
        put(f"safetensors/{name}.safetensors", st({"w": w}, bytes(24)))
    put("safetensors/claims_header.safetensors", struct.pack("<Q", 2**62) + b"{}")
    put("safetensors/deep.safetensors", st(b'{"w":' + b"[" * 5000))
    put("safetensors/empty.safetensors", st({}))

    def saved(value):
        out = io.BytesIO()
        torch.save(value, out)
        return out.getvalue()
    w = torch.arange(6.0).view(2, 3)
    archives = {
        "plain": {"w": w, "half": w.half(), "long": torch.arange(3)},
        "nested": {"epoch": 3, "state_dict": {"module.w": w.t()}, "best": np.float64(0.5)},
        "shared": {"a": w, "b": w[0], "c": w.expand(2, 2, 3)},
        "other": {"model": {"w": w}, "args": __import__("argparse").Namespace(lr=0.1), "s": {1, 2}},
        "empty": {},
    }
    for name, value in archives.items():
        archive = saved(value)
        put(f"torch/{name}.pth", archive)
        with zipfile.ZipFile(io.BytesIO(archive)) as z:
            entry = next(n for n in z.namelist() if n.endswith("data.pkl"))
            put(f"pickle/{name}.pkl", z.read(entry))
    put("torch/before_1_6.pth", (GOLDEN / "torch/old.pth").read_bytes())
    put("torch/compressed.pth", zip_of({"a/data.pkl": bytes(1 << 16)}))
    put("torch/no_pickle.pth", zip_of({"a/b": b""}))
    for name, code in {
        "calls": b"cos\nsystem\n(S'true'\ntR.",
        "deep": b"(" * 3000 + b".",
        "memo": b"}" + b"r\xff\xff\xff\x7f" + b".",
        "long": b"\x8b\xff\xff\xff\x7f" + b"\x00.",
        "text": b"X\xff\xff\xff\xff.",
        "frame": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
        "lists": b"](" + b"]" * 500 + b"e" + b".",
        "self": b"]q\x00h\x00a.",
        "doubles": b"]q\x00" + b"(h\x00h\x00e" * 40 + b".",
        "nothing": b"",
    }.items():
        put(f"pickle/{name}.pkl", code)


def zip_of(files, compression=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as z:
        for name, content in files.items():
            z.writestr(zipfile.ZipInfo(name), content, compression)
    return out.getvalue()


def zips():
    png = pillow(GRAY, "PNG")
    put("zip/two.zip", zip_of({"a_red.png": png, "a_green.png": png}))
    put("zip/stored.zip", zip_of({"train/a_red.png": png}, zipfile.ZIP_STORED))
    put("zip/empty.zip", zip_of({}))
    for name, entry in {
        "climbs": "../a.png",
        "absolute": "/tmp/a.png",
        "backslash": "..\\a.png",
        "folder": "a/b/c.png",
        "nul": "a\x01.png",
        "long": "a" * 4000,
        "dot": ".",
    }.items():
        put(f"zip/{name}.zip", zip_of({entry: b"x"}))
    put("zip/bomb.zip", zip_of({"a.png": bytes(1 << 23)}))
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        z.writestr(link, "/etc")
        z.writestr(zipfile.ZipInfo("link/a"), "x")
    put("zip/link.zip", out.getvalue())
    whole = zip_of({"a.png": png})
    put("zip/cut.zip", whole[:-30])
    put("zip/prefixed.zip", b"junk" * 9 + whole)
    at = whole.rindex(b"PK\x05\x06")
    put("zip/claims_entries.zip", whole[:at + 8] + b"\xff\xff\xff\xff" + whole[at + 12:])
    put("zip/claims_size.zip", whole.replace(struct.pack("<I", len(png)), b"\xff\xff\xff\x7f"))
    put("zip/end_comment.zip", whole[:-2] + b"\xff\xff" + b"PK\x05\x06" * 20)


def xmls():
    url = "http://v18.proteinatlas.org/images/1/2_A1_3_blue_red_green.jpg"
    image = f'<image imageType="sampleImage"><imageUrl>{url}</imageUrl></image>'
    image = f"<assayImage>{image}</assayImage>"
    data = f"<data><location GOId=\"x\">Nucleoli</location>{image}</data>"
    head = '<?xml version="1.0" encoding="UTF-8"?><proteinAtlas><entry>'
    head += '<antibody id="a"><cellExpression technology="ICC/IF"><subAssay>'
    tail = "</subAssay></cellExpression></antibody></entry></proteinAtlas>"
    whole = head + data + tail
    put("xml/atlas.xml", whole)
    put("xml/atlas.xml.gz", gzip.compress(whole.encode(), mtime=0))
    put("xml/cdata.xml", whole.replace("Nucleoli", "<![CDATA[Nucleoli]]>"))
    put("xml/references.xml", whole.replace("Nucleoli", "&#78;ucleoli&amp;&b;&#x110000;"))
    entities = '<!ENTITY b "' + "c" * 99 + '"><!ENTITY d "' + "&b;" * 99 + '">'
    put("xml/entities.xml", f"<!DOCTYPE a [{entities}]><a>&d;</a>")
    put("xml/deep.xml", "<a>" * 3000)
    put("xml/deep_closed.xml", "<a>" * 90 + "</a>" * 90)
    put("xml/open_tag.xml", head + "<a b=\"" + "c" * 3000)
    attributes = " ".join(f'a{i}=""' for i in range(400))
    put("xml/attributes.xml", f"{head}<image {attributes}/>{tail}")
    put("xml/comment.xml", head + "<!--" + "-" * 3000)
    put("xml/utf16.xml", whole.encode("utf-16"))
    put("xml/locations.xml", 
        head + "<data>" + "<location>x</location>" * 300 + image + "</data>" + tail)
    put("xml/cut.xml.gz", gzip.compress(whole.encode(), mtime=0)[:-9])


def npys():
    def npy(array):
        out = io.BytesIO()
        np.save(out, array)
        return out.getvalue()
    rows = RNG.random((2, 28))
    for kind in ["<f4", ">f8", "<f2", "|u1", "|b1", "<i8"]:
        put(f"npy/{kind.strip('<>|')}.npy", npy((rows > 0.5).astype(kind)))
    put("npy/columns.npy", npy(np.asfortranarray(rows)))
    put("npy/three_axes.npy", npy(np.zeros((1, 2, 3))))
    put("npy/fields.npy", npy(np.zeros(2, dtype=[("a", "<f4"), ("b", "S3")])))

    def header(text, version=b"\x01\x00", size="<H"):
        return b"\x93NUMPY" + version + struct.pack(size, len(text)) + text.encode()
    form = "{{'descr': '<f4', 'fortran_order': False, 'shape': {}, }}\n"
    for name, shape in {"claims": "(1000000000000, 28)", "overflow": "(18446744073709551615, 28)",
                        "product": "(9223372036854775808, 4)", "negative": "(-1, 28)",
                        "none": "(0, 28)", "many": "(" + "1, " * 900 + ")"}.items():
        put(f"npy/{name}.npy", header(form.format(shape)))
    put("npy/deep.npy", header("(" * 3000))
    put("npy/version_2.npy", header(form.format("(0, 28)"), b"\x02\x00", "<I"))
    put("npy/claims_header.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{")


def uploads():
    part = 'Content-Disposition: form-data; name="file"; filename="{}"\r\n'
    part += "Content-Type: image/png\r\n\r\n"

    def body(files):
        parts = [b"--x\r\n" + part.format(n).encode() + c + b"\r\n" for n, c in files]
        return b"".join(parts) + b"--x--\r\n"
    gray, rgb = pillow(GRAY, "PNG"), pillow(RGB, "PNG")
    four = [(f"a_{c}.png", gray) for c in ["red", "green", "blue", "yellow"]]
    put("upload/four", body(four))
    put("upload/colour", body([("a.png", rgb)]))
    put("upload/jpeg", body([("a.jpg", pillow(RGB, "JPEG"))]))
    put("upload/five", body(four + [("b.png", gray)]))
    palette = (HERE / "png/palette_of_4_bytes.png").read_bytes()
    put("upload/palette", body([("a.png", palette)]))
    put("upload/no_file", body([("a", b"b")]).replace(b"; filename", b"; file"))
    names = ["../../a_red.png", "\u202e_green.png", "", "_blue_yellow"]
    put("upload/odd_names", body([(name, gray) for name in names]))
    put("upload/no_end", body(four)[:-60])
    put("upload/other_boundary", body(four).replace(b"--x", b"--y"))
    put("upload/headers", b"--x\r\n" + b"A: b\r\n" * 300 + b"\r\nc\r\n--x--\r\n")
    put("upload/empty", b"")


for write in [
    pngs, jpegs, tiffs, gzips, foreign_hdf5, weights, zips, xmls, npys, uploads
]:
    write()
