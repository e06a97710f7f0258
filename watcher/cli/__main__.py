"""`python -m watcher.cli` is `ckptwatch`."""

import sys

from watcher.cli import main

sys.exit(main())
