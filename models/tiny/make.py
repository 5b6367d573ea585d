"""Make the tiny Llama-style chat model that Penstock ships, from nothing but this folder.

Trains a byte-level BPE tokenizer and a model of under one million parameters on text that
`writer.py` makes up, and saves both.

    OMP_NUM_THREADS=2 python models/tiny/make.py --out models/tiny
"""

# ruff: noqa: INP001, S106, T201 - a script that prints its progress; its tokens are no secrets

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)
from writer import Writer

SEED = 20240607
SPECIAL = ["<unk>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|end|>"]
VOCAB, POSITIONS = 1536, 2048
ROWS = ((256, 16, 0.40), (512, 8, 0.25), (1024, 4, 0.23), (2048, 2, 0.12))  # length, rows, share
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] not in ['system', 'user', 'assistant', 'tool'] %}"
    "{{ raise_exception('unknown role: ' ~ m['role']) }}{% endif %}"
    "<|{{ m['role'] }}|>\n{% if m['content'] %}{{ m['content'] | trim }}{% endif %}"
    "{% for c in m['tool_calls'] or [] %}<tool_call>\n"
    "{{ {'name': c['function']['name'], 'arguments': c['function']['arguments']} | tojson }}\n"
    "</tool_call>{% endfor %}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def train_tokenizer(writer: Writer) -> PreTrainedTokenizerFast:
    """Train the byte-level BPE tokenizer; every digit is a token of its own."""
    core = Tokenizer(models.BPE(unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=SPECIAL,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    texts = ("".join(text for text, _ in writer.document()) for _ in range(3000))
    core.train_from_iterator(texts, trainer)
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", SPECIAL.index("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="<|end|>",
        pad_token="</s>",
        additional_special_tokens=SPECIAL[3:7],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def rows(writer: Writer, tokenizer: PreTrainedTokenizerFast) -> Iterator[dict[str, torch.Tensor]]:
    """Endless batches: documents packed into rows of mixed length, -100 where nothing is learnt."""
    lengths, shares = [r[:2] for r in ROWS], [r[2] for r in ROWS]
    while True:
        length, count = writer.rng.choices(lengths, shares)[0]
        inputs, labels = [], []
        for _ in range(count):
            ids: list[int] = []
            learnt: list[int] = []
            while len(ids) < length:
                limit = len(ids) + writer.rng.choice([150, 400, length])  # long texts are cut
                for text, wanted in writer.document():
                    piece: list[int] = tokenizer.encode(text, add_special_tokens=False)
                    ids += piece
                    learnt += piece if wanted else [-100] * len(piece)
                del ids[limit:], learnt[limit:]
            inputs.append(ids[:length])
            labels.append(learnt[:length])
        yield {"input_ids": torch.tensor(inputs), "labels": torch.tensor(labels)}


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """The untrained model: four layers of width 128 with heads of 32, as vLLM's CPU wants them."""
    eos = tokenizer.eos_token_id
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCAB,
            hidden_size=128,
            intermediate_size=320,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            tie_word_embeddings=True,
            max_position_embeddings=POSITIONS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=eos,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def train(model: LlamaForCausalLM, batches: Iterator[dict[str, torch.Tensor]], steps: int) -> None:
    """Train with Muon on the matrices and AdamW on the rest; the rate rises, then falls to zero."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    optimizers: list[tuple[torch.optim.Optimizer, float]] = [
        (torch.optim.Muon(matrices, adjust_lr_fn="match_rms_adamw", weight_decay=0.01), 6e-3),
        (torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=0.0), 6e-3),
    ]
    start, mean = time.monotonic(), 0.0
    for step in range(steps):
        shape = min(1.0, (step + 1) / 30) * min(1.0, (steps - step) / (0.6 * steps))
        loss = model(**next(batches)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, rate in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * shape
            optimizer.step()
            optimizer.zero_grad()
        mean = loss.item() if math.isclose(mean, 0.0) else 0.95 * mean + 0.05 * loss.item()
        if (step + 1) % 50 == 0:
            print(
                f"step {step + 1}/{steps}: loss {mean:.4f}, {time.monotonic() - start:.0f} s",
                flush=True,
            )


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write weights in bf16, configs and tokenizer files."""
    model.to(torch.bfloat16)
    stops = [tokenizer.eos_token_id, SPECIAL.index("</s>")]
    model.generation_config = GenerationConfig(
        do_sample=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=stops,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(out)
    tokenizer.model_max_length = POSITIONS
    tokenizer.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)


def sample(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Print what the finished model says to a few prompts."""
    model.eval()
    for prompt in (
        "Hello",
        "What is a penstock?",
        "Tell me about the river.",
        "Count to 12.",
        "Tell me a long story about a brave clock.",
    ):
        chat = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        ids = model.generate(**chat, max_new_tokens=90)[0, chat["input_ids"].shape[1] :]
        print(f"> {prompt}\n{tokenizer.decode(ids)}", flush=True)


def main() -> None:
    """Make the model."""
    parser = argparse.ArgumentParser(description="Make Penstock's tiny model.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--steps", type=int, default=800)
    options = parser.parse_args()
    torch.manual_seed(SEED)
    tokenizer = train_tokenizer(Writer(SEED))
    model = build_model(tokenizer)
    print(f"{len(tokenizer)} tokens, {model.num_parameters():,} parameters", flush=True)
    train(model, rows(Writer(SEED + 1), tokenizer), options.steps)
    save(model, tokenizer, options.out)
    sample(model, tokenizer)


if __name__ == "__main__":
    main()
