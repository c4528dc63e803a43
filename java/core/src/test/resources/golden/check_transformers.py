"""Checks that pruned models go from here to transformers 4.57.6 and back.

    mvn -q test-compile -pl java/core        # once, in the repository's root
    python check_transformers.py

Needs torch, transformers 4.57 and safetensors, and `mvn` and `java` on the path; it is no part of the build. For each kind
of BERT, GPT-2 and OpenAI GPT and each plan of heads:

- A folder that is pruned and saved here loads in transformers without a missing or unexpected tensor, with the very
  weights that its own prune_heads leaves, and gives the numbers that it gives here.
- The same in full shape, with zeros for the heads.
- A folder that transformers pruned and saved, in shards too, loads here and gives the numbers that it gives there.
- The model with all heads gives the same numbers with those of the plan masked, the others by values between 0 and 1.
- transformers gives these numbers in padded batches too, of the GPTs padded on the left and on the right.

What transformers cannot do is to run a layer without any heads: its forward pass raises. There the weights are compared,
and the numbers are those of its model with the heads masked. A GPT that is more than its transformer it cannot even load
then: it prunes twice while it loads, and divides by the number of heads. There the files are compared.

Numbers from here are compared with transformers in float64 (eager attention), within 1e-5 or, if that is more, twice what
transformers loses in float32. Printed is the most that was lost, here for each folder and in transformers.
"""

import json
import os
import pathlib
import subprocess
import tempfile

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from transformers import (
    BertForMaskedLM,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    GPT2DoubleHeadsModel,
    GPT2ForSequenceClassification,
    GPT2ForTokenClassification,
    GPT2LMHeadModel,
    GPT2Model,
    OpenAIGPTDoubleHeadsModel,
    OpenAIGPTForSequenceClassification,
    OpenAIGPTLMHeadModel,
    OpenAIGPTModel,
    set_seed,
)

from make_golden import config
from make_golden_gpt import PAD, classifies, gpt, gpt2

CORE = pathlib.Path(__file__).resolve().parents[4]
LENGTHS = [7, 1, 24]
LAYERS, HEADS = 3, 4
BOUND = 1e-5

KINDS = {
    "classification": (BertForSequenceClassification, config(), torch.float32),
    "regression": (BertForSequenceClassification, config(num_labels=1), torch.float32),
    "half_classification": (BertForSequenceClassification, config(), torch.float16),
    "masked_lm": (BertForMaskedLM, config(), torch.float32),
    "untied_masked_lm": (BertForMaskedLM, config(tie_word_embeddings=False), torch.float32),
    "encoder": (BertModel, config(), torch.float32),
    # Of these the encoder runs here; their heads are kept.
    "pretraining": (BertForPreTraining, config(), torch.float32),
    "question_answering": (BertForQuestionAnswering, config(num_labels=2), torch.float32),
    "token_classification": (BertForTokenClassification, config(), torch.float32),
    "gpt2_lm": (GPT2LMHeadModel, gpt2(), torch.float32),
    "gpt2_scaled_lm": (GPT2LMHeadModel, gpt2(scale_attn_by_inverse_layer_idx=True), torch.float32),
    "gpt2_untied_lm": (GPT2LMHeadModel, gpt2(tie_word_embeddings=False), torch.float32),
    "gpt2_half_lm": (GPT2LMHeadModel, gpt2(), torch.float16),
    "gpt2_double_heads": (GPT2DoubleHeadsModel, gpt2(), torch.float32),
    "gpt2_classification": (GPT2ForSequenceClassification, gpt2(), torch.float32),
    "gpt2_regression": (GPT2ForSequenceClassification, gpt2(num_labels=1), torch.float32),
    "gpt2_token_classification": (GPT2ForTokenClassification, gpt2(), torch.float32),
    "gpt2_encoder": (GPT2Model, gpt2(), torch.float32),
    "gpt_lm": (OpenAIGPTLMHeadModel, gpt(), torch.float32),
    "gpt_double_heads": (OpenAIGPTDoubleHeadsModel, gpt(), torch.float32),
    "gpt_classification": (OpenAIGPTForSequenceClassification, gpt(), torch.float32),
    "gpt_encoder": (OpenAIGPTModel, gpt(), torch.float32),
}
# Each pruned in these steps, heads by layer.
PLANS = {
    "one": [{0: [1]}],
    "some": [{0: [1, 2], 2: [0, 1, 3]}],
    "steps": [{2: [1]}, {0: [3], 2: [3]}, {0: [0]}],
    "layer": [{1: [0, 1, 2, 3]}],
    "all": [{0: [0, 1, 2, 3], 1: [0, 1, 2, 3], 2: [0, 1, 2, 3]}],
}


