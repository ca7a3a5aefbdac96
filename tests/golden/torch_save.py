"""Small files of torch.save and what is in them: tests/golden/torch/. Made with PyTorch 2.11:
python tests/golden/torch_save.py"""

import collections
import json
import pathlib

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
torch.save(state, out / "old.pth", _use_new_zipfile_serialization=False)
torch.save(
    {"state_dict": state, "args": __import__("argparse").Namespace(lr=1)}, out / "namespace.pth"
)
torch.save({k: v for k, v in state.items()} | {"epoch": 3}, out / "mixed.pth")
expected = {
    k: {"size": list(v.shape), "values": v.detach().double().flatten().tolist()}
    for k, v in state.items()
}
(out / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
