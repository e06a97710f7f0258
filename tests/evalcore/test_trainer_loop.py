"""The same call in a trainer's own loop: on one rank, and on all ranks of its process group at once."""

import json
import os
import subprocess
import sys

from evalcore.measure.evaluate import evaluate
from tests.support.launches import ROOT
from tests.support.models import SmallModel, tokens_for

_TRAINER = """
import json, sys
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from evalcore import current_group, evaluate
from tests.support.models import LogitsModel, tokens_for

dist.init_process_group("gloo")
model = DistributedDataParallel(LogitsModel())
together = evaluate(model, tokens_for(1000), seq_len=64, batch_size=3, group=current_group())
alone = evaluate(model.module, tokens_for(1000), seq_len=64, batch_size=3) if dist.get_rank() == 0 else None
if alone is not None:
    print(json.dumps([together.loss, alone.loss, together.world_size, alone.world_size, model.training]))
dist.barrier()
dist.destroy_process_group()
"""


def test_a_trainer_on_two_ranks_gets_the_number_of_one(tmp_path):
    (tmp_path / "train.py").write_text(_TRAINER)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    ran = subprocess.run(
        [sys.executable, *torchrun, str(tmp_path / "train.py")],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    together, alone, ranks, one, training = json.loads(ran.stdout.splitlines()[-1])
    assert together == alone and (ranks, one) == (2, 1) and training
    assert abs(together - evaluate(SmallModel(), tokens_for(1000), seq_len=64).loss) < 1e-6
