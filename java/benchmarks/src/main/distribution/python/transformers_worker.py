"""Runs transformers for bertology-benchmarks.

Reads commands as lines of JSON, answers with lines that start with "@" and go on with JSON. The
kinds of tasks are those of org.bertology4j.benchmarks.peers.PeerTask; outputs are little-endian
float32, one behind the other.
"""

import json
import os
import sys
import time

answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)  # what libraries print must not stand between the answers

DTYPES = {"float32": "float32", "bfloat16": "bfloat16"}
SCRIPT_LENGTH = 128  # run_bertology.py's --max_seq_length


def padded(torch, sequences, length):
    ids = torch.zeros(len(sequences), length, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, sequence in enumerate(sequences):
        ids[i, : len(sequence)] = torch.tensor(sequence)
        mask[i, : len(sequence)] = 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}


def batches(torch, task):
    """As long as the longest of each batch."""
    ids, size = task["ids"], task["batch"]
    groups = [ids[i : i + size] for i in range(0, len(ids), size)]
    return [padded(torch, group, max(map(len, group))) for group in groups]


def flat(torch, tensors):
    return torch.cat([tensor.detach().float().flatten() for tensor in tensors])


def entropy(torch, p):
    plogp = p * torch.log(p)
    plogp[p == 0] = 0
    return -plogp.sum(dim=-1)


class ImportanceOfTheScript:
    """What run_bertology.py does with its defaults: one text at a time, padded to 128, with the
    gradients of all weights, those of the mask never reset, and entropies."""

    def __init__(self, torch, transformers, task):
        folder = task["files"]["folder"]
        config = transformers.AutoConfig.from_pretrained(folder, output_attentions=True)
        self.torch, self.task = torch, task
        self.model = transformers.AutoModelForSequenceClassification.from_pretrained(
            folder, config=config, dtype=getattr(torch, DTYPES[task["dtype"]])
        )
        self.batches = []
        for ids, label in zip(task["ids"], task["labels"]):
            batch = padded(torch, [ids], SCRIPT_LENGTH)
            batch["labels"] = torch.tensor([label])
            self.batches.append(batch)

    def run(self):
        torch, config = self.torch, self.model.config
        shape = config.num_hidden_layers, config.num_attention_heads
        importance, entropies = torch.zeros(shape), torch.zeros(shape)
        head_mask = torch.ones(shape)
        head_mask.requires_grad_(requires_grad=True)
        tokens = 0.0
        for batch in self.batches:
            outputs = self.model(**batch, head_mask=head_mask)
            outputs.loss.backward()
            mask = batch["attention_mask"]
            for layer, attention in enumerate(outputs.attentions):
                of_tokens = entropy(torch, attention.detach()) * mask.float().unsqueeze(1)
                entropies[layer] += of_tokens.sum(-1).sum(0).detach()
            importance += head_mask.grad.abs().clone().detach()
            tokens += mask.float().detach().sum().data
        entropies /= tokens
        importance /= tokens
        return importance, entropies

    def outputs(self):
        return flat(self.torch, self.run())


class Importance:
    """The same as far as its interface allows: several texts at a time, padded to the longest, frozen
    weights, a mask for each text, so that the gradients of single texts are there."""

    def __init__(self, torch, transformers, task):
        self.torch, self.task = torch, task
        self.model = transformers.BertForSequenceClassification.from_pretrained(
            task["files"]["folder"],
            attn_implementation="eager",
            dtype=getattr(torch, DTYPES[task["dtype"]]),
        ).eval()
        self.model.requires_grad_(False)
        self.batches, at = batches(torch, task), 0
        for batch in self.batches:
            count = len(batch["input_ids"])
            batch["labels"] = torch.tensor(task["labels"][at : at + count])
            at += count

    def run(self):
        torch, config = self.torch, self.model.config
        layers, heads = config.num_hidden_layers, config.num_attention_heads
        importance, count = torch.zeros(layers, heads), 0
        for batch in self.batches:
            examples = len(batch["labels"])
            mask = torch.ones(layers, examples, heads, 1, 1, requires_grad=True)
            loss = self.model(**batch, head_mask=mask).loss * examples  # of their mean
            (gradient,) = torch.autograd.grad(loss, mask)
            importance += gradient.float().abs().sum(1).reshape(layers, heads)
            count += examples
        return importance / count

    def outputs(self):
        return flat(self.torch, [self.run()])


