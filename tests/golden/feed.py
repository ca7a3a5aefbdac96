"""Makes feed.json: what OpenCV and SciPy make of a small smooth image. Run: python feed.py (needs
numpy, opencv, scipy)."""

import json
from pathlib import Path

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter

side = 40
y, x = np.mgrid[:side, :side]
image = np.stack(
    [
        127.5 + 120 * np.sin(x * a + y * b + c)
        for a, b, c in [(0.2, 0.1, 0), (0.05, 0.25, 1), (-0.15, 0.1, 2), (0.0, 0.2, 3)]
    ],
    -1,
)
image = image.round().astype(np.uint8)

cases = []
for jitter in [
    np.zeros((3, 2)),
    np.array([[2.5, -1.5], [-3.0, 0.7], [1.2, 3.1]]),
    np.array([[-6.0, 4.0], [5.0, 6.5], [-4.0, -7.0]]),
]:
    centre, reach = side // 2, side // 3
    points = np.float32(
        [
            [centre + reach, centre + reach],
            [centre + reach, centre - reach],
            [centre - reach, centre - reach],
        ]
    )
    matrix = cv2.getAffineTransform(points, np.float32(points + jitter))
    warped = cv2.warpAffine(
        image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    cases.append({"jitter": jitter.tolist(), "warped": warped.ravel().tolist()})

rng = np.random.default_rng(0)
sigma, alpha = 3.0, 20.0
noise = rng.uniform(-1, 1, (2, side, side)).astype(np.float32)
shift = np.stack([gaussian_filter(n.astype(np.float64), sigma) * alpha for n in noise])
bent = cv2.remap(
    image,
    np.float32(x + shift[0]),
    np.float32(y + shift[1]),
    cv2.INTER_LINEAR,
    borderMode=cv2.BORDER_REFLECT_101,
)

out = {
    "side": side,
    "image": image.ravel().tolist(),
    "affine": cases,
    "sigma": sigma,
    "alpha": alpha,
    "noise": [[round(float(v), 6) for v in n.ravel()] for n in noise],
    "shift": [[round(float(v), 5) for v in s.ravel()] for s in shift],
    "bent": bent.ravel().tolist(),
}
Path(__file__).with_name("feed.json").write_text(json.dumps(out, separators=(",", ":")) + "\n")
