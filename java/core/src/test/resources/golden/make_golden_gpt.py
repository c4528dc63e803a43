"""Makes the golden folders of GPT-2 and OpenAI GPT beside this script, as make_golden.py makes BERT's.

    python make_golden_gpt.py

Every example is also run in padded batches, padded on the left and on the right: the script fails unless they give the
numbers of the example alone, in float64. What float32 loses in them is part of the reference's own error.
"""

import os
import shutil

import numpy as np
import torch
from make_golden import HERE, IGNORED, save
from transformers import (
    GPT2Config,
    GPT2DoubleHeadsModel,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    GPT2Model,
    OpenAIGPTConfig,
    OpenAIGPTDoubleHeadsModel,
    OpenAIGPTForSequenceClassification,
    OpenAIGPTLMHeadModel,
    set_seed,
)

LENGTHS = [7, 2, 24, 3, 13]
LONG_LENGTHS = [67, 3, 33]
PAD = 60


def config(kind, **changes):
    values = dict(
        vocab_size=61,
        n_embd=32,
        n_layer=3,
        n_head=4,
        n_positions=24,
        initializer_range=0.3,
        num_labels=3,
        pad_token_id=PAD,
        bos_token_id=0,
        eos_token_id=0,
        resid_pdrop=0,
        embd_pdrop=0,
        attn_pdrop=0,
        attn_implementation="eager",
    )
    values.update(changes)
    return kind(**values)


def gpt2(**changes):
    return config(GPT2Config, **changes)


def gpt(**changes):
    return config(OpenAIGPTConfig, **changes)


CASES = {
    "gpt2_lm": (GPT2LMHeadModel, gpt2(), None),
    "gpt2_masked": (
        GPT2LMHeadModel,
        gpt2(scale_attn_by_inverse_layer_idx=True, reorder_and_upcast_attn=True, n_inner=50, activation_function="silu"),
        "random",
    ),
    "gpt2_untied": (GPT2LMHeadModel, gpt2(vocab_size=67, n_embd=20, n_head=2, n_layer=2, tie_word_embeddings=False), "random"),
    "gpt2_double_heads": (GPT2DoubleHeadsModel, gpt2(n_layer=1), None),
    "gpt2_classification": (GPT2ForSequenceClassification, gpt2(), None),
    "gpt2_regression": (
        GPT2ForSequenceClassification,
        gpt2(n_embd=27, n_head=3, n_layer=2, num_labels=1, scale_attn_weights=False, activation_function="relu", initializer_range=0.2),
        "random",
    ),
    "gpt2_pruned": (GPT2LMHeadModel, gpt2(pruned_heads={0: [1], 2: [0, 2, 3]}), None),
    "gpt2_encoder": (GPT2Model, gpt2(n_embd=48, n_head=12, n_layer=1), None),
    "gpt2_long": (GPT2LMHeadModel, gpt2(n_embd=64, n_head=2, n_layer=2, n_positions=70, initializer_range=0.15), "random"),
    "gpt_lm": (OpenAIGPTLMHeadModel, gpt(), None),
    "gpt_masked": (OpenAIGPTLMHeadModel, gpt(n_embd=27, n_head=3, afn="relu"), "random"),
    "gpt_double_heads": (OpenAIGPTDoubleHeadsModel, gpt(n_layer=1, afn="silu"), None),
    "gpt_classification": (OpenAIGPTForSequenceClassification, gpt(initializer_range=0.2), "random"),
    "gpt_pruned": (OpenAIGPTForSequenceClassification, gpt(pruned_heads={0: [1], 2: [0, 2, 3]}), None),
}


