"""Small files of torch.save and what is in them: tests/golden/torch/. Made with PyTorch 2.11 and NumPy 2:
python tests/golden/torch_save.py"""

import argparse
import collections
import json
import os
import pathlib

import numpy
import torch

out = pathlib.Path(__file__).parent / "torch"
out.mkdir(exist_ok=True)
whole = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4) / 7
state = collections.OrderedDict()
state["plain"] = whole
state["turned"] = whole.permute(2, 0, 1)  # strides, the same storage
state["part"] = whole[1, 1:, ::2]  # an offset and a step
state["parameter"] = torch.nn.Parameter(torch.tensor([1.5, -2.25]))
state["half"] = torch.tensor([0.5, -65504.0], dtype=torch.float16)
state["bfloat"] = torch.tensor([1.0, 3.140625], dtype=torch.bfloat16)
state["double"] = torch.tensor([1 / 3], dtype=torch.float64)
state["count"] = torch.tensor(70_000_000_000)
state["bytes"] = torch.tensor([[0, 255]], dtype=torch.uint8)
state["none"] = torch.zeros(0, 3)
state._metadata = collections.OrderedDict(version=1)
torch.save(state, out / "state.pth")
torch.save(
    {"epoch": 3, "lr": 0.5, "best": None, "names": ["a"], "state_dict": state}, out / "nested.pt"
)
# With such a name, the entry of the first file in the archive has 76 bytes.
torch.save(state, out / "of_twenty_one_letters.pth")
torch.save(state, out / "old.pth", _use_new_zipfile_serialization=False)
torch.save(
    {"state_dict": state, "args": argparse.Namespace(lr=1)}, out / "namespace.pth"
)
torch.save({k: v for k, v in state.items()} | {"epoch": 3}, out / "mixed.pth")


class Called:
    def __reduce__(self):
        return os.system, ("touch code-was-run",)


beside = {
    "args": argparse.Namespace(lr=1, betas=(0.9, 0.99)),
    "metric": numpy.float64(0.5),
    "history": numpy.arange(3.0),
    "names": numpy.array(["a", "b"]),
    "seen": {1, "x"},
    "frozen": frozenset([2]),
    "bytes": b"xy",
    "array": bytearray(b"z"),
    "complex": 1 + 2j,
    "seed": 2**200,
    "counts": collections.Counter("aab"),
    "lists": collections.defaultdict(list, a=[1]),
    "path": pathlib.PurePosixPath("/x"),
    "dtype": torch.float32,
    "device": torch.device("cpu"),
    "eight": torch.zeros(2).to(torch.float8_e4m3fn),
    "sparse": torch.eye(2).to_sparse(),
    "complexes": torch.zeros(2, dtype=torch.complex64),
    "called": Called(),
    "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"params": [0]}]},
    "itself": [],
}
beside["itself"].append(beside["itself"])
beside["again"] = state
for protocol in 2, 5:
    whole = {"state_dict": state, **beside}
    torch.save(whole, out / f"beside_{protocol}.pth", pickle_protocol=protocol)


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        for name, tensor in state.items():
            self._buffers[name] = tensor.detach()


torch.save({"model": Network()}, out / "module.pth")
torch.save(Called(), out / "called.pth")
expected = {
    k: {"size": list(v.shape), "values": v.detach().double().flatten().tolist()}
    for k, v in state.items()
}
(out / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
