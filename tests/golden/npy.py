"""Makes npy/: one 3 x 2 matrix in every real number type, byte order (l, g: little, great end
first) and memory order."""

import os

import numpy as np

folder = os.path.join(os.path.dirname(__file__), "npy")
os.makedirs(folder, exist_ok=True)
for kind in "b1 u1 u2 u4 u8 i1 i2 i4 i8 f2 f4 f8".split():
    values = (
        [1, 0, 1, 1, 0, 1]
        if kind[0] == "b"
        else [0.5, 0.25, 1, 0, 0.75, 2.0**-15]
        if kind[0] == "f"
        else [1, 0, 3, 4, 5, 100]
    )
    for name, order in ({"l": "<"} if kind[1] == "1" else {"l": "<", "g": ">"}).items():
        for memory in "CF":
            np.save(
                f"{folder}/{name}{kind}{memory}.npy",
                np.asarray(np.array(values, dtype=order + kind).reshape(3, 2), order=memory),
            )
