"""Checks that pruned models go from here to transformers 4.57.6 and back.

    mvn -q test-compile -pl java/core        # once, in the repository's root
    python check_transformers.py

Needs torch, transformers 4.57 and safetensors, and `mvn` and `java` on the path; it is no part of the build. For each kind
of BERT and each plan of heads:

- A folder that is pruned and saved here loads in transformers without a missing or unexpected tensor, with the very
  weights that its own prune_heads leaves, and gives the numbers that it gives here.
- The same in full shape, with zeros for the heads.
- A folder that transformers pruned and saved, in shards too, loads here and gives the numbers that it gives there.

What transformers cannot do is to run a layer without any heads: its forward pass raises. There the weights are compared,
and the numbers are those of its model with the heads masked.

Numbers from here are compared with transformers in float64 (eager attention), within 1e-5: float32 loses up to 6e-6 in such
models, there as here. Printed is the most that was lost, here for each folder and in transformers.
"""

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
    set_seed,
)

from make_golden import config

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


def numbers(model, batch, head_mask=None):
    """What the peer writes too, in float64, and the most that float32 loses of it."""
    results = {}
    for dtype in (torch.float32, torch.float64):
        model.to(dtype)
        mask = None if head_mask is None else head_mask.to(dtype)
        for b in range(len(LENGTHS)):
            with torch.no_grad():
                out = model(
                    input_ids=torch.tensor(batch[f"input_ids.{b}"])[None],
                    token_type_ids=torch.tensor(batch[f"token_type_ids.{b}"])[None],
                    head_mask=mask,
                    output_hidden_states=True,
                )
            results[f"hidden_states.{b}", dtype] = out.hidden_states[-1][0]
            if isinstance(model, BertForSequenceClassification):
                results[f"logits.{b}", dtype] = out.logits[0]
            elif isinstance(model, BertForMaskedLM):
                results[f"token_logits.{b}", dtype] = out.logits[0]
            elif isinstance(model, BertForPreTraining):
                results[f"token_logits.{b}", dtype] = out.prediction_logits[0]
    results = {key: value.double().numpy() for key, value in results.items()}
    exact = {name: value for (name, dtype), value in results.items() if dtype == torch.float64}
    return exact, max(np.abs(results[name, torch.float32] - value).max() for name, value in exact.items())


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
        except RuntimeError:
            pass
        else:
            raise AssertionError("transformers runs a layer without heads now: compare with it")
        mask = torch.ones(LAYERS, HEADS)
        for layer, heads in union(self.steps).items():
            mask[layer, heads] = 0
        return numbers(load(self.kind, self.original), self.batch, mask)

    def compare(self):
        expected, lost = self.expected()
        report = f"{self.name:30}"
        for path in ("PRUNED", "FULL_SHAPE", "theirs"):
            report += f"  {path} {self.compare_numbers(path, expected):.1e}"
        their_state = self.pruned_there().state_dict()
        for path in ("PRUNED", "resaved"):
            model = load(self.kind, self.folder / path)
            assert model.config.pruned_heads == {l: sorted(h) for l, h in union(self.steps).items()}, path
            self.compare_weights(path, model, their_state)
            if not has_empty_layer(self.steps):
                self.compare_transformers(path, model, expected)
        full = load(self.kind, self.folder / "FULL_SHAPE")
        assert not full.config.pruned_heads
        self.compare_weights("FULL_SHAPE", full, self.zeroed_state())
        self.compare_transformers("FULL_SHAPE", full, expected)
        print(report + f"  transformers {lost:.1e}")

    def compare_numbers(self, path, expected):
        """What the Java side gave for a folder; the largest difference."""
        ours = load_file(self.folder / path / "numbers")
        assert ours.keys() <= expected.keys() and len(ours) >= len(LENGTHS), (path, ours.keys())
        worst = 0
        for name, value in ours.items():
            difference = np.abs(value - expected[name]).max()
            assert difference <= BOUND, f"{self.name} {path} {name}: {difference}"
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
        width = model.config.hidden_size // HEADS
        encoder = getattr(model, "bert", model).encoder
        with torch.no_grad():
            for layer, heads in union(self.steps).items():
                attention = encoder.layer[layer].attention
                for head in heads:
                    rows = slice(head * width, (head + 1) * width)
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
                batch[f"input_ids.{b}"] = rng.integers(0, cfg.vocab_size, length)
                batch[f"token_type_ids.{b}"] = rng.integers(0, cfg.type_vocab_size, length)
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
