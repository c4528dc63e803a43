package org.bertology4j.checkpoint;

import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.regex.Pattern;
import org.bertology4j.ModelConfig.Architecture;

/**
 * The names of a model's parameters: Hugging Face's, without the model's prefix. The rules of all
 * formats are here; those without an architecture are BERT's.
 */
final class ParameterNames {
  static final String WORD_EMBEDDINGS = "embeddings.word_embeddings.weight";
  static final String POSITION_EMBEDDINGS = "embeddings.position_embeddings.weight";
  static final String TOKEN_TYPE_EMBEDDINGS = "embeddings.token_type_embeddings.weight";
  static final String EMBEDDINGS_NORM = "embeddings.LayerNorm";
  static final String CLASSIFIER = "classifier.weight";
  static final String MASKED_LM = "cls.predictions.transform.dense.weight";
  static final String MASKED_LM_BIAS = "cls.predictions.bias";
  static final String DECODER = "cls.predictions.decoder.weight";
  static final String DECODER_BIAS = "cls.predictions.decoder.bias";

  private static final List<String> LAYER_MODULES =
      List.of(
          "attention.self.query",
          "attention.self.key",
          "attention.self.value",
          "attention.output.dense",
          "attention.output.LayerNorm",
          "intermediate.dense",
          "output.dense",
          "output.LayerNorm");

  private static final Pattern KNOWN_OF_GPT =
      Pattern.compile(
          "(wte|wpe|tokens_embed|positions_embed)\\.weight"
              + "|h\\.\\d{1,4}\\.(attn\\.c_(attn|proj)|mlp\\.c_(fc|proj)|ln_[12])\\.(weight|bias)"
              + "|ln_f\\.(weight|bias)"
              + "|lm_head\\.weight"
              + "|score\\.(weight|bias)");

  /** The causal mask, which old files have beside the weights. */
  private static final Pattern BUFFER_OF_GPT =
      Pattern.compile("h\\.\\d{1,4}\\.attn\\.(bias|masked_bias)");

  private static final Pattern KNOWN =
      Pattern.compile(
          "embeddings\\.(word|position|token_type)_embeddings\\.weight"
              + "|embeddings\\.LayerNorm\\.(weight|bias)"
              + "|encoder\\.layer\\.\\d{1,4}\\.(attention\\.self\\.(query|key|value)"
              + "|attention\\.output\\.(dense|LayerNorm)"
              + "|intermediate\\.dense|output\\.(dense|LayerNorm))\\.(weight|bias)"
              + "|pooler\\.dense\\.(weight|bias)"
              + "|cls\\.predictions\\.transform\\.(dense|LayerNorm)\\.(weight|bias)"
              + "|cls\\.predictions\\.(decoder\\.weight|decoder\\.bias|bias)"
              + "|cls\\.seq_relationship\\.(weight|bias)"
              + "|classifier\\.(weight|bias)");

  /** What TensorFlow's optimizers keep beside the weights. */
  private static final Set<String> OPTIMIZER_VARIABLES =
      Set.of(
          "adam_m",
          "adam_v",
          "Adam",
          "Adam_1",
          "Momentum",
          "global_step",
          "beta1_power",
          "beta2_power");

  private final Architecture architecture;
  private final String prefix;
  private final String parentPrefix;

  /**
   * Rules for a set of names of BERT: what stands before {@code embeddings.word_embeddings.weight}
   * is the prefix of the encoder, and what stands before its last part that of the heads.
   */
  ParameterNames(Collection<String> names) {
    this(Architecture.BERT, names);
  }

  /** The same rules for any architecture, by the name of its word embeddings. */
  ParameterNames(Architecture architecture, Collection<String> names) {
    this.architecture = architecture;
    prefix = findPrefix(names);
    int parent = prefix.lastIndexOf('.', prefix.length() - 2);
    parentPrefix = prefix.substring(0, parent + 1);
  }

