"""Makes the golden files of this folder, all but those of TensorFlow: tiny BERTs of random weights.

    python make_golden.py && python make_golden_tensorflow.py && python make_golden_outputs.py

Needs torch 2.13, transformers 4.57, safetensors, onnx and onnxscript.
"""

import pathlib
import shutil
import warnings

import onnx
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
)

HERE = pathlib.Path(__file__).resolve().parent
NAME_SCOPES = "pkg.torch.onnx.name_scopes"


def config(**changes):
    # Most sizes differ, so that none can be taken for another.
    return BertConfig(
        **{
            "vocab_size": 24,
            "hidden_size": 8,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 12,
            "max_position_embeddings": 10,
            "type_vocab_size": 3,
            "num_labels": 5,
            **changes,
        }
    )


def random_model(kind, seed, attention="eager", **changes):
    """Every parameter is random: fresh biases are zero and norms one, which would hide mistakes."""
    torch.manual_seed(seed)
    model = kind._from_config(config(**changes), attn_implementation=attention).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def folder(name):
    path = HERE / name
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    return path


def save(model, name, **options):
    path = folder(name)
    model.save_pretrained(path, **options)
    # Nothing is generated with these.
    (path / "generation_config.json").unlink(missing_ok=True)
    return path


def export(model, path, **options):
    """Exports, and leaves out what only says where on the disk the model's source was."""
    ids = torch.tensor([[1, 2, 3, 4], [3, 4, 5, 6]])
    names = ["input_ids", "attention_mask", "token_type_ids"]
    if options["dynamo"]:
        sizes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
        options["dynamic_shapes"] = {name: sizes for name in names}
    else:
        options["dynamic_axes"] = {name: {0: "batch", 1: "tokens"} for name in names}
    path.parent.mkdir(exist_ok=True)
    torch.onnx.export(
        model,
        (ids, torch.ones_like(ids), torch.zeros_like(ids)),
        path,
        input_names=names,
        output_names=["output"],
        **options,
    )
    exported = onnx.load(path, load_external_data=False)
    del exported.graph.value_info[:]
    del exported.metadata_props[:]
    del exported.graph.metadata_props[:]
    for value in [*exported.graph.initializer, *exported.graph.input, *exported.graph.output]:
        del value.metadata_props[:]
    for node in exported.graph.node:
        scopes = [entry for entry in node.metadata_props if entry.key == NAME_SCOPES]
        kept = [(entry.key, entry.value) for entry in scopes]
        del node.metadata_props[:]
        node.doc_string = ""
        for key, value in kept:
            node.metadata_props.add(key=key, value=value)
    path.write_bytes(exported.SerializeToString())


def main():
    warnings.simplefilter("ignore")
    encoder = random_model(BertModel, 1)
    for layer in encoder.encoder.layer:  # equal vectors become one constant in an export
        torch.nn.init.constant_(layer.attention.self.key.bias, 0.25)
        torch.nn.init.constant_(layer.attention.self.value.bias, 0.25)
    classifier = random_model(BertForSequenceClassification, 2, "sdpa", num_hidden_layers=1)
    masked_lm = random_model(
        BertForMaskedLM,
        3,
        "sdpa",
        num_hidden_layers=1,
        hidden_act="gelu_new",
        layer_norm_eps=1e-6,
    )

    original = save(encoder, "encoder")
    save(classifier, "sequence-classification")
    save(masked_lm, "masked-lm")
    save(encoder, "sharded", max_shard_size="3KB")
    for name, dtype in {"float16": torch.float16, "bfloat16": torch.bfloat16}.items():
        path = folder(name)
        shutil.copy(original / "config.json", path)
        tensors = load_file(original / "model.safetensors")
        save_file(
            {key: value.to(dtype) for key, value in tensors.items()},
            path / "model.safetensors",
            {"format": "pt"},
        )

    # As in files of 2019: a prefix, gamma and beta, and a buffer of numbers.
    old = folder("old-names")
    shutil.copy(original / "config.json", old)
    tensors = {"bert.embeddings.position_ids": torch.arange(10)[None]}
    for key, value in load_file(original / "model.safetensors").items():
        if "LayerNorm" in key:
            key = key.replace("weight", "gamma").replace("bias", "beta")
        tensors["bert." + key] = value
    save_file(tensors, old / "model.safetensors", {"format": "pt"})

    shutil.rmtree(HERE / "onnx", ignore_errors=True)
    script = {"dynamo": False, "opset_version": 17}
    export(encoder, HERE / "onnx/script-encoder.onnx", dynamo=False, opset_version=14)
    export(classifier, HERE / "onnx/script-sequence-classification.onnx", **script)
    export(masked_lm, HERE / "onnx/script-masked-lm.onnx", **script)
    dynamo = {"dynamo": True, "external_data": False, "verbose": False}
    export(classifier, HERE / "onnx/dynamo-sequence-classification.onnx", **dynamo)
    export(masked_lm, HERE / "onnx/dynamo-masked-lm.onnx", **dynamo)
    export(
        encoder.half(),
        folder("onnx-external") / "model.onnx",
        dynamo=True,
        external_data=True,
        verbose=False,
    )


if __name__ == "__main__":
    main()
