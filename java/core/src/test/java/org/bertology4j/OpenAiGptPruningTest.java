package org.bertology4j;

/** OpenAI GPT's masking, pruning, restoring and saving. */
class OpenAiGptPruningTest extends PruningTest {
  @Override
  String whole() {
    return "gpt_classification";
  }

  @Override
  String pruned() {
    return "gpt_pruned";
  }
}
