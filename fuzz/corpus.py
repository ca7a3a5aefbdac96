"""Writes the files of the corpus that other programs make: pictures, archives, arrays, weights,
XML, HDF5, and small tables and records as text, valid and hostile. Needs numpy, Pillow, tifffile
(with imagecodecs for some compressions), h5py and torch; `cargo test --release --test fuzz --
corpus` writes the others. Equal versions of the packages write equal bytes.
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
    parts = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(body)), chunk(b"IEND", b"")]
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
    put("png/animated.png", png_of(4, 4, 8, 0, bytes(20),
        [chunk(b"acTL", struct.pack(">II", 2, 0)), chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 9, 9, 0, 0, 1, 1, 0, 0))]))
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
    put("gzip/two_members.gz", whole[:0] + gz(pillow(GRAY, "PNG")[:40]) + gz(pillow(GRAY, "PNG")[40:]))
    put("gzip/padded.gz", whole + bytes(9))
    put("gzip/twice.gz", gz(whole))
    put("gzip/bomb.gz", gz(bytes(1 << 23)))
    put("gzip/cut.gz", whole[:-9])


def foreign_hdf5():
    def h5(name, **sets):
        path = HERE / "predictions" / name
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
    put("safetensors/state.safetensors", st({"__metadata__": {"state": "{}", "xxh3": "0"}, "w": one}, bytes(24)))
    for name, shape, offsets in [("overflow", [2**32, 2**32], [0, 24]), ("negative", [-1, 3], [0, 24]),
                                 ("zero", [0, 2**63], [0, 0]), ("past_end", [2, 3], [0, 2**60]),
                                 ("backwards", [2, 3], [24, 0])]:
        put(f"safetensors/{name}.safetensors", st({"w": {**one, "shape": shape, "data_offsets": offsets}}, bytes(24)))
    put("safetensors/claims_header.safetensors", struct.pack("<Q", 2**62) + b"{}")
    put("safetensors/deep.safetensors", st(b'{"w":' + b"[" * 5000))
    put("safetensors/empty.safetensors", st({}))

    def saved(value, **options):
        out = io.BytesIO()
        torch.save(value, out, **options)
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
    put("torch/before_1_6.pth", saved({"w": w}, _use_new_zipfile_serialization=False))
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
    for name, entry in {"climbs": "../a.png", "absolute": "/tmp/a.png", "backslash": "..\\a.png",
                        "folder": "a/b/c.png", "nul": "a\x01.png", "long": "a" * 4000, "dot": "."}.items():
        put(f"zip/{name}.zip", zip_of({entry: b"x"}))
    put("zip/bomb.zip", zip_of({"a.png": bytes(1 << 23)}))
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        z.writestr(link, "/etc")
        z.writestr("link/a", "x")
    put("zip/link.zip", out.getvalue())
    whole = zip_of({"a.png": png})
    put("zip/cut.zip", whole[:-30])
    put("zip/prefixed.zip", b"junk" * 9 + whole)
    at = whole.rindex(b"PK\x05\x06")
    put("zip/claims_entries.zip", whole[:at + 8] + b"\xff\xff\xff\xff" + whole[at + 12:])
    put("zip/claims_size.zip", whole.replace(struct.pack("<I", len(png)), b"\xff\xff\xff\x7f"))
    put("zip/end_comment.zip", whole[:-2] + b"\xff\xff" + b"PK\x05\x06" * 20)


def xmls():
    image = ('<assayImage><image imageType="sampleImage"><imageUrl>'
             "http://v18.proteinatlas.org/images/1/2_A1_3_blue_red_green.jpg</imageUrl></image></assayImage>")
    data = f"<data><location GOId=\"x\">Nucleoli</location>{image}</data>"
    assay = "<antibody id=\"a\"><cellExpression technology=\"ICC/IF\"><subAssay>{}</subAssay></cellExpression></antibody>"
    head = '<?xml version="1.0" encoding="UTF-8"?><proteinAtlas><entry>'
    tail = "</entry></proteinAtlas>"
    whole = head + assay.format(data) + tail
    put("xml/atlas.xml", whole)
    put("xml/atlas.xml.gz", gzip.compress(whole.encode(), mtime=0))
    put("xml/cdata.xml", head + assay.format(data.replace("Nucleoli", "<![CDATA[Nucleoli]]>")) + tail)
    put("xml/references.xml", head + assay.format(data.replace("Nucleoli", "&#78;ucleoli&amp;&b;&#x110000;")) + tail)
    put("xml/entities.xml", '<!DOCTYPE a [<!ENTITY b "' + "c" * 99 + '"><!ENTITY d "' + "&b;" * 99 + '">]><a>&d;</a>')
    put("xml/deep.xml", "<a>" * 3000)
    put("xml/deep_closed.xml", "<a>" * 90 + "</a>" * 90)
    put("xml/open_tag.xml", head + "<a b=\"" + "c" * 3000)
    put("xml/attributes.xml", head + "<image " + " ".join(f"a{i}=\"\"" for i in range(400)) + "/>" + tail)
    put("xml/comment.xml", head + "<!--" + "-" * 3000)
    put("xml/utf16.xml", whole.encode("utf-16"))
    put("xml/locations.xml", head + assay.format("<data>" + "<location>x</location>" * 300 + image + "</data>") + tail)
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


def tables():
    put("labels/plain.csv", "Id,Target\na,0 16\nb,27\nc,\n")
    put("labels/names.csv", "Id,Target\r\na,Nucleoplasm;Rods & rings\r\nb,Nucleoli fibrillar center\r\n")
    put("labels/quoted.csv", 'Target,Id,more\n"0 1","a, b",x\n3,"c""d",y\n')
    put("labels/open_quote.csv", 'Id,Target\na,"0\nb,1\nc,2\n')
    put("labels/semicolons.csv", "Id;Target\na;0\n")
    put("labels/mark.csv", "\ufeffId,Target\na,1\n")
    put("labels/latin.csv", b"Id,Target\nM\xfcller,1\n")
    put("labels/utf16.csv", "Id,Target\na,1\n".encode("utf-16"))
    put("labels/nul.csv", b"\0\0\0\0")
    put("labels/no_header.csv", "a,1\nb,2\n")
    put("labels/wide.csv", "Id,Target" + ",x" * 2000 + "\na,1\n")
    put("labels/large_class.csv", "Id,Target\na,28\nb,-1\nc,99999999999999999999\nd,1e3\n")
    put("labels/repeated.csv", "Id,Target\na,1\na,2\n,3\n")
    put("labels/empty.csv", "")
    put("sample_submission/plain.csv", "Id,Predicted\na,0\nb,0\n")
    put("sample_submission/blanks.csv", "Id , Predicted\n a ,0\n\n\n,0\nb,0\nb,1\n")
    put("sample_submission/ids.csv", "Id\n../a\n\"a\nb\"\n-\n")
    put("submission/plain.csv", "Id,Predicted\na,0 1\nb,27\n")
    put("submission/empty_set.csv", "Id,Predicted\na,\nb,27\n")
    names = ",".join(f"class_{c}" for c in range(28))
    put("probabilities/plain.csv", f"Id,{names}\na" + ",0.5" * 28 + "\nb" + ",1e-3" * 28 + "\n")
    put("probabilities/nan.csv", f"Id,{names}\na" + ",NaN" * 28 + "\n")
    put("probabilities/one_based.csv", "Id," + ",".join(map(str, range(1, 29))) + "\na" + ",1" * 28 + "\n")
    put("probabilities/two_columns.csv", "Id,Predicted\na,0 3\n")
    put("folds/plain.csv", "id,group,fold\na,0,0\nb,1,1\n\"c,d\",1,\n")
    put("folds/several.csv", "id,group,fold\na,0,0 1 2\nb,18446744073709551616,x\n")
    put("duplicates/duplicates.csv", "id,group,kept,of,red,green,blue,correlation\na,a,1,a,0,0,0,1.0000\nb,a,0,a,1,2,3,\n")
    put("duplicates/conflicts.csv", "group,id,kept,labels\na,a,1,0 3\na,b,0,\n")
    put("duplicates/leaks.csv", "train,test,red,green,blue,correlation,kept\na,t,1,2,3,0.9900,1\n")
    put("hashes/plain.csv", "id,red,green,blue,yellow\na,0,ff,FFFFFFFFFFFFFFFF,0x1\nb,1,2,3,4\n")
    put("hashes/odd.csv", "id,red,green,blue,yellow\na,0x,+1,-1,11112222333344445\n")
    put("history/plain.csv", "epoch,train_loss,train_macro_f1,valid_loss,macro_f1,macro_f1_fitted,map,lr,skipped_steps\n"
        "1,0.5,0.1,0.4,0.2,0.25,0.3,0.001,0\n2,,0.1,,,,,1e-5,3\n")
    put("quarantine/plain.csv", "id,file,reason\na,/data/a_red.png,\"broken PNG: \"\"x\"\", 3\"\n")
    put("problems/plain.csv", "kind,place,id,detail\nunknown_class,train.csv,a,line 3\nmissing_channels,train/,b,\n")
    put("manifest/quoted.csv", "id,source,part,shard,target,red,green,blue,yellow\n"
        '"a,b",external,train,0,1 27,"/x y/r.png",g,b,y\nt,official,test,0,,r,g,b,y\n')
    put("manifest/shards.csv", "id,source,part,shard,target,red,green,blue,yellow\n"
        "a,official,train,18446744073709551615,1,r,g,b,y\nb,official,train,3,1,,,,\n")


def records():
    put("ledger/plain.csv", "file,bytes,sha256,url,validator\ntrain/a_red.png,3,00,u,\"\"\"e\"\"\"\ntrain/,0,,u,\n")
    put("ledger/climbs.csv", "file,bytes,sha256,url,validator\n../../a,18446744073709551615,x,u,v\nhalf,1")
    put("ledger/failed.csv", "file,url,reason,attempts\na,u,404,3\n")
    put("kaggle_json/plain.json", '{"username":"foo","key":"0123456789abcdef"}')
    put("kaggle_json/mark.json", '\ufeff{"username":"foo","key":"bar\\r\\nX: y"}\n')
    put("kaggle_json/deep.json", "[" * 3000)
    put("kaggle_json/types.json", '{"username":1,"key":null,"username":"a"}')
    put("access_token/plain", "KGAT_0123456789abcdef\n")
    put("access_token/lines", "a\nb\r\n\0c\n")
    put("access_token/latin", b"caf\xe9")
    put("provenance/plain.json", '{"atlas":"0.1.0","commit":"c","samples":"0123456789abcdef","manifest":"00","threads":2}')
    put("provenance/types.json", '{"samples":[1,2,{"a":1e400}]}')
    put("plan_json/plain.json", '{"train_samples":6,"test_samples":2,"train_shards":1,"test_shards":1,"tasks":1,'
        '"shard_samples":512,"manifest_hash":"0000000000000000"}')
    put("plan_json/large.json", '{"train_samples":18446744073709551615,"test_samples":-1,"tasks":0}')
    put("task_log/plain.jsonl", '{"began":{"time":"2026-01-01T00:00:00Z","host":"n","pid":1,"cores":2,"gpus":0,"run":null,"slurm":null,"log":null}}\n'
        '{"ended":{"time":"2026-01-01T00:00:01Z","host":"n","pid":1,"code":0,"error":null}}\n')
    put("task_log/half.jsonl", '{"began":{"time":"x","host":"\\u0000","pid":4294967296}}\n{"ended":{"time"')
    put("metrics/plain.jsonl", '{"step":1,"loss":0.5}\n{"step":2,"loss":null}\n{"step":9,"loss":1e400}\n{"st')
    put("metrics/events", (pathlib.Path(__file__).parents[1] / "tests/golden/event_file.bin").read_bytes())
    put("configuration/plain.toml", 'threads = 2\n[paths]\nwork = "w"\n[train]\nepochs = 3\nlr = 1e-3\n[train.loss]\nbce = 1.0\n')
    put("configuration/sets.toml", "train.epochs=2\nmodel.arch=tiny\nthreads=\naugment.crop=[1,2]\n")
    put("configuration/types.toml", '[train]\nepochs = "3"\nmilestones = [0.5, nan]\n[data]\nkaggle = 1979-05-27\n')
    put("configuration/unknown.toml", "[trian]\nepochs = 1\n")
    put("configuration/deep.toml", "a = " + "[" * 2000)
    put("configuration/dotted.toml", ".".join("a" * 300) + " = 1\n")
    put("configuration/latin.toml", b"[paths]\nwork = \"\xe9\"\n")


def uploads():
    part = 'Content-Disposition: form-data; name="file"; filename="{}"\r\nContent-Type: image/png\r\n\r\n'

    def body(files):
        parts = [b"--x\r\n" + part.format(n).encode() + c + b"\r\n" for n, c in files]
        return b"".join(parts) + b"--x--\r\n"
    gray, rgb = pillow(GRAY, "PNG"), pillow(RGB, "PNG")
    four = [(f"a_{c}.png", gray) for c in ["red", "green", "blue", "yellow"]]
    put("upload/four", body(four))
    put("upload/colour", body([("a.png", rgb)]))
    put("upload/jpeg", body([("a.jpg", pillow(RGB, "JPEG"))]))
    put("upload/five", body(four + [("b.png", gray)]))
    put("upload/palette", body([("a.png", (HERE / "png/palette_of_4_bytes.png").read_bytes())]))
    put("upload/no_file", b"--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb\r\n--x--\r\n")
    put("upload/odd_names", body([("../../a_red.png", gray), ("\u202e_green.png", gray), ("", gray), ("_blue_yellow", b"")]))
    put("upload/no_end", body(four)[:-60])
    put("upload/other_boundary", body(four).replace(b"--x", b"--y"))
    put("upload/headers", b"--x\r\n" + b"A: b\r\n" * 300 + b"\r\nc\r\n--x--\r\n")
    put("upload/empty", b"")


for write in [pngs, jpegs, tiffs, gzips, foreign_hdf5, weights, zips, xmls, npys, tables, records, uploads]:
    write()
