package org.bertology4j.checkpoint;

import java.util.Collection;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.bertology4j.BertologyException;
import org.bertology4j.ModelConfig.Architecture;

/** The weights of a checkpoint by their canonical names: what the name rules make of a file. */
final class WeightTable {
  private final Map<String, Segment> segments = new LinkedHashMap<>();
  private final Map<String, StoredTensor> tensors = new LinkedHashMap<>();

  /** Applies the name rules of BERT. */
  WeightTable(String where, Collection<Weight> weights) {
    this(where, weights, Architecture.BERT);
  }

  /**
   * Applies the name rules of an architecture.
   *
   * <p>Tensors that are not of a floating-point type, such as {@code position_ids}, are left out;
   * if one is a parameter of the model, that is an error.
   *
   * @param where the file or folder, for messages
   */
  WeightTable(String where, Collection<Weight> weights, Architecture architecture) {
    ParameterNames names =
        new ParameterNames(architecture, weights.stream().map(Weight::name).toList());
    Map<String, Weight> byName = new LinkedHashMap<>();
    for (Weight weight : weights) {
      String name = names.canonical(weight.name());
      if (weight.type().isEmpty()) {
        if (names.isParameter(name)) {
          throw new BertologyException(
              BertologyException.Kind.UNSUPPORTED,
              String.format(
                  "%s: tensor %s is of type %s; weights of float32, float16 or bfloat16 are"
                      + " supported",
                  where, Messages.quote(weight.storedAs()), weight.typeName()));
        }
        continue;
      }
      if (names.isBuffer(name)) {
        continue;
      }
      Weight other = byName.put(name, weight);
      BertologyException.check(
          other == null,
          "%s: the tensors %s and %s are the same parameter, %s",
          where,
          Messages.quote(other == null ? "" : other.storedAs()),
          Messages.quote(weight.storedAs()),
          name);
    }
    // The two are one parameter, which files have once or twice.
    Optional.ofNullable(byName.remove(ParameterNames.DECODER_BIAS))
        .ifPresent(bias -> byName.putIfAbsent(ParameterNames.MASKED_LM_BIAS, bias));
    String words = ParameterNames.wordEmbeddings(architecture);
    BertologyException.check(
        byName.containsKey(words),
        "%s: no weights of %s: expected %s among the tensors, found %s",
        where,
        architecture == Architecture.BERT ? "BERT" : architecture.modelType(),
        words,
        Messages.few(weights.stream().map(Weight::storedAs).toList()));
    byName.forEach(this::add);
  }

  private void add(String name, Weight weight) {
    StoredTensor tensor =
        new StoredTensor(name, weight.type().orElseThrow(), weight.shape(), weight.transposed());
    tensors.put(name, tensor);
    segments.put(name, weight.segment().get());
  }

  /** The tensors, in the order of the file. */
  Map<String, StoredTensor> tensors() {
    return Collections.unmodifiableMap(tensors);
  }

  /** Where the bytes of a listed tensor are. */
  Segment segment(String name) {
    return segments.get(name);
  }

  /** The sizes of a tensor of a certain rank, if it is there. */
  Optional<List<Long>> shape(String name, int rank) {
    return Optional.ofNullable(tensors.get(name))
        .map(StoredTensor::shape)
        .filter(shape -> shape.size() == rank);
  }
}
