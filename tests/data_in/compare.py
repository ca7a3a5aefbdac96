"""Compares shards, read with h5py, with the images, decoded by OpenCV. Argument: the folder of
the test."""

import glob, os, sys
import cv2, h5py, numpy as np

root, checked = sys.argv[1], 0
for shard in sorted(glob.glob(os.path.join(root, "work", "shards", "*.h5"))):
    with h5py.File(shard) as f:
        size, images = int(f.attrs["size"]), f["images"]
        assert (
            images.dtype == np.uint8
            and images.chunks is None
            and images.shape[1:] == (size, size, 4)
        )
        assert (
            f.attrs["format_version"] == 2
            and f["phash"].shape == (len(images), 4)
            and ("labels" in f) == ("train-" in shard)
        )
        stored = images[:]
        assert np.allclose(f["mean"][:], stored.mean((0, 1, 2))) and np.allclose(
            f["std"][:], stored.astype(float).std((0, 1, 2))
        )
        for i, sample in enumerate(f["ids"].asstr()[:]):
            for c, name in enumerate(("red", "green", "blue", "yellow")):
                [path] = [
                    p
                    for d in ("train", "test", "external/images")
                    for p in glob.glob(f"{root}/{d}/{glob.escape(sample)}_{name}.*")
                ]
                image = cv2.imread(path, cv2.IMREAD_UNCHANGED)
                if image.shape[0] != size:
                    continue
                if image.ndim == 3:  # OpenCV's order is blue, green, red
                    bgr = image.astype(float)
                    image = (bgr[..., 2] + bgr[..., 1]) / 2 if c == 3 else bgr[..., 2 - c]
                    off = np.abs(image - images[i, :, :, c])
                    assert off.max() <= 4 and off.mean() < 0.6, (path, off.max(), off.mean())
                else:
                    assert (image == images[i, :, :, c]).all(), path
                checked += 1
assert checked >= 24
print(checked, "images equal")
