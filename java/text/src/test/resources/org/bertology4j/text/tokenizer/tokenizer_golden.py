#!/usr/bin/env python3
"""Writes the small vocabularies, their tokenizer.json and golden.json beside this script.

Made with transformers 4.57.6 (tokenizers 0.22.2). golden.json holds what BertTokenizerFast makes of the texts below,
which is what the Java side must make of them; where the older BertTokenizer, in Python, differs is printed.
"""

import json
import pathlib
import string

from transformers import BertTokenizer, BertTokenizerFast

HERE = pathlib.Path(__file__).parent

WORDS = """the a an of to and in is was it this that not for on with as at by from good bad film movie phone food place
very great love like un want ##ed ##ing ##s ##er ##est ##ly ##able ##ness ##ion run jump token ##ize ##ization cat dog
sat mat be or no so he she we you they i do don can won t re ve ll m 2019 19 100 ##0 ##9 naive cafe resume uber strasse
ångström naïve café résumé über straße ##é ##ï ##ü ##ß ı i̇ ﬁ ##ﬁ fi new york paris london hello world sub ##word
embed ##ding attention head ##heads layer 中 国 人 ##国 日 本 語 한 국 어 ไทย αβγ αβγδ привет мир שלום مرحبا 😀 👍 ☕ ™ ½
##™ ℝ ##ℝ ... – — ’ “ ” … € £ °""".split()
CASED_WORDS = """The A I It This Film Good Bad Great New York Paris London Hello World USA Naive Café Über Straße ##Case
Camel Mc ##Donald U S ##S ##A É È Привет ΑΒΓ Token ##Ing""".split()


