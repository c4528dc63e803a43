"""Makes the golden folders beside this script with transformers 4.57.6 (eager attention) and torch.

    python make_golden.py

Each folder is a tiny random BERT as `save_pretrained` writes it, and expected.safetensors with what it computes in float64
for each example alone (batch size 1, no padding), example b's tensors under names that end in ".b". Under "error.<name>" is
the largest difference of the same computation in float32, the reference's own rounding.
"""

import math
import os
import shutil

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, BertModel, set_seed

HERE = os.path.dirname(os.path.abspath(__file__))
IGNORED = -100


def config(**changes):
    values = dict(
        vocab_size=61,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=24,
        initializer_range=0.3,
        num_labels=3,
        attn_implementation="eager",
    )
    values.update(changes)
    return BertConfig(**values)


CASES = {
    "classification": (BertForSequenceClassification, config(), None),
    "masked": (BertForSequenceClassification, config(), "random"),
    "regression": (
        BertForSequenceClassification,
        config(hidden_size=27, num_attention_heads=3, num_hidden_layers=2, num_labels=1, hidden_act="gelu_new", intermediate_size=50),
        "random",
    ),
    "masked_lm": (
        BertForMaskedLM,
        config(hidden_size=20, num_attention_heads=2, num_hidden_layers=2, hidden_act="relu", layer_norm_eps=1e-5),
        None,
    ),
    "untied_masked_lm": (
        BertForMaskedLM,
        config(vocab_size=37, hidden_size=24, num_hidden_layers=2, intermediate_size=30, tie_word_embeddings=False),
        "random",
    ),
    "pruned": (BertForSequenceClassification, config(pruned_heads={0: [1], 2: [0, 2, 3]}), None),
    "pruned_regression": (
        BertForSequenceClassification,
        config(hidden_size=28, num_hidden_layers=2, num_labels=1, pruned_heads={0: [0, 2], 1: [1]}),
        None,
    ),
    "narrow": (
        BertForSequenceClassification,
        config(vocab_size=7, hidden_size=5, num_attention_heads=5, num_hidden_layers=1, intermediate_size=3, num_labels=2),
        "random",
    ),
    "long": (
        BertForSequenceClassification,
        config(hidden_size=64, num_attention_heads=2, num_hidden_layers=2, max_position_embeddings=70, initializer_range=0.15, num_labels=2),
        "random",
    ),
    "encoder": (BertModel, config(hidden_size=48, num_attention_heads=12, num_hidden_layers=1, type_vocab_size=3), None),
}
LENGTHS = [7, 1, 24, 2, 13]
LONG_LENGTHS = [67, 3, 33]


