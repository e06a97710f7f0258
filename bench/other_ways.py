"""One other way to a loss over a token file, as a process of its own; prints {"loss": nats per target} as JSON.

usage: python bench/other_ways.py harness|transformers FOLDER TOKENS.npy SEQ_LEN BATCH_SIZE DTYPE
`harness`: lm-evaluation-harness's rolling log-likelihood; `transformers`: the model's own forward with labels' logits.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import torch


def main() -> None:
    way, folder, data, seq_len, batch, dtype = sys.argv[1:7]
    ids = np.load(data).astype(np.int64).tolist()
    print(json.dumps({"loss": WAYS[way](folder, ids, int(seq_len), int(batch), getattr(torch, dtype))}))


def harness(folder: str, ids: list[int], seq_len: int, batch: int, dtype: torch.dtype) -> float:
    """Each window's targets given its inputs: the first token is the prefix, so the same targets as ours."""
    from lm_eval.models.huggingface import HFLM
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
    from tokenizers import Tokenizer, models
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    words = Tokenizer(models.WordLevel({"<unk>": 0}, "<unk>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token="<unk>")
    scorer = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch, device="cpu", max_length=seq_len)
    windows = get_rolling_token_windows(ids[1:], prefix_token=ids[0], max_seq_len=seq_len, context_len=1)
    requests = [(("", ""), *make_disjoint_window(window)) for window in windows]
    answers = scorer._loglikelihood_tokens(requests, disable_tqdm=True)
    return -sum(answer[0] for answer in answers) / (len(ids) - 1)


def transformers(folder: str, ids: list[int], seq_len: int, batch: int, dtype: torch.dtype) -> float:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    stream, total = torch.tensor(ids), 0.0
    starts = list(range(0, len(ids) - 1, seq_len))
    with torch.inference_mode():
        for at in range(0, len(starts), batch):
            part = torch.stack([stream[s : s + seq_len + 1] for s in starts[at : at + batch]])
            logits = model(part[:, :-1]).logits.float()
            nats = torch.nn.functional.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten(), reduction="sum")
            total += nats.item()
    return total / (len(ids) - 1)


WAYS = {"harness": harness, "transformers": transformers}

if __name__ == "__main__":
    main()
