#!/usr/bin/env python3
"""Writes small vocabularies of byte pairs, as GPT-2's and OpenAI GPT's, and bpe_golden.json beside this script.

Made with transformers 4.57.6 (tokenizers 0.22.2), like golden.json by tokenizer_golden.py: what GPT2TokenizerFast and
OpenAIGPTTokenizerFast make of the same texts. Where the older tokenizers, in Python, differ is printed.
"""

import json
import pathlib

from tokenizer_golden import MAX_LENGTHS, PAIRS, TEXTS, encode
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import GPT2Tokenizer, GPT2TokenizerFast, OpenAIGPTTokenizer, OpenAIGPTTokenizerFast

HERE = pathlib.Path(__file__).parent

MORE = [
    "Hello world!<|endoftext|>Hello again, isn't it? It's 2019 already; they've we'll I'M",
    " leading space and  two  spaces   three",
    "tabs\tand\nnewlines\n\nend\r\n",
    "snake_case camelCase x1y2 100,000.50",
    " ",
    "\u00a0\u2003",
]


def train(folder: pathlib.Path, byte_level: bool) -> None:
    folder.mkdir(exist_ok=True)
    if byte_level:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=420, special_tokens=[], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        )
    else:
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.BpeTrainer(
            vocab_size=320, special_tokens=["<unk>"], end_of_word_suffix="</w>", limit_alphabet=120, show_progress=False
        )
    tokenizer.train_from_iterator(TEXTS + MORE + [text for pair in PAIRS for text in pair], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    vocabulary = model["vocab"]
    if byte_level:
        vocabulary["<|endoftext|>"] = len(vocabulary)
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
    (folder / "vocab.json").write_bytes(json.dumps(vocabulary, ensure_ascii=False).encode("utf-8"))
    (folder / "merges.txt").write_bytes(("#version: 0.2\n" + "\n".join(merges) + "\n").encode("utf-8"))


def main() -> None:
    lines = []
    for name, fast_class, slow_class, config in [
        ("gpt2", GPT2TokenizerFast, GPT2Tokenizer, {}),
        ("gpt2-prefix", GPT2TokenizerFast, GPT2Tokenizer, {"add_prefix_space": True}),
        ("openai-gpt", OpenAIGPTTokenizerFast, OpenAIGPTTokenizer, {}),
    ]:
        folder = HERE / name.removesuffix("-prefix")
        if folder.name == name:
            train(folder, name == "gpt2")
        files = (str(folder / "vocab.json"), str(folder / "merges.txt"))
        fast = fast_class(*files, **config)
        slow = slow_class(*files, **config)
        texts = [text for text in TEXTS + MORE if fast(text)["input_ids"]]
        cases = [encode(fast, text, None, 512) for text in texts]
        cases += [encode(fast, first, second, 512) for first, second in PAIRS if first and second]
        for max_length in MAX_LENGTHS:
            cases += [encode(fast, text, None, max_length) for text in (TEXTS[0], TEXTS[2], TEXTS[12])]
            cases += [encode(fast, first, second, max_length) for first, second in PAIRS if first and second]
        for case in cases:
            # The models have no segments.
            case["typeIds"] = [0] * len(case["ids"])
            if case["maxLength"] == 512 and case["second"] is None:
                ids = slow(case["first"])["input_ids"]
                if ids != case["ids"]:
                    print(name, slow_class.__name__, "differs:", ascii(case["first"]), slow.convert_ids_to_tokens(ids), case["tokens"])
        body = ",\n".join(json.dumps(case) for case in cases)
        head = json.dumps({"vocabulary": folder.name, "config": config})[:-1]
        lines.append(f'{json.dumps(name)}: {head}, "cases": [\n{body}\n]}}')
        if folder.name == name:
            fast.backend_tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    (HERE / "bpe_golden.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="ascii")


if __name__ == "__main__":
    main()