def vocabulary(cased: bool) -> list[str]:
    tokens = ["[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = string.ascii_letters if cased else string.ascii_lowercase
    tokens += list(string.punctuation) + list(string.digits) + list(letters)
    tokens += [f"##{c}" for c in string.digits + letters]
    tokens += WORDS + (CASED_WORDS if cased else [])
    return list(dict.fromkeys(tokens))


TEXTS = [
    "the cat sat on the mat.",
    "The Cat Sat, on THE mat!",
    "unwanted running tokenization",
    "don't won't can't I'm we've you'll they're",
    "Hello, World!! (2019) costs $100.00 -- 50% off; e-mail: a@b.c #tag_x [sic] {y} <z> ~ ^ ` | \\ / \" '",
    "  leading,   inner \t tabs \n newlines \r\n and trailing   ",
    "naïve café résumé Ångström Über straße ÉÈ",
    "cafe\u0301 nai\u0308ve A\u030angstro\u0308m",
    "İstanbul ıı I i ﬁlm ﬃ ǅ ß ẞ",
    "中国人 and 日本語 mixed中in word 한국어 ไทย",
    "\U00020000\U0002a6d6 rare 㐀 豈 〇 ・「日」、",
    "привет Мир αβγδ ΑΒΓ שָׁלוֹם مرحبا",
    "smile 😀👍 ok ☕ 👩‍👩‍👧 🇩🇪 \U0001f9d1\U0001f3fd",
    "control\u0001 chars\u0000 here\u007f and\u0085there \u200bzero\u200d width\ufeff soft\u00adhyphen \ufffd bad",
    "spaces\u00a0no\u2003em\u3000wide\u2028line\u2029para",
    "dots... … dash – — quotes “x” ’s ½ ™ € £ ° 2⁰",
    "x" * 99,
    "x" * 100,
    "x" * 101,
    "a " + "word" * 40 + " b",
    "é" * 60 + " end",
    "[MASK] is the capital of [MASK].",
    "the[MASK]cat [mask] [MASK ] [CLS] [SEP] [PAD] [UNK] [unused0] [unused1]",
    "[MASK]",
    "qqq ŧħø ☃ unknown☃word",
    "CamelCase McDonald USA U.S.A. TokenIng",
    "1234567890 3.14 1,000 19th 2019-19",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z",
    ".",
    "_ __ a_b ℝ xℝ",
    "http://x.y/z?a=b&c=d",
]

PAIRS = [
    ("the cat sat on the mat.", "a dog was in London."),
    ("the cat", "a much longer second text, with very many words in it and no end"),
    ("a much longer first text, with very many words in it and no end", "the dog"),
    ("a b c d e f g h", "i j k l m n o p"),
    ("a b c d e f g h i", "j k l m n o p q"),
    ("😀 naïve 中国", "Café 👍 [MASK] 日本語"),
    ("the cat", ""),
    ("", "the cat"),
    ("one [SEP] two", "three [SEP] four"),
    ("tokenization embeddings", "unwanted subwords"),
]

MAX_LENGTHS = [5, 6, 7, 8, 9, 12, 13, 20]

# name: vocabulary, tokenizer_config.json
VARIANTS = {
    "uncased": ("uncased", {"do_lower_case": True}),
    "cased": ("cased", {"do_lower_case": False}),
    "uncased-accents": ("uncased", {"do_lower_case": True, "strip_accents": False}),
    "uncased-chinese": ("uncased", {"do_lower_case": True, "tokenize_chinese_chars": False}),
    "cased-strip": ("cased", {"do_lower_case": False, "strip_accents": True}),
}


def utf16(text: str, offset: int) -> int:
    return len(text[:offset].encode("utf-16-le")) // 2


def encode(tokenizer, first: str, second: str | None, max_length: int) -> dict:
    # A list of pairs, as the GLUE readers give: alone, an empty second text would count as none.
    texts = [first if second is None else (first, second)]
    encoded = tokenizer(texts, truncation="longest_first", max_length=max_length)
    encoding = encoded.encodings[0]
    texts = [first, second or ""]
    spans = [
        [-1, -1] if text is None else [utf16(texts[text], place) for place in offsets]
        for text, offsets in zip(encoding.sequence_ids, encoding.offsets)
    ]
    return {
        "maxLength": max_length,
        "first": first,
        "second": second,
        "ids": encoding.ids,
        "typeIds": encoding.type_ids,
        "tokens": encoding.tokens,
        "textIds": [-1 if i is None else i for i in encoding.sequence_ids],
        "wordIds": [-1 if i is None else i for i in encoding.word_ids],
        "starts": [start for start, _ in spans],
        "ends": [end for _, end in spans],
        "truncated": len(encoding.overflowing) > 0,
        "decoded": tokenizer.decode(encoding.ids, skip_special_tokens=True),
        "decodedAll": tokenizer.decode(encoding.ids, skip_special_tokens=False),
    }


def main() -> None:
    golden = {}
    for name in ("uncased", "cased"):
        folder = HERE / name
        folder.mkdir(exist_ok=True)
        (folder / "vocab.txt").write_bytes(("\n".join(vocabulary(name == "cased")) + "\n").encode("utf-8"))

    for variant, (vocabulary_name, config) in VARIANTS.items():
        vocab = str(HERE / vocabulary_name / "vocab.txt")
        fast = BertTokenizerFast(vocab, **config)
        slow = BertTokenizer(vocab, **config)
        cases = [encode(fast, text, None, 512) for text in TEXTS]
        cases += [encode(fast, first, second, 512) for first, second in PAIRS]
        if variant in ("uncased", "cased"):
            for max_length in MAX_LENGTHS:
                cases += [encode(fast, text, None, max_length) for text in (TEXTS[0], TEXTS[2], TEXTS[6], TEXTS[12])]
                cases += [encode(fast, first, second, max_length) for first, second in PAIRS]
        for case in cases:
            if case["maxLength"] == 512:
                ids = slow(case["first"], case["second"])["input_ids"]
                if ids != case["ids"]:
                    print(variant, "BertTokenizer differs:", ascii(case["first"]), slow.convert_ids_to_tokens(ids), case["tokens"])
        golden[variant] = {"vocabulary": vocabulary_name, "config": config, "cases": cases}

        if variant == vocabulary_name:
            # As the tokenizer.json files of sentence encoders are: cutting and padding are baked in.
            fast.backend_tokenizer.enable_truncation(4)
            fast.backend_tokenizer.enable_padding(length=32)
            fast.backend_tokenizer.save(str(HERE / vocabulary_name / "tokenizer.json"), pretty=False)

    lines = []
    for variant, content in golden.items():
        cases = ",\n".join(json.dumps(case) for case in content["cases"])
        head = json.dumps({"vocabulary": content["vocabulary"], "config": content["config"]})[:-1]
        lines.append(f'{json.dumps(variant)}: {head}, "cases": [\n{cases}\n]}}')
    (HERE / "golden.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="ascii")


if __name__ == "__main__":
    main()