def union(steps):
    heads = {}
    for step in steps:
        for layer, of_layer in step.items():
            heads.setdefault(layer, []).extend(of_layer)
    return heads


def has_empty_layer(steps):
    return any(len(heads) == HEADS for heads in union(steps).values())


def as_text(heads):
    return ";".join(f"{layer}:{','.join(map(str, of_layer))}" for layer, of_layer in heads.items())


def load(kind, folder):
    """A model and what from_pretrained did not like about its folder."""
    model, info = kind.from_pretrained(folder, attn_implementation="eager", output_loading_info=True)
    complaints = {key: value for key, value in info.items() if value}
    assert not complaints, f"{folder}: {complaints}"
    return model.eval()


def is_gpt(model):
    return model.config.model_type != "bert"


def named(model, out, b, at):
    """What the peer writes too, of one example of a batch, whose tokens are at these places."""
    results = {"hidden_states": out.hidden_states[-1][b, at]}
    if isinstance(model, BertForSequenceClassification) or classifies(model):
        results["logits"] = out.logits[b]
    elif isinstance(model, BertForPreTraining):
        results["token_logits"] = out.prediction_logits[b, at]
    elif isinstance(model, (BertForMaskedLM, GPT2LMHeadModel, GPT2DoubleHeadsModel, OpenAIGPTLMHeadModel, OpenAIGPTDoubleHeadsModel)):
        results["token_logits"] = out.logits[b, at]
    return results


def run(model, batch, places, head_mask):
    """All examples as one batch, each at these places, or the one example whose places are given."""
    longest = max(at.stop for at in places.values())
    ids = torch.full((len(places), longest), PAD)
    types, attention_mask = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, (b, at) in enumerate(places.items()):
        ids[row, at] = torch.tensor(batch[f"input_ids.{b}"])
        types[row, at] = torch.tensor(batch[f"token_type_ids.{b}"])
        attention_mask[row, at] = 1
    inputs = dict(input_ids=ids, attention_mask=attention_mask, head_mask=head_mask, output_hidden_states=True)
    if is_gpt(model):
        # These know nothing of padding on the left unless they are told where each text starts.
        inputs["position_ids"] = (attention_mask.cumsum(-1) - 1).clamp(min=0)
    else:
        inputs["token_type_ids"] = types
    with torch.no_grad():
        out = model(**inputs)
    results = {}
    for row, (b, at) in enumerate(places.items()):
        results.update({f"{name}.{b}": value.double().numpy() for name, value in named(model, out, row, at).items()})
    return results


def alone(model, batch, head_mask):
    results = {}
    for b, length in enumerate(LENGTHS):
        results.update(run(model, batch, {b: slice(0, length)}, head_mask))
    return results


def numbers(model, batch, head_mask=None):
    """What the peer writes too, in float64, and the most that float32 loses of it."""
    mask = None if head_mask is None else head_mask.float()
    rounded = alone(model.float(), batch, mask)
    mask = None if head_mask is None else head_mask.double()
    exact = alone(model.double(), batch, mask)
    longest = max(LENGTHS)
    padded = [run(model, batch, {b: slice(0, n) for b, n in enumerate(LENGTHS)}, mask)]
    if is_gpt(model):
        padded.append(run(model, batch, {b: slice(longest - n, longest) for b, n in enumerate(LENGTHS)}, mask))
    for results in padded:
        for name, value in results.items():
            assert np.abs(value - exact[name]).max() <= 1e-12, f"padded {name}"
    return exact, max(np.abs(rounded[name] - value).max() for name, value in exact.items())