class Batch:
    def __init__(self, cfg, rng, lengths):
        self.lengths = lengths
        self.ids = [rng.integers(0, cfg.vocab_size, n) for n in lengths]
        self.types = [rng.integers(0, cfg.type_vocab_size, n) for n in lengths]
        self.labels = rng.integers(0, max(1, cfg.num_labels), len(lengths))
        self.targets = rng.standard_normal(len(lengths)).astype(np.float32)
        self.token_labels = []
        for n in lengths:
            labels = np.where(rng.random(n) < 0.4, rng.integers(0, cfg.vocab_size, n), IGNORED)
            labels[n // 2] = rng.integers(0, cfg.vocab_size)
            self.token_labels.append(labels)

    def label(self, model, b, dtype):
        if isinstance(model, BertForMaskedLM):
            return torch.tensor(self.token_labels[b])[None]
        if isinstance(model, BertModel):
            return None
        if model.config.num_labels == 1:
            return torch.tensor(self.targets[b : b + 1]).to(dtype)
        return torch.tensor(self.labels[b : b + 1])


def run_example(model, batch, b, mask, dtype):
    """All captures of one example, as numpy float64."""
    encoder = model if isinstance(model, BertModel) else model.bert
    cfg = model.config
    contexts = []
    hooks = [
        layer.attention.self.register_forward_hook(lambda _m, _i, out: contexts.append(out[0].retain_grad() or out[0]))
        for layer in encoder.encoder.layer
    ]
    inputs = dict(
        input_ids=torch.tensor(batch.ids[b])[None],
        token_type_ids=torch.tensor(batch.types[b])[None],
        output_hidden_states=True,
        output_attentions=True,
    )
    head_mask = None
    if mask is not None:
        head_mask = torch.tensor(mask, dtype=dtype, requires_grad=True)
        inputs["head_mask"] = head_mask
    label = batch.label(model, b, dtype)
    if label is not None:
        inputs["labels"] = label
    out = model(**inputs)
    for tensor in (*out.hidden_states, *out.attentions):
        tensor.retain_grad()
    result = {}
    if label is not None:
        model.zero_grad()
        out.loss.backward()
        result["loss"] = out.loss
    if isinstance(model, BertForSequenceClassification):
        result["logits"] = out.logits[0]
        result["pooler_output"] = encoder.pooler(out.hidden_states[-1])[0]
    elif isinstance(model, BertForMaskedLM):
        result["token_logits"] = out.logits[0]
    else:
        result["pooler_output"] = out.pooler_output[0]
    length = len(batch.ids[b])
    gradients = np.zeros((cfg.num_hidden_layers, cfg.num_attention_heads))
    token_gradients = np.zeros_like(gradients)
    for l, state in enumerate(out.hidden_states):
        result[f"hidden_states.{l}"] = state[0]
        if label is not None:
            result[f"hidden_state_gradients.{l}"] = state.grad[0]
    for l, layer in enumerate(encoder.encoder.layer):
        attention = layer.attention.self
        heads = attention.num_attention_heads
        dim = attention.attention_head_size
        kept = [h for h in range(cfg.num_attention_heads) if h not in cfg.pruned_heads.get(l, [])]
        of_layer = torch.ones(heads, dtype=dtype) if mask is None else torch.tensor(mask[l], dtype=dtype)
        # Before the mask: the probabilities and what they gather.
        x = out.hidden_states[l][0]
        split = lambda module: module(x).view(length, heads, dim).transpose(0, 1)
        p = torch.softmax(split(attention.query) @ split(attention.key).transpose(1, 2) / math.sqrt(dim), -1)
        o = (p @ split(attention.value)).transpose(0, 1)
        result[f"attentions.{l}"] = out.attentions[l][0]
        result[f"attention_entropies.{l}"] = -(p * torch.log(p)).sum(-1)
        result[f"head_outputs.{l}"] = o
        if label is None:
            continue
        d_context = contexts[l].grad[0].view(length, heads, dim)
        result[f"attention_gradients.{l}"] = out.attentions[l].grad[0]
        result[f"head_output_gradients.{l}"] = d_context * of_layer[None, :, None]
        by_token = (d_context * o).sum(-1).detach().double().numpy()
        gradients[l, kept] = by_token.sum(0)
        token_gradients[l, kept] = np.abs(by_token).sum(0)
        if head_mask is not None and not cfg.pruned_heads:
            # The definition and Hugging Face's own gradient of the mask are one thing.
            assert np.allclose(gradients[l], head_mask.grad[l].double().numpy(), rtol=1e-3, atol=1e-5 if dtype == torch.float32 else 1e-12)
    if label is not None:
        result["head_gradients"] = torch.tensor(gradients)
        result["token_head_gradients"] = torch.tensor(token_gradients)
    for hook in hooks:
        hook.remove()
    return {name: value.detach().double().numpy() for name, value in result.items()}


def run_bertology(model, batch, batch_size):
    """The accumulation of run_bertology.py: gradients of the mask are never reset. Not normalised by layer or globally."""
    cfg = model.config
    mask = torch.ones(cfg.num_hidden_layers, cfg.num_attention_heads, dtype=torch.float64, requires_grad=True)
    importance = torch.zeros_like(mask)
    tokens = 0
    count = len(batch.lengths)
    for first in range(0, count, batch_size):
        some = range(first, min(count, first + batch_size))
        longest = max(batch.lengths)
        pad = lambda rows, value: torch.tensor(np.stack([np.pad(rows[b], (0, longest - len(rows[b])), constant_values=value) for b in some]))
        attention_mask = pad([np.ones(n, np.int64) for n in batch.lengths], 0)
        if isinstance(model, BertForMaskedLM):
            labels = pad(batch.token_labels, IGNORED)
        elif cfg.num_labels == 1:
            labels = torch.tensor(batch.targets[list(some)]).double()
        else:
            labels = torch.tensor(batch.labels[list(some)])
        out = model(input_ids=pad(batch.ids, 0), token_type_ids=pad(batch.types, 0), attention_mask=attention_mask, labels=labels, head_mask=mask)
        out.loss.backward()
        importance += mask.grad.abs().detach()
        tokens += attention_mask.sum().item()
    return (importance / tokens).detach().numpy()


def expected(model, batch, mask):
    """What the model computes with the batch, the batch itself, and the errors of float32."""
    tensors = {}
    errors = {}
    # A pruned model takes no mask: its layers have different numbers of heads.
    given = None if model.config.pruned_heads or isinstance(model, BertModel) else mask
    for b in range(len(batch.lengths)):
        single = run_example(model.float(), batch, b, given, torch.float32)
        exact = run_example(model.double(), batch, b, given, torch.float64)
        for capture, value in exact.items():
            tensors[f"{capture}.{b}"] = value
            group = capture.split(".")[0]
            errors[group] = max(errors.get(group, 0.0), float(np.abs(single[capture] - value).max(initial=0)))
        tensors[f"input_ids.{b}"] = batch.ids[b]
        tensors[f"token_type_ids.{b}"] = batch.types[b]
        tensors[f"token_labels.{b}"] = batch.token_labels[b]
    tensors["head_mask"] = mask
    tensors["labels"] = batch.labels
    tensors["targets"] = batch.targets
    for group, error in errors.items():
        tensors[f"error.{group}"] = np.array([error])
    return tensors


def save(tensors, folder):
    contiguous = {key: np.ascontiguousarray(value).reshape(np.shape(value)) for key, value in tensors.items()}
    save_file(contiguous, os.path.join(folder, "expected.safetensors"))


def make(name, kind, cfg, mask_kind):
    set_seed(sum(map(ord, name)))
    rng = np.random.default_rng(sum(map(ord, name)))
    folder = os.path.join(HERE, name)
    shutil.rmtree(folder, ignore_errors=True)
    model = kind(cfg).eval()
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
        if "LayerNorm.weight" in parameter_name:
            torch.nn.init.normal_(parameter, mean=1, std=0.1)
    model.save_pretrained(folder)
    model = kind.from_pretrained(folder, attn_implementation="eager").eval()
    cfg = model.config
    batch = Batch(cfg, rng, LONG_LENGTHS if name == "long" else LENGTHS)
    mask = np.ones((cfg.num_hidden_layers, cfg.num_attention_heads))
    if mask_kind == "random":
        mask = rng.random(mask.shape).astype(np.float32).astype(np.float64)
        mask[0, 0] = 0
        mask[-1, :-1] = 0
    tensors = expected(model, batch, mask)
    if kind is not BertModel and not cfg.pruned_heads and mask_kind is None:
        for batch_size in (1, 2, 5):
            tensors[f"run_bertology.{batch_size}"] = run_bertology(model.double(), batch, batch_size)
    save(tensors, folder)


if __name__ == "__main__":
    for case, (kind, cfg, mask_kind) in CASES.items():
        make(case, kind, cfg, mask_kind)
        print(case)
