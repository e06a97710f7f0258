"""`python -m evalcore.worker.torchrun ARGUMENTS`: torchrun itself, started without collections of cycles."""

from __future__ import annotations

import sys

from evalcore.worker.process_setup import uncollected

if __name__ == "__main__":
    with uncollected():
        from torch.distributed.run import main
    sys.exit(main())