class Peer:
    """Collects commands for the Java side, and runs them in one process."""

    def __init__(self, work):
        self.work = work
        self.commands = []

    def add(self, *words):
        self.commands.append("\t".join(map(str, words)))

    def run(self):
        script = self.work / "commands"
        script.write_text("\n".join(self.commands) + "\n")
        libraries = self.work / "libraries"
        subprocess.run(
            ["mvn", "-q", "-B", "dependency:build-classpath", f"-Dmdep.outputFile={libraries}"],
            cwd=CORE,
            check=True,
        )
        folders = [CORE / "target" / name for name in ("test-classes", "classes", "native")]
        class_path = os.pathsep.join([*map(str, folders), libraries.read_text()])
        subprocess.run(["java", "-cp", class_path, "org.bertology4j.TransformersPeer", script], check=True)
        print(f"{len(self.commands)} commands done by the Java side")


class Check:
    """One kind and plan: what is made before the Java side runs, and what is compared afterwards."""

    def __init__(self, kind_name, plan_name, original, batch, peer):
        self.name = f"{kind_name} {plan_name}"
        self.kind, _, self.dtype = KINDS[kind_name]
        self.steps = PLANS[plan_name]
        self.original = original
        self.batch = batch
        self.folder = original.parent / plan_name
        theirs = self.their_folder()
        for save in ("PRUNED", "FULL_SHAPE"):
            peer.add("prune", original, self.folder / save, save, *map(as_text, self.steps))
        for path in (self.folder / "PRUNED", self.folder / "FULL_SHAPE", theirs):
            peer.add("run", path, original.parent / "ids", path / "numbers")
        peer.add("prune", theirs, self.folder / "resaved", "PRUNED")
        self.head_mask = torch.rand(LAYERS, HEADS, generator=torch.Generator().manual_seed(1))
        for layer, heads in union(self.steps).items():
            self.head_mask[layer, heads] = 0
        (self.folder / "masked").mkdir()
        save_file({"head_mask": self.head_mask.numpy()}, self.folder / "mask")
        peer.add("run", original, original.parent / "ids", self.folder / "masked" / "numbers", self.folder / "mask")

    def pruned_there(self):
        model = load(self.kind, self.original)
        for step in self.steps:
            model.prune_heads(step)
        return model

    def their_folder(self):
        folder = self.folder / "theirs"
        # Files of some kilobytes, so that there are several.
        self.pruned_there().to(self.dtype).save_pretrained(folder, max_shard_size="15KB")
        assert (folder / "model.safetensors.index.json").exists(), (self.name, os.listdir(folder))
        return folder

    def expected(self):
        """The numbers by transformers: of the pruned model where it runs, else of the masked one."""
        model = self.pruned_there()
        if not has_empty_layer(self.steps):
            return numbers(model, self.batch)
        try:
            numbers(model, self.batch)
        except (RuntimeError, ValueError):
            pass
        else:
            raise AssertionError("transformers runs a layer without heads now: compare with it")
        mask = torch.ones(LAYERS, HEADS)
        for layer, heads in union(self.steps).items():
            mask[layer, heads] = 0
        return numbers(load(self.kind, self.original), self.batch, mask)

    def compare(self):
        expected, lost = self.expected()
        report = f"{self.name:32}"
        for path in ("PRUNED", "FULL_SHAPE", "theirs"):
            report += f"  {path} {self.compare_numbers(path, expected, lost):.1e}"
        masked, lost_masked = numbers(load(self.kind, self.original), self.batch, self.head_mask)
        report += f"  masked {self.compare_numbers('masked', masked, lost_masked):.1e}"
        their_state = self.pruned_there().state_dict()
        for path in ("PRUNED", "resaved"):
            if self.cannot_be_loaded_there():
                self.compare_files(path)
                continue
            model = load(self.kind, self.folder / path)
            assert model.config.pruned_heads == {l: sorted(h) for l, h in union(self.steps).items()}, path
            self.compare_weights(path, model, their_state)
            if not has_empty_layer(self.steps):
                self.compare_transformers(path, model, expected)
        full = load(self.kind, self.folder / "FULL_SHAPE")
        assert not full.config.pruned_heads
        self.compare_weights("FULL_SHAPE", full, self.zeroed_state())
        self.compare_transformers("FULL_SHAPE", full, expected)
        print(report + f"  transformers {max(lost, lost_masked):.1e}")

    def cannot_be_loaded_there(self):
        if not has_empty_layer(self.steps) or self.kind.base_model_prefix != "transformer" or self.kind in (GPT2Model, OpenAIGPTModel):
            return False
        for path in ("PRUNED", "theirs"):
            try:
                load(self.kind, self.folder / path)
            except ZeroDivisionError:
                pass
            else:
                raise AssertionError("transformers loads a GPT with a layer without heads now: compare with it")
        return True

    def compare_files(self, path):
        ours = load_file(self.folder / path / "model.safetensors")
        theirs = {}
        for shard in (self.folder / "theirs").glob("*.safetensors"):
            theirs.update(load_file(shard))
        assert ours.keys() == theirs.keys(), (self.name, path)
        for name, value in ours.items():
            assert value.dtype == theirs[name].dtype and np.array_equal(value, theirs[name]), (self.name, path, name)
        read = {key: json.loads((self.folder / key / "config.json").read_text())["pruned_heads"] for key in (path, "theirs")}
        assert {l: sorted(h) for l, h in read[path].items()} == {l: sorted(h) for l, h in read["theirs"].items()}, (self.name, path)

    def compare_numbers(self, path, expected, lost):
        """What the Java side gave for a folder, where transformers in float32 lost so much; the largest difference."""
        ours = load_file(self.folder / path / "numbers")
        assert ours.keys() <= expected.keys() and len(ours) >= len(LENGTHS), (path, ours.keys())
        worst = 0
        for name, value in ours.items():
            difference = np.abs(value - expected[name]).max()
            assert difference <= max(BOUND, 2 * lost), f"{self.name} {path} {name}: {difference}, in transformers {lost}"
            worst = max(worst, difference)
        return worst

    def compare_transformers(self, path, model, expected):
        """The same weights in transformers give the same numbers, but for zeros that are added."""
        for name, value in numbers(model, self.batch)[0].items():
            difference = np.abs(value - expected[name]).max()
            assert difference <= 1e-12, f"{self.name} {path} {name}: {difference}"

    def compare_weights(self, path, model, state):
        loaded = model.state_dict()
        assert loaded.keys() == state.keys(), (self.name, path)
        for name, value in loaded.items():
            assert torch.equal(value.to(self.dtype), state[name].to(self.dtype)), (self.name, path, name)
        stored = load_file(self.folder / path / "model.safetensors")
        dtypes = {value.dtype for value in stored.values()}
        assert dtypes == {np.dtype(str(self.dtype).split(".")[1])}, (self.name, path, dtypes)

    def zeroed_state(self):
        model = load(self.kind, self.original)
        hidden = model.config.hidden_size
        width = hidden // HEADS
        with torch.no_grad():
            for layer, heads in union(self.steps).items():
                for head in heads:
                    rows = slice(head * width, (head + 1) * width)
                    if is_gpt(model):
                        attention = getattr(model, "transformer", model).h[layer].attn
                        for part in range(3):
                            columns = slice(part * hidden + rows.start, part * hidden + rows.stop)
                            attention.c_attn.weight[:, columns] = 0
                            attention.c_attn.bias[columns] = 0
                        attention.c_proj.weight[rows] = 0
                        continue
                    attention = getattr(model, "bert", model).encoder.layer[layer].attention
                    for part in (attention.self.query, attention.self.key, attention.self.value):
                        part.weight[rows] = 0
                        part.bias[rows] = 0
                    attention.output.dense.weight[:, rows] = 0
        return model.state_dict()


def main():
    with tempfile.TemporaryDirectory() as temporary:
        work = pathlib.Path(temporary)
        peer = Peer(work)
        checks = []
        for kind_name, (kind, cfg, dtype) in KINDS.items():
            set_seed(sum(map(ord, kind_name)))
            folder = work / kind_name
            model = kind(cfg)
            for name, parameter in model.named_parameters():
                if name.endswith("bias"):
                    torch.nn.init.normal_(parameter, std=0.1)
            model.to(dtype).save_pretrained(folder / "original")
            rng = np.random.default_rng(1)
            batch = {}
            for b, length in enumerate(LENGTHS):
                batch[f"input_ids.{b}"] = rng.integers(0, min(PAD, cfg.vocab_size), length)
                # The GPTs have no segments.
                batch[f"token_type_ids.{b}"] = rng.integers(0, getattr(cfg, "type_vocab_size", 1), length)
            save_file(batch, folder / "ids")
            for plan_name in PLANS:
                checks.append(Check(kind_name, plan_name, folder / "original", batch, peer))
        peer.run()
        print("largest differences from transformers in float64:")
        for check in checks:
            check.compare()
        print(f"{len(checks)} pruned models go there and back")


if __name__ == "__main__":
    main()
