"""Golden hashes of made patterns: python phash.py > phash.csv (imagehash 4.3.2, Pillow 13)."""
import imagehash
import numpy as np
from PIL import Image

print("width,height,seed,phash,ahash")
for w, h in [(512, 512), (512, 300), (33, 1000), (32, 32), (17, 9), (2048, 64)]:
    for seed in range(4):
        y, x = np.mgrid[:h, :w].astype(np.int64)
        image = Image.fromarray(((x * x * (seed + 1) + y * (3 * seed + 5) + (x * y) // (seed + 2)) % 251).astype(np.uint8))
        print(f"{w},{h},{seed},{imagehash.phash(image)},{imagehash.average_hash(image)}")