class Forward:
    """The last hidden states."""

    attention = "sdpa"

    def __init__(self, torch, transformers, task):
        self.torch, self.task = torch, task
        self.model = transformers.BertModel.from_pretrained(
            task["files"]["folder"],
            add_pooling_layer=False,
            attn_implementation=self.attention,
            dtype=getattr(torch, DTYPES[task["dtype"]]),
        ).eval()
        self.batches = batches(torch, task)

    def run(self):
        with self.torch.inference_mode():
            return [self.model(**batch) for batch in self.batches]

    def outputs(self):
        states = [states for run in self.run() for states in run.last_hidden_state]
        return flat(self.torch, [s[: len(i)] for s, i in zip(states, self.task["ids"])])


class Captures(Forward):
    """All hidden states and attention maps."""

    attention = "eager"

    def run(self):
        with self.torch.inference_mode():
            return [
                self.model(**batch, output_hidden_states=True, output_attentions=True)
                for batch in self.batches
            ]

    def outputs(self):
        first = self.run()[0]
        n = len(self.task["ids"][0])
        states = [state[0, :n] for state in first.hidden_states]
        return flat(self.torch, states + [maps[0, :, :n, :n] for maps in first.attentions])


class Load:
    """A model from its file to the first result."""

    def __init__(self, torch, transformers, task):
        self.torch, self.transformers, self.task = torch, transformers, task

    def run(self):
        return Forward(self.torch, self.transformers, self.task).run()

    def outputs(self):
        return Forward(self.torch, self.transformers, self.task).outputs()


class Trace:
    """Writes the model as TorchScript, for other programs."""

    def __init__(self, torch, transformers, task):
        model = transformers.BertModel.from_pretrained(
            task["files"]["folder"], add_pooling_layer=False, attn_implementation="eager"
        ).eval()

        class LastState(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.model = model

            def forward(self, input_ids, attention_mask, token_type_ids):
                return self.model(input_ids, attention_mask, token_type_ids).last_hidden_state

        batch = batches(torch, task)[0]
        example = tuple(batch[n] for n in ("input_ids", "attention_mask", "token_type_ids"))
        with torch.no_grad():
            traced = torch.jit.trace(LastState(), example, check_trace=False)
        traced.save(task["files"]["torchscript"])
        self.torch = torch

    def run(self):
        return None

    def outputs(self):
        return self.torch.zeros(0)


KINDS = {
    "IMPORTANCE_OF_THE_SCRIPT": ImportanceOfTheScript,
    "IMPORTANCE": Importance,
    "FORWARD": Forward,
    "CAPTURES": Captures,
    "LOAD": Load,
    "TRACE": Trace,
}


def main():
    prepared = None
    for line in sys.stdin:
        try:
            command = json.loads(line)
            # Here, so that their absence is an answer.
            import torch
            import transformers

            transformers.logging.set_verbosity_error()
            answer = {}
            if command["command"] == "describe":
                answer["description"] = (
                    f"transformers {transformers.__version__}, torch {torch.__version__}"
                )
            elif command["command"] == "prepare":
                task = command["task"]
                torch.set_num_threads(task["threads"])
                torch.manual_seed(1)
                prepared = KINDS[task["kind"]](torch, transformers, task)
                prepared.outputs().numpy().astype("<f4").tofile(task["files"]["outputs"])
            elif command["command"] == "run":
                start = time.perf_counter()
                result = prepared.run()
                answer["seconds"] = time.perf_counter() - start
                del result
            else:
                raise ValueError(f"unknown command {command['command']}")
        except Exception as e:  # any failure is an answer
            answer = {"error": f"{type(e).__name__}: {e}"}
        print("@" + json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
