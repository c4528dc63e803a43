package org.bertology4j.text;

/** The special tokens of BERT, in the order of the usual vocabularies, and those of GPT-2. */
enum SpecialToken {
  PAD("pad_token", "[PAD]"),
  UNK("unk_token", "[UNK]"),
  CLS("cls_token", "[CLS]"),
  SEP("sep_token", "[SEP]"),
  MASK("mask_token", "[MASK]"),
  BOS("bos_token", "<|endoftext|>"),
  EOS("eos_token", "<|endoftext|>");

  private final String key;
  private final String usual;

  SpecialToken(String key, String usual) {
    this.key = key;
    this.usual = usual;
  }

  /** What tokenizer_config.json calls it. */
  String key() {
    return key;
  }

  /** How it is written unless a file says otherwise. */
  String usual() {
    return usual;
  }
}
