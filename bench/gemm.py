"""The rate of this machine's own matrix product on GPT-2-small's shapes: prints FLOP/s per CPU-second as JSON."""

import json
import sys
import time

import torch

dtype = getattr(torch, sys.argv[1] if len(sys.argv) > 1 else "float32")
seconds = flops = 0.0
with torch.inference_mode():
    for n, k, m in ((2048, 768, 2304), (2048, 768, 768), (2048, 768, 3072), (2048, 3072, 768), (1024, 768, 2048)):
        a, b = torch.randn(n, k).to(dtype), torch.randn(m, k).to(dtype)
        torch.mm(a, b.t())
        started = time.process_time()
        for _ in range(4):
            torch.mm(a, b.t())
        seconds += time.process_time() - started
        flops += 4 * 2.0 * n * k * m
print(json.dumps({"flops_per_cpu_second": flops / seconds}))
