package org.bertology4j;

/** GPT-2's masking, pruning, restoring and saving. */
class Gpt2PruningTest extends PruningTest {
  @Override
  String whole() {
    return "gpt2_classification";
  }

  @Override
  String pruned() {
    return "gpt2_pruned";
  }
}
