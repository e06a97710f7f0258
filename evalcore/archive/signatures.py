"""The first bytes by which kinds of files are recognised, each once. Never says what a reader does about a kind."""

from __future__ import annotations

NUMPY = b"\x93NUMPY"
PARQUET = b"PAR1"
ARROW_FILE = b"ARROW1"
ARROW_STREAM = b"\xff\xff\xff\xff"  # a continuation mark: what Hugging Face datasets writes
HDF5 = b"\x89HDF"
GGUF = b"GGUF"
SQLITE = b"SQLite format 3\x00"
GIT_LFS = b"version https://git-lfs"
MEGATRON_INDEX = b"MMIDIDX\x00\x00"
GZIP = b"\x1f\x8b\x08"  # with its one method: two bytes alone are a token id of many a headerless file
ZSTD = b"\x28\xb5\x2f\xfd"
BZIP2 = b"BZh"
XZ = b"\xfd7zXZ\x00"

#: The first int32 of llm.c's files. Source: llm.c f1e2ace, train_gpt2.cu and dev/data/data_common.py.
LLMC_GPT2, LLMC_LLAMA, LLMC_STATE, LLMC_TOKENIZER = 20240326, 20240803, 20240327, 20240328
LLMC_UINT16, LLMC_UINT32, LLMC_ITEMS = 20240520, 20240801, 20240522
LLMC_KINDS = {
    LLMC_GPT2: "llm.c GPT-2 weights",
    LLMC_LLAMA: "llm.c Llama weights",
    LLMC_STATE: "an llm.c debug state",
    LLMC_TOKENIZER: "an llm.c tokenizer",
    LLMC_UINT16: "llm.c token data",
    LLMC_UINT32: "llm.c token data",
    LLMC_ITEMS: "an llm.c eval file (tokenised items of HellaSwag or MMLU)",
}
