#!/usr/bin/env python3
"""Writes small files in the form of GLUE's official ones, and golden.json, beside this script.

golden.json holds what transformers 4.57.6 (glue_processors, glue_compute_metrics) reads of them. The sentences are our
own; the columns are those of the official files.
"""

import json
import pathlib
import warnings

import numpy

warnings.simplefilter("ignore")
from transformers import glue_output_modes, glue_processors, glue_tasks_num_labels  # noqa: E402
from transformers.data.metrics import glue_compute_metrics  # noqa: E402

HERE = pathlib.Path(__file__).parent
BOM = "\ufeff"

FIRST = ['He said "yes', "A cat 's tail", "Two \u0085 odd\u2028breaks", "Trailing blank ", "naïve 中 😀", "''quoted\" text"]
SECOND = ["She said no\"", "The tail of a cat", "Nothing\u00a0odd", "Not trailing", "très naïf", "\"quoted\""]


def rows(header: str | None, make, labels: list[str]) -> list[str]:
    lines = [header] if header else []
    return lines + [make(i, FIRST[i % 6], SECOND[i % 6], labels[i % len(labels)]) for i in range(6)]


def pair_row(i, a, b, label):
    return f"{i}\t{a}\t{b}\t{label}"


def test_pair_row(i, a, b, _):
    return f"{i}\t{a}\t{b}"


STSB = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2"
MNLI = "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\tsentence2_parse\tsentence1\tsentence2"
ENTAIL = ["entailment", "not_entailment"]
NLI = ["neutral", "entailment", "contradiction"]
BINARY = ["1", "0"]
SCORES = ["5.000", "3.8", "0", "2.50", "1.6", "4.25"]


def stsb_row(i, a, b, label):
    return f"{i}\tmain-news\tMSRpar\t2012test\t{i}\tnone\tnone\t{a}\t{b}" + (f"\t{label}" if label else "")


def mnli_row(i, a, b, votes):
    return f"{i}\t31193\t31193n\tfiction\t( a )\t( b )\t(ROOT a)\t(ROOT b)\t{a}\t{b}" + "".join(f"\t{v}" for v in votes)


def mrpc_row(i, a, b, label):
    return f"{label}\t{100 + i}\t{200 + i}\t{a}\t{b}"


def qqp_row(i, a, b, label):
    return f"{i}\t{2 * i}\t{2 * i + 1}\t{a}\t{b}\t{label}"


MNLI_DEV = MNLI + "\tlabel1\tlabel2\tlabel3\tlabel4\tlabel5\tgold_label"
MNLI_TRAIN = MNLI + "\tlabel1\tgold_label"
QQP = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate"
QQP_ROWS = rows(QQP, qqp_row, BINARY)
MRPC_HEADER = BOM + "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"


def cola_row(i, a, b, label):
    return f"gj04\t{label}\t{'*' if label == '0' else ''}\t{a}"


def plain_files(header: str, labels: list[str]) -> dict[str, list[str]]:
    both = rows(header + "\tlabel", pair_row, labels)
    return {"train.tsv": both, "dev.tsv": both[:4], "test.tsv": rows(header, test_pair_row, [""])}


def mnli_dev(shift: int) -> list[str]:
    return rows(MNLI_DEV, lambda i, a, b, l: mnli_row(i + shift, a, b, ["neutral"] * 5 + [l]), NLI)


FILES = {
    "CoLA": {
        "train.tsv": rows(None, cola_row, BINARY),
        "dev.tsv": rows(None, cola_row, BINARY)[:3],
        "test.tsv": rows("index\tsentence", lambda i, a, b, l: f"{i}\t{a}", [""]),
    },
    "SST-2": {
        "train.tsv": rows("sentence\tlabel", lambda i, a, b, l: f"{a}\t{l}", BINARY),
        "dev.tsv": rows("sentence\tlabel", lambda i, a, b, l: f"{b}\t{l}", BINARY),
        "test.tsv": rows("index\tsentence", lambda i, a, b, l: f"{i}\t{a}", [""]),
    },
    "MRPC": {
        "train.tsv": rows(MRPC_HEADER, mrpc_row, BINARY),
        "dev.tsv": rows(MRPC_HEADER, mrpc_row, BINARY)[:5],
        "test.tsv": rows(BOM + "index\t#1 ID\t#2 ID\t#1 String\t#2 String", mrpc_row, ["0"]),
    },
    "STS-B": {
        "train.tsv": rows(STSB + "\tscore", stsb_row, SCORES),
        "dev.tsv": rows(STSB + "\tscore", stsb_row, SCORES)[:4],
        "test.tsv": rows(STSB, stsb_row, [""]),
    },
    "QQP": {
        "train.tsv": QQP_ROWS[:3] + ["104\t208\t209", "105\t210\t211\tonly one question"] + QQP_ROWS[3:],
        "dev.tsv": QQP_ROWS + ["106\t212\t213\ta question\t\t0"],
        "test.tsv": rows("id\tquestion1\tquestion2", test_pair_row, [""]) + ["107\tshort"],
    },
    "MNLI": {
        "train.tsv": rows(MNLI_TRAIN, lambda i, a, b, l: mnli_row(i, a, b, [l, l]), NLI),
        "dev_matched.tsv": mnli_dev(0),
        "dev_mismatched.tsv": mnli_dev(10)[:5],
        "test_matched.tsv": rows(MNLI, lambda i, a, b, l: mnli_row(i, a, b, []), [""]),
        "test_mismatched.tsv": rows(MNLI, lambda i, a, b, l: mnli_row(i, b, a, []), [""]),
    },
    "QNLI": plain_files("index\tquestion\tsentence", ENTAIL),
    "RTE": plain_files("index\tsentence1\tsentence2", ENTAIL),
    "WNLI": plain_files("index\tsentence1\tsentence2", BINARY),
}


def main() -> None:
    for task, files in FILES.items():
        (HERE / task).mkdir(exist_ok=True)
        for name, lines in files.items():
            end = "\r\n" if task == "WNLI" else "\n"
            (HERE / task / name).write_bytes((end.join(lines) + end).encode("utf-8"))
    golden = {}
    for task, processor_class in glue_processors.items():
        processor = processor_class()
        folder = str(HERE / {"mnli-mm": "MNLI", "cola": "CoLA"}.get(task, task.upper()))
        regression = glue_output_modes[task] == "regression"
        labels = processor.get_labels()
        metric_input = numpy.array([0.0, 1.0] if regression else [0, 1])
        golden[task] = {
            "labels": [] if regression else labels,
            "numLabels": glue_tasks_num_labels[task.removesuffix("-mm")],
            "metrics": sorted(glue_compute_metrics(task, metric_input, metric_input)),
            "splits": {
                split: [
                    {
                        "first": e.text_a,
                        "second": e.text_b,
                        "label": e.label if e.label is None else float(e.label) if regression else labels.index(e.label),
                    }
                    for e in getattr(processor, f"get_{split}_examples")(folder)
                ]
                for split in ("train", "dev", "test")
            },
        }
    (HERE / "golden.json").write_text(json.dumps(golden, indent=1) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
