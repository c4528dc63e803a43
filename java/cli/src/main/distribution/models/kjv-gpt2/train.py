"""Trains the small GPT-2 of this folder: byte-level, on the King James Bible, on one CPU core in about twenty minutes.

    apt-get install bible-kjv          # the text, in the public domain
    python train.py [SECONDS]

Writes config.json, model.safetensors (float16), vocab.json, merges.txt, and two parts of the text that the model was not
trained on: importance.txt, on which the importance of its heads is measured, and test.txt, on which it is scored. A line is
a verse. Made with torch 2.13 and transformers 4.57.6.
"""

import json
import math
import os
import re
import subprocess
import sys
import time

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.models.gpt2.tokenization_gpt2 import bytes_to_unicode

HERE = os.path.dirname(os.path.abspath(__file__))
LENGTH = 256
BATCH = 16
END_OF_TEXT = 256  # behind the 256 bytes
PART = 64_000  # bytes of each part that is held out


def chapters():
    """The text, chapter by chapter: one verse a line, without its number."""
    text = subprocess.run(["bible", "-f", "Gen1:1-Rev22:21"], check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout
    by_chapter = {}
    for book, chapter, verse in re.findall(r"^(\w+?)(\d+):\d+ (.*)$", text, re.M):
        by_chapter.setdefault((book, int(chapter)), []).append(verse.strip())
    return ["\n".join(verses) + "\n" for verses in by_chapter.values()]


def ids_of(texts):
    # Byte-level BPE numbers the bytes in the order of their printable stand-ins.
    number = np.zeros(256, np.int64)
    number[list(bytes_to_unicode())] = np.arange(256)
    parts = []
    for text in texts:
        parts += [[END_OF_TEXT], number[np.frombuffer(text.encode(), np.uint8)]]
    return torch.tensor(np.concatenate(parts))


def write_tokenizer():
    vocabulary = {stand_in: i for i, stand_in in enumerate(bytes_to_unicode().values())}
    vocabulary["<|endoftext|>"] = END_OF_TEXT
    with open(os.path.join(HERE, "vocab.json"), "w", encoding="utf-8") as out:
        json.dump(vocabulary, out, ensure_ascii=False)
    with open(os.path.join(HERE, "merges.txt"), "w", encoding="utf-8") as out:
        out.write("#version: 0.2\n")


def main(seconds):
    torch.manual_seed(1)
    torch.set_num_threads(1)
    every = chapters()
    # Every twentieth chapter is held out, in turn for importance and for the test.
    held = {"importance.txt": every[9::40], "test.txt": every[29::40]}
    kept = [chapter for i, chapter in enumerate(every) if i % 20 != 9]
    for name, part in held.items():
        text = "".join(part)[:PART]
        with open(os.path.join(HERE, name), "w", encoding="utf-8") as out:
            out.write(text[: text.rindex("\n") + 1])
    train, test = ids_of(kept), ids_of(held["test.txt"])
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=257,
            n_positions=LENGTH,
            n_embd=128,
            n_layer=4,
            n_head=8,
            resid_pdrop=0,
            embd_pdrop=0,
            attn_pdrop=0,
            bos_token_id=END_OF_TEXT,
            eos_token_id=END_OF_TEXT,
        )
    )
    print(sum(p.numel() for p in model.parameters()), "parameters,", len(train), "tokens,", len(test), "for the test", flush=True)

    def perplexity():
        model.eval()
        blocks = test[: len(test) // LENGTH * LENGTH].view(-1, LENGTH)
        with torch.no_grad():
            losses = [model(input_ids=some, labels=some).loss.item() * len(some) for some in blocks.split(32)]
        model.train()
        return math.exp(sum(losses) / len(blocks))

    decay = [p for p in model.parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if p.dim() != 2]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": others, "weight_decay": 0}], lr=0, betas=(0.9, 0.98))
    start = time.process_time()
    step = 0
    while (done := (time.process_time() - start) / seconds) < 1:
        rate = 3e-3 * min((step + 1) / 100, 0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2)
        for group in optimizer.param_groups:
            group["lr"] = rate
        starts = torch.randint(len(train) - LENGTH, (BATCH,))
        batch = torch.stack([train[i : i + LENGTH] for i in starts])
        loss = model(input_ids=batch, labels=batch).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 200 == 0:
            print(f"step {step}: loss {loss.item():.3f}, test perplexity {perplexity():.3f}, {time.process_time() - start:.0f} s", flush=True)
        step += 1
    print(f"{step} steps: test perplexity {perplexity():.3f}")
    model.half().save_pretrained(HERE)
    os.remove(os.path.join(HERE, "generation_config.json"))
    write_tokenizer()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 1100)
