"""Writes expected.safetensors, what transformers 4.57.6 computes, into folders that the other two scripts have made.

    python make_golden.py && python make_golden_tensorflow.py && python make_golden_outputs.py

The files are as those of ../golden/make_golden.py, whose functions are used here. The other folders hold the same weights
in other formats, so that what these folders give is expected of them too.
"""

import pathlib
import sys

import numpy as np
import torch
from transformers import BertForMaskedLM, BertForSequenceClassification, BertModel

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "golden"))

from make_golden import Batch, expected, save

LENGTHS = [7, 1, 10, 2]
# Folder to write to, kind of model, folder of the weights, changes of the configuration.
CASES = [
    ("encoder", BertModel, "encoder", {}),
    ("float16", BertModel, "float16", {}),
    ("bfloat16", BertModel, "bfloat16", {}),
    ("sequence-classification", BertForSequenceClassification, "sequence-classification", {}),
    ("masked-lm", BertForMaskedLM, "masked-lm", {}),
    # Google's configuration has no epsilon: it is always this one.
    ("tensorflow", BertForMaskedLM, "masked-lm", {"layer_norm_eps": 1e-12}),
]


def main():
    for target, kind, weights, changes in CASES:
        model = kind.from_pretrained(HERE / weights, attn_implementation="eager", dtype=torch.float32, **changes).eval()
        cfg = model.config
        batch = Batch(cfg, np.random.default_rng(len(target)), LENGTHS)
        mask = np.ones((cfg.num_hidden_layers, cfg.num_attention_heads))
        save(expected(model, batch, mask), HERE / target)
        print(target)


if __name__ == "__main__":
    main()
