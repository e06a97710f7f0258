"""The heap of a process, measured from inside: a real libc, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: Frees a large block, which raises glibc's limit, then many small ones; prints what stays resident of them, in bytes.
FREES = """
import ctypes, os, sys
if sys.argv[1] == "returned":
    from watcher.state.memory import keep_the_heap_small
    keep_the_heap_small()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
libc.free(libc.malloc(30 << 20))
blocks = [0] * 400  # a list that grew would stand at the heap's end
before = resident()
for i in range(400):
    blocks[i] = libc.malloc(50_000)
    libc.memset(blocks[i], 1, 50_000)
for block in reversed(blocks):
    libc.free(block)
print(resident() - before)
"""


@pytest.mark.parametrize(("freed", "least", "most"), [("kept", 15_000_000, 25_000_000), ("returned", -1e6, 2_000_000)])
def test_freed_memory_goes_back_to_the_kernel_which_glibc_by_itself_does_not_do(freed, least, most):
    done = subprocess.run([sys.executable, "-c", FREES, freed], capture_output=True, text=True, check=True)
    assert least < int(done.stdout) < most
