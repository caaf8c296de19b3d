"""Two processes (gloo, CPU) with half the batch each take the step that one process takes with the whole batch."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.tiny import tiny_backbone

ROOT = Path(__file__).parents[2]
SCRIPT = """
import os, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from safetensors.torch import save_file
from torch import nn
from musclelora.training import fit
from musclelora.training.backbone import load_backbone, resolve_backbone
from tests.tiny import rows, trusted_rows
from tests.training.test_fit import recipe

folder, passes = Path(sys.argv[1]), int(sys.argv[2])
world = int(os.environ.get("WORLD_SIZE", 1))
torch.manual_seed(0)
model, tokenizer = load_backbone(resolve_backbone(str(folder / "base")), ["0", "1"], 32)
settings = {"reference_batch_size": 8, "min_ref_loss": 0, "rho_max": 0}
chosen = recipe(epochs=1, batch_size=16 // world, alignment=settings)
fit.prepare(model, chosen)
for module in model.modules():
    if isinstance(module, nn.Dropout):
        module.p = 0.0
trainer = fit.build_trainer(model, tokenizer, rows(64), trusted_rows(), None, chosen, 7)
trainer.passes = passes
assert trainer.args.world_size == world
seen = []
trainer.references.next = lambda length=None, draw=trainer.references.next: draw()  # the same, whatever the lengths
align = trainer._align_gradients

def record(settings):
    align(settings)
    seen.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})

trainer._align_gradients = record
trainer.train()
if int(os.environ.get("RANK", 0)) == 0:
    tensors = {f"{i}.{n}": g for i, step in enumerate(seen) for n, g in step.items()}
    save_file(tensors, folder / f"of{world}.safetensors")
"""


def run(folder, passes, rank=0, world=1, port=0):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"}
    if world > 1:
        environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder), str(passes)], env=environment, cwd=ROOT)


@pytest.mark.parametrize("passes", [1, 2])
def test_gradients_are_aligned_after_they_are_reduced(tmp_path, passes):
    tiny_backbone(tmp_path / "base")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [run(tmp_path, passes), *(run(tmp_path, passes, rank, 2, port) for rank in (0, 1))]
    assert [process.wait(timeout=180) for process in processes] == [0, 0, 0]
    one, two = load_file(tmp_path / "of1.safetensors"), load_file(tmp_path / "of2.safetensors")
    assert one.keys() == two.keys()
    assert len({name.split(".")[0] for name in one}) == 4  # steps of 16 rows
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=1e-7, rtol=2e-3, msg=name)
