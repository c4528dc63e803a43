"""Prints the perplexity of the small GPT-2 that comes along by transformers 4.57.6 in float64, which LanguageModelTest expects.

    python kjv_gpt2_perplexity.py

Of the text's blocks of 256 tokens, each of whose tokens but the first is predicted.
"""

import math
import pathlib

import torch
from transformers import GPT2LMHeadModel, GPT2Tokenizer

MODEL = pathlib.Path(__file__).resolve().parents[2] / "main/distribution/models/kjv-gpt2"

model = GPT2LMHeadModel.from_pretrained(MODEL, attn_implementation="eager", dtype=torch.float64).eval()
ids = torch.tensor(GPT2Tokenizer.from_pretrained(MODEL)((MODEL / "test.txt").read_text(encoding="utf-8"))["input_ids"])
loss = tokens = 0
with torch.no_grad():
    for block in ids.split(model.config.n_positions):
        if len(block) > 1:
            loss += model(input_ids=block[None], labels=block[None]).loss.item() * (len(block) - 1)
            tokens += len(block) - 1
print(math.exp(loss / tokens))