  /** The name of an architecture's word embeddings. */
  static String wordEmbeddings(Architecture architecture) {
    return switch (architecture) {
      case BERT -> WORD_EMBEDDINGS;
      case GPT2 -> "wte.weight";
      case OPENAI_GPT -> "tokens_embed.weight";
    };
  }

  private String usualPrefix() {
    return architecture == Architecture.BERT ? "bert." : "transformer.";
  }

  private String findPrefix(Collection<String> names) {
    String words = wordEmbeddings(architecture);
    List<String> prefixes =
        names.stream()
            .filter(name -> name.equals(words) || name.endsWith("." + words))
            .map(name -> name.substring(0, name.length() - words.length()))
            .distinct()
            .toList();
    return prefixes.size() == 1 ? prefixes.get(0) : prefixes.contains("") ? "" : usualPrefix();
  }

  /** Hugging Face's name, without the prefix, with today's names of the layer norm's vectors. */
  String canonical(String name) {
    String rest = name;
    if (!prefix.isEmpty() && rest.startsWith(prefix)) {
      rest = rest.substring(prefix.length());
    } else if (!parentPrefix.isEmpty() && rest.startsWith(parentPrefix)) {
      rest = rest.substring(parentPrefix.length());
    } else if (rest.startsWith(usualPrefix())) {
      rest = rest.substring(usualPrefix().length());
    }
    if (rest.endsWith(".gamma")) {
      return rest.substring(0, rest.length() - "gamma".length()) + "weight";
    }
    if (rest.endsWith(".beta")) {
      return rest.substring(0, rest.length() - "beta".length()) + "bias";
    }
    return rest;
  }

  /** Whether a canonical name is that of a parameter that BERTs are made of. */
  static boolean isKnown(String canonical) {
    return KNOWN.matcher(canonical).matches();
  }

  /**
   * Whether a canonical name is that of a parameter that models of the architecture are made of.
   */
  boolean isParameter(String canonical) {
    return (architecture.isCausal() ? KNOWN_OF_GPT : KNOWN).matcher(canonical).matches();
  }

  /** Whether a canonical name is that of something that is no weight. */
  boolean isBuffer(String canonical) {
    return architecture.isCausal() && BUFFER_OF_GPT.matcher(canonical).matches();
  }

  /** Canonical names of the modules of a layer, each of which has a weight and a bias. */
  static List<String> layerModules(int layer) {
    return LAYER_MODULES.stream().map(module -> "encoder.layer." + layer + "." + module).toList();
  }

  /** A variable's name in Hugging Face's style. */
  record Renamed(String name, boolean kernel) {}

  /**
   * Hugging Face's name of a variable of Google's BERT, with whatever prefix it has; empty for what
   * belongs to an optimizer.
   */
  static Optional<Renamed> fromTensorFlow(String variable) {
    String[] parts = variable.split("/", -1);
    String last = parts[parts.length - 1];
    if (OPTIMIZER_VARIABLES.contains(last)) {
      return Optional.empty();
    }
    // TensorFlow Hub puts everything into a scope of this name.
    int first = parts.length > 1 && parts[0].equals("module") ? 1 : 0;
    StringBuilder path = new StringBuilder();
    for (String part : Arrays.asList(parts).subList(first, parts.length - 1)) {
      path.append(part.matches("layer_\\d{1,4}") ? part.replace('_', '.') : part).append('.');
    }
    return Optional.of(
        switch (last) {
          case "kernel" -> new Renamed(path + "weight", true);
          case "word_embeddings", "position_embeddings", "token_type_embeddings" ->
              new Renamed(path + last + ".weight", false);
          case "output_weights", "output_bias" ->
              // At the top they belong to the classifier of a fine-tuned model.
              new Renamed(
                  (path.isEmpty() ? "classifier." : path)
                      + (last.equals("output_bias") ? "bias" : "weight"),
                  false);
          default -> new Renamed(path + last, false);
        });
  }
}
