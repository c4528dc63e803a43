"""Makes the TensorFlow bundles of this folder from the safetensors files that make_golden.py wrote.

Needs tensorflow 2.21 and safetensors.
"""

import json
import os
import pathlib
import shutil

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy
import tensorflow.compat.v1 as tf
from safetensors.numpy import load_file

HERE = pathlib.Path(__file__).resolve().parent

# Entries that Google's bert_config.json has.
CONFIG = [
    "attention_probs_dropout_prob",
    "hidden_act",
    "hidden_dropout_prob",
    "hidden_size",
    "initializer_range",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "type_vocab_size",
    "vocab_size",
]


def variable(name, value):
    """Google's name of a parameter, and its value as TensorFlow stores it."""
    special = {
        "classifier.weight": "output_weights",
        "classifier.bias": "output_bias",
        "cls.predictions.bias": "cls/predictions/output_bias",
    }
    if name in special:
        return special[name], value
    path = name.replace("encoder.layer.", "encoder.layer_").replace(".", "/")
    head, last = path.rsplit("/", 1)
    if head.endswith("_embeddings"):
        return head, value
    if head.endswith("LayerNorm"):
        return head + {"weight": "/gamma", "bias": "/beta"}[last], value
    if last == "weight":
        return head + "/kernel", value.T
    return path, value


def bundle(original, target, prefix, scope="", slots=False, extra=()):
    values = dict(extra)
    for name, value in load_file(HERE / original / "model.safetensors").items():
        name, value = variable(name, value)
        values[scope + name] = value
        if slots:
            values[scope + name + "/adam_m"] = numpy.zeros_like(value)
    if slots:
        values["global_step"] = numpy.int64(7)
    folder = HERE / target
    shutil.rmtree(folder, ignore_errors=True)
    (folder / prefix).parent.mkdir(parents=True)
    with tf.Graph().as_default(), tf.Session() as session:
        for name, value in values.items():
            tf.get_variable(name, initializer=tf.constant(value), use_resource=False)
        session.run(tf.global_variables_initializer())
        saver = tf.train.Saver()
        saver.save(
            session,
            str(folder / prefix),
            write_meta_graph=False,
            write_state=False,
        )
    config = json.loads((HERE / original / "config.json").read_text())
    (folder / "bert_config.json").write_text(
        json.dumps({key: config[key] for key in CONFIG}, indent=2) + "\n"
    )


def main():
    random = numpy.random.default_rng(5)
    next_sentence = {
        "cls/seq_relationship/output_weights": random.normal(size=(2, 8)).astype("float32"),
        "cls/seq_relationship/output_bias": random.normal(size=2).astype("float32"),
    }
    bundle("masked-lm", "tensorflow", "bert_model.ckpt", slots=True, extra=next_sentence.items())
    bundle("masked-lm", "tensorflow-hub", "variables/variables", scope="module/")
    bundle("sequence-classification", "tensorflow-classifier", "model.ckpt-3", slots=True)


if __name__ == "__main__":
    main()
