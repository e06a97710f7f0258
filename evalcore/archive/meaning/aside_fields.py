"""Names of configuration fields that change no forward pass in evaluation: training, data, bookkeeping, generation.

Owns these names only. A field that is in neither this list nor a family's own is refused or noted.
"""

from __future__ import annotations

import re

#: A field with one of these words is about training or bookkeeping, whatever its other words.
_ALWAYS_ASIDE = re.compile(
    r"^(lr|learning|optim|optimizers?|adamw?|beta1|beta2|betas|momentum|wd|warmup|schedulers?|schedule|epochs?|steps?|"
    r"iters?|iterations?|accum|accumulation|grad|gradient|log|logging|wandb|saving|ckpt|checkpoint|checkpointing|"
    r"resume|seed|workers|ddp|fsdp|dist|distributed|backend|gpus?|devices?|dtype|precision|amp|compiled?|profile|"
    r"verbose|timestamp|patience|ema|loss|labels?|id2label|label2id|tokenizer|drop|dropouts?|pdrop|init|initializer|"
    r"summary|flash|sdpa|architectures|comment|description|torchscript|transformers|implementation|deterministic|bfloat16|"
    r"fp16|bf16|recompute|library|framework|revision|hash|license|finetuning|cuda|cpu|deepspeed|trainer|hostname|user|"
    r"git|command|argv|url)$"
)
#: These say nothing of a field that also has a word about architecture, such as `attention_sink_tokens`.
_ASIDE = re.compile(
    r"^(batch|eval|save|dir|directory|folder|path|file|data|datasets?|train|training|val|valid|validation|test|world|"
    r"project|run|tag|exp|experiment|debug|timeout|tokens|bos|eos|pad|padding|unk|sep|cls|id|std|cache|sample|generate|"
    r"chunk|task|family|pin|shuffle|memory)$"
)
#: Of both, what may also count a part of a forward pass, and the words that show that it does: `recurrent_steps`.
_COUNTS = re.compile(r"^(steps?|iters?|iterations?|tokens|schedule)$")
_COUNTED = re.compile(
    r"^(recurrent|recurrence|recursion|unroll|unrolled|loops?|looped|ponder|thinking|window|sliding|shift)$"
)
_ASIDE_NAMES = re.compile(
    r"^(name|model_name|version|weight_decay|decay_lr|lr_decay\w*|model|problem_type|out|output|return_\w+|"
    r"output_(hidden_states|attentions|scores)|decay|min_\w+|max_(norm|lr|examples|samples)|clip|grad_clip|freq|time)$"
)
#: What transformers, and tools that write its configurations, put beside a model's own fields, with no word from above.
OF_TRANSFORMERS = frozenset({
    "prefix", "is_encoder_decoder", "tie_encoder_decoder", "max_length", "max_new_tokens", "do_sample",
    "early_stopping", "num_beams", "num_beam_groups", "diversity_penalty", "temperature", "top_k", "top_p", "top_h",
    "typical_p", "epsilon_cutoff", "eta_cutoff", "repetition_penalty", "encoder_repetition_penalty", "length_penalty",
    "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "num_return_sequences", "renormalize_logits",
    "remove_invalid_values", "exponential_decay_length_penalty", "penalty_alpha", "guidance_scale", "low_memory",
    "watermarking_config", "num_assistant_tokens", "assistant_confidence_threshold", "forced_bos_token_id",
    "forced_eos_token_id", "bad_words_ids", "force_words_ids", "constraints", "stop_strings", "suppress_tokens",
    "begin_suppress_tokens", "unsloth_version", "unsloth_fixed", "unsloth_processed", "tf_legacy_loss",
    "use_bfloat16", "chunk_size_feed_forward", "use_mtp", "sequence_bias", "output_logits", "dola_layers", "max_time",
    "token_healing", "is_assistant", "max_matching_ngram_size", "assistant_early_exit", "assistant_lookbehind",
    "target_lookbehind", "assistant_ensemble_weight", "speculation_type", "continuous_batching_config",
    "_from_model_config", "is_llama_config", "output_past",
})  # fmt: skip


def is_aside(name: str, words: set[str], of_architecture: bool) -> bool:
    """Whether the field changes no forward pass. words: of the name; of_architecture: whether one is architecture's."""
    if _ASIDE_NAMES.match(name):
        return True
    aside = [word for word in words if _ALWAYS_ASIDE.match(word) or (not of_architecture and _ASIDE.match(word))]
    return bool(aside) and not (all(map(_COUNTS.match, aside)) and any(map(_COUNTED.match, words)))
