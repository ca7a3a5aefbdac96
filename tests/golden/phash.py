"""Writes phash.csv: hashes of synthetic images by imagehash 4.3.2 on Pillow 13 (pip install
imagehash pillow numpy).

Pixel (x, y) of channel c is ((x * a + y * b + c * 50) ^ (x * y >> s)) & 255, in whole numbers, so
that the tests can make the same images. One channel: gray; three: RGB, turned to gray by Pillow;
`top` caps the pixels (0 or 7: blank)."""

import csv, sys
import imagehash, numpy as np
from PIL import Image

CASES = [  # width, height, channels, a, b, s, top
    (512, 512, 1, 1, 2, 9, 255),
    (2048, 2048, 1, 1, 1, 13, 255),
    (1728, 1728, 1, 3, 5, 11, 255),
    (640, 480, 1, 1, 3, 8, 255),
    (33, 47, 1, 5, 7, 2, 255),
    (32, 32, 1, 3, 11, 1, 255),
    (32, 100, 1, 3, 11, 1, 255),
    (8, 8, 1, 31, 17, 0, 255),
    (20, 11, 1, 31, 17, 1, 255),
    (1, 1, 1, 0, 0, 0, 255),
    (3, 400, 1, 85, 9, 3, 255),
    (20, 31, 1, 13, 9, 3, 255),
    (20, 33, 1, 13, 9, 3, 255),
    (50, 68, 1, 13, 9, 3, 255),
    (50, 69, 1, 13, 9, 3, 255),
    (50, 92, 1, 13, 9, 3, 255),
    (50, 93, 1, 13, 9, 3, 255),
    (600, 1700, 1, 3, 7, 5, 255),
    (512, 512, 1, 128, 128, 20, 255),
    (512, 512, 1, 0, 0, 30, 0),
    (512, 512, 1, 255, 255, 3, 7),
    (300, 300, 1, 0, 64, 30, 255),
    (300, 300, 1, 1, 0, 30, 255),
    (512, 512, 3, 1, 2, 9, 255),
    (257, 129, 3, 7, 3, 5, 255),
]
out = csv.writer(sys.stdout, lineterminator="\n")
out.writerow("width,height,channels,a,b,s,top,phash,ahash".split(","))
for w, h, n, a, b, s, top in CASES:
    y, x = np.mgrid[0:h, 0:w]
    planes = [
        np.minimum(((x * a + y * b + c * 50) ^ (x * y >> s)) & 255, top).astype(np.uint8)
        for c in range(n)
    ]
    image = Image.fromarray(planes[0] if n == 1 else np.stack(planes, -1))
    out.writerow([w, h, n, a, b, s, top, imagehash.phash(image), imagehash.average_hash(image)])