class Batch:
    def __init__(self, cfg, rng, lengths):
        self.lengths = lengths
        self.ids = [rng.integers(0, PAD, n) for n in lengths]
        self.labels = rng.integers(0, max(1, cfg.num_labels), len(lengths))
        self.targets = rng.standard_normal(len(lengths)).astype(np.float32)
        # Prompts of up to half of the tokens, which do not count.
        self.token_labels = []
        for ids in self.ids:
            labels = ids.copy()
            labels[: rng.integers(0, len(ids) // 2 + 1)] = IGNORED
            self.token_labels.append(labels)


def classifies(model):
    return isinstance(model, (GPT2ForSequenceClassification, OpenAIGPTForSequenceClassification))


def transformer_of(model):
    return model if isinstance(model, GPT2Model) else model.transformer


def use_dtype(model, dtype):
    model.to(dtype)
    for layer in transformer_of(model).h:
        # In float64 the option would compute in float32, and it changes nothing but that.
        layer.attn.reorder_and_upcast_attn = model.config.to_dict().get("reorder_and_upcast_attn", False) and dtype == torch.float32


def labels_of(model, batch, some, dtype, token_labels):
    if isinstance(model, GPT2Model):
        return {}
    if not classifies(model):
        return {"labels": token_labels}
    if model.config.num_labels == 1:
        return {"labels": torch.tensor(batch.targets[some]).to(dtype)}
    return {"labels": torch.tensor(batch.labels[some])}


def run_example(model, batch, b, mask, dtype):
    """All captures of one example, as numpy float64."""
    transformer = transformer_of(model)
    cfg = model.config
    n = len(batch.ids[b])
    contexts, last = [], []
    hooks = [
        layer.attn.c_proj.register_forward_pre_hook(lambda _m, inputs: contexts.append(inputs[0]) or inputs[0].retain_grad()) for layer in transformer.h
    ]
    if isinstance(cfg, GPT2Config):
        hooks.append(transformer.ln_f.register_forward_pre_hook(lambda _m, inputs: last.append(inputs[0])))
    token_labels = torch.tensor(batch.token_labels[b])[None]
    inputs = dict(input_ids=torch.tensor(batch.ids[b])[None], output_hidden_states=True, output_attentions=True)
    inputs.update(labels_of(model, batch, [b], dtype, token_labels))
    head_mask = None
    if mask is not None:
        head_mask = torch.tensor(mask, dtype=dtype, requires_grad=True)
        inputs["head_mask"] = head_mask
    out = model(**inputs)
    for tensor in (*out.hidden_states, *out.attentions):
        tensor.retain_grad()
    result = {}
    labelled = "labels" in inputs
    if labelled:
        model.zero_grad()
        out.loss.backward()
        result["loss"] = out.loss
    if classifies(model):
        result["logits"] = out.logits[0]
        result["pooler_output"] = out.hidden_states[-1][0, -1]
    elif isinstance(model, GPT2Model):
        result["token_logits"] = out.last_hidden_state[0] @ transformer.wte.weight.T
    else:
        result["token_logits"] = out.logits[0]
        losses = torch.zeros(n, dtype=dtype)
        losses[:-1] = torch.nn.functional.cross_entropy(out.logits[0, :-1], token_labels[0, 1:], reduction="none", ignore_index=IGNORED)
        result["token_losses"] = losses
    if not classifies(model):
        result["token_predictions"] = result["token_logits"].argmax(-1)
    if last:
        result["last_block_state"] = last[0][0]
    gradients = np.zeros((cfg.n_layer, cfg.n_head))
    token_gradients = np.zeros_like(gradients)
    for l, state in enumerate(out.hidden_states):
        result[f"hidden_states.{l}"] = state[0]
        if labelled:
            result[f"hidden_state_gradients.{l}"] = state.grad[0]
    seen = torch.tril(torch.ones(n, n, dtype=torch.bool))
    for l, layer in enumerate(transformer.h):
        kept = [h for h in range(cfg.n_head) if h not in cfg.pruned_heads.get(l, [])]
        heads, dim = len(kept), cfg.n_embd // cfg.n_head
        of_layer = torch.ones(heads, dtype=dtype) if mask is None else torch.tensor(mask[l], dtype=dtype)
        # Before the mask: the probabilities and what they gather.
        x = out.hidden_states[l]
        if isinstance(cfg, GPT2Config):
            x = layer.ln_1(x)
        q, k, v = (part.view(n, heads, dim).transpose(0, 1) for part in layer.attn.c_attn(x)[0].split(heads * dim, dim=1))
        scale = 1.0
        if not isinstance(cfg, GPT2Config) or cfg.scale_attn_weights:
            scale /= dim**0.5
        if isinstance(cfg, GPT2Config) and cfg.scale_attn_by_inverse_layer_idx:
            scale /= l + 1
        p = torch.softmax((q @ k.transpose(1, 2) * scale).masked_fill(~seen, -torch.inf), -1)
        o = (p @ v).transpose(0, 1)
        result[f"attentions.{l}"] = out.attentions[l][0]
        result[f"attention_entropies.{l}"] = torch.special.entr(p).sum(-1)
        result[f"head_outputs.{l}"] = o
        if not labelled:
            continue
        d_context = contexts[l].grad[0].view(n, heads, dim)
        # What a token does not see is no variable of the model.
        result[f"attention_gradients.{l}"] = out.attentions[l].grad[0] * seen
        result[f"head_output_gradients.{l}"] = d_context * of_layer[None, :, None]
        by_token = (d_context * o).sum(-1).detach().double().numpy()
        gradients[l, kept] = by_token.sum(0)
        token_gradients[l, kept] = np.abs(by_token).sum(0)
        if head_mask is not None:
            # The definition and Hugging Face's own gradient of the mask are one thing.
            assert np.allclose(gradients[l], head_mask.grad[l].double().numpy(), rtol=1e-3, atol=1e-5 if dtype == torch.float32 else 1e-12)
    if labelled:
        result["head_gradients"] = torch.tensor(gradients)
        result["token_head_gradients"] = torch.tensor(token_gradients)
    for hook in hooks:
        hook.remove()
    return {name: value.detach().double().numpy() for name, value in result.items()}


def padded_differences(model, batch, mask, tensors):
    """How far both ways of padding are from the examples alone, at the places of their tokens, by capture."""
    dtype = next(model.parameters()).dtype
    differences = {}
    longest = max(batch.lengths)
    for left in (True, False):
        place = [slice(longest - n, longest) if left else slice(0, n) for n in batch.lengths]
        ids = torch.full((len(batch.lengths), longest), PAD)
        attention_mask = torch.zeros_like(ids)
        for b, at in enumerate(place):
            ids[b, at] = torch.tensor(batch.ids[b])
            attention_mask[b, at] = 1
        positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)
        inputs = dict(input_ids=ids, attention_mask=attention_mask, position_ids=positions, output_hidden_states=True, output_attentions=True)
        if mask is not None:
            inputs["head_mask"] = torch.tensor(mask, dtype=dtype)
        with torch.no_grad():
            out = model(**inputs)
        for b, at in enumerate(place):
            pairs = [(out.hidden_states[l][b, at], f"hidden_states.{l}.{b}") for l in range(len(out.hidden_states))]
            pairs += [(out.attentions[l][b, :, at, at], f"attentions.{l}.{b}") for l in range(len(out.attentions))]
            if classifies(model):
                pairs.append((out.logits[b], f"logits.{b}"))
            elif not isinstance(model, GPT2Model):
                pairs.append((out.logits[b, at], f"token_logits.{b}"))
            for padded, name in pairs:
                group = name.split(".")[0]
                difference = float(np.abs(padded.double().numpy() - tensors[name]).max(initial=0))
                differences[group] = max(differences.get(group, 0.0), difference)
    return differences


def run_bertology(model, batch, batch_size):
    """As in make_golden.py: the accumulation of run_bertology.py, not normalised."""
    cfg = model.config
    mask = torch.ones(cfg.n_layer, cfg.n_head, dtype=torch.float64, requires_grad=True)
    importance = torch.zeros_like(mask)
    tokens = 0
    for first in range(0, len(batch.lengths), batch_size):
        some = list(range(first, min(len(batch.lengths), first + batch_size)))
        pad = lambda rows, value: torch.tensor(np.stack([np.pad(rows[b], (0, max(batch.lengths) - len(rows[b])), constant_values=value) for b in some]))
        attention_mask = pad([np.ones(n, np.int64) for n in batch.lengths], 0)
        labels = labels_of(model, batch, some, torch.float64, pad(batch.token_labels, IGNORED))
        model(input_ids=pad(batch.ids, PAD), attention_mask=attention_mask, head_mask=mask, **labels).loss.backward()
        importance += mask.grad.abs().detach()
        tokens += attention_mask.sum().item()
    return (importance / tokens).detach().numpy()


def make(name, kind, cfg, mask_kind):
    set_seed(sum(map(ord, name)))
    rng = np.random.default_rng(sum(map(ord, name)))
    folder = os.path.join(HERE, name)
    shutil.rmtree(folder, ignore_errors=True)
    model = kind(cfg).eval()
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
        if ".ln_" in parameter_name and parameter_name.endswith("weight"):
            torch.nn.init.normal_(parameter, mean=1, std=0.1)
    model.save_pretrained(folder)
    for extra in ("generation_config.json",):
        if os.path.exists(os.path.join(folder, extra)):
            os.remove(os.path.join(folder, extra))
    model = kind.from_pretrained(folder, attn_implementation="eager").eval()
    cfg = model.config
    batch = Batch(cfg, rng, LONG_LENGTHS if name.endswith("_long") else LENGTHS)
    mask = np.ones((cfg.n_layer, cfg.n_head))
    if mask_kind == "random":
        mask = rng.random(mask.shape).astype(np.float32).astype(np.float64)
        mask[0, 0] = 0
        mask[-1, :-1] = 0
    # A pruned model takes no mask: its layers have different numbers of heads.
    given = None if cfg.pruned_heads or kind is GPT2Model else mask
    tensors, errors = {}, {}
    for b in range(len(batch.lengths)):
        use_dtype(model, torch.float32)
        single = run_example(model, batch, b, given, torch.float32)
        use_dtype(model, torch.float64)
        exact = run_example(model, batch, b, given, torch.float64)
        for capture, value in exact.items():
            tensors[f"{capture}.{b}"] = value
            group = capture.split(".")[0]
            errors[group] = max(errors.get(group, 0.0), float(np.abs(single[capture] - value).max(initial=0)))
        tensors[f"input_ids.{b}"] = batch.ids[b]
        tensors[f"token_type_ids.{b}"] = np.zeros_like(batch.ids[b])
        tensors[f"token_labels.{b}"] = batch.token_labels[b]
    use_dtype(model, torch.float32)
    for group, error in padded_differences(model, batch, given, tensors).items():
        errors[group] = max(errors[group], error)
    use_dtype(model, torch.float64)
    for group, error in padded_differences(model, batch, given, tensors).items():
        assert error < 1e-12, (name, group, error)
    if mask_kind is None and not cfg.pruned_heads and kind is not GPT2Model:
        for batch_size in (1, 2, 5):
            tensors[f"run_bertology.{batch_size}"] = run_bertology(model, batch, batch_size)
    tensors["head_mask"] = mask
    tensors["labels"] = batch.labels
    tensors["targets"] = batch.targets
    for group, error in errors.items():
        tensors[f"error.{group}"] = np.array([error])
    save(tensors, folder)


if __name__ == "__main__":
    for case, (kind, cfg, mask_kind) in CASES.items():
        make(case, kind, cfg, mask_kind)
        print(case)
