"""Makes the .npy files beside this script with NumPy.

    python make_npy.py

All hold the same mask, [3, 4], but those that are not to be read, and scores.npy, which has what a mask has not.
"""

import os

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
MASK = np.array([[1, 0, 1, 1], [1, 1, 1, 1], [0, 0, 1, 0]])


def save(name, array):
    np.save(os.path.join(HERE, name + ".npy"), array)


for dtype in ("float32", "float64", "int8", "uint8", "int32", "int64", "bool"):
    save(dtype, MASK.astype(dtype))
save("by_column", np.asfortranarray(MASK.astype(np.float32)))
save("scores", np.array([[0.25, -1e-7, 3e38, np.nan], [np.inf, 0, -0.0, 1 / 3]], dtype=np.float32))

save("big_endian", MASK.astype(">f4"))
save("complex", MASK.astype(np.complex64))
save("vector", MASK[0].astype(np.float32))
save("cube", MASK.astype(np.float32)[None])
save("empty", MASK.astype(np.float32)[:0])
save("objects", MASK.astype(object))
with open(os.path.join(HERE, "version_2.npy"), "wb") as file:
    np.lib.format.write_array(file, MASK.astype(np.float32), version=(2, 0))
