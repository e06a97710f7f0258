"""The environment of a job: an allow-list, so that nothing of the daemon or an outer launcher leaks in. Pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping

ALLOWED = (
    *("PATH", "HOME", "LANG", "LC_*", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_*", "NCCL_*", "GLOO_*", "OMP_*", "MKL_*"),
    *("HIP_*", "ROCR_*", "HSA_*", "MIOPEN_*", "ZE_*", "SYCL_*", "PYTORCH_*", "OPENBLAS_*", "NVIDIA_*"),
    *("TIKTOKEN_CACHE_DIR", "HF_HOME", "HF_HUB_OFFLINE", "CKPTWATCH_WORKER_FAILPOINT"),
)


def job_environment(outer: Mapping[str, str], more: Iterable[str], given: Mapping[str, str]) -> dict[str, str]:
    """The variables of `outer` that are allowed or match `more` (launch.env; globs), overridden by `given`."""
    names = (*ALLOWED, *more)
    kept = {key: value for key, value in outer.items() if any(fnmatch.fnmatchcase(key, name) for name in names)}
    return kept | dict(given)
