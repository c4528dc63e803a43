package org.bertology4j;

import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.Function;
import org.bertology4j.checkpoint.Checkpoint;
import org.bertology4j.checkpoint.StoredTensor;
import org.bertology4j.internal.Native;
import org.bertology4j.internal.NativeActivations;
import org.bertology4j.internal.ParameterMap;
import org.bertology4j.internal.ReadAhead;
import org.bertology4j.internal.Resource;
import org.bertology4j.internal.TensorStaging;
import org.bertology4j.internal.binding.bertology;
import org.bertology4j.internal.binding.bertology_device;
import org.bertology4j.internal.binding.bertology_model;
import org.bytedeco.javacpp.Pointer;

/**
 * A BERT, OpenAI GPT or GPT-2 with its weights in native memory: it runs batches and shows what is
 * inside, masks heads, prunes them in place, brings them back, and saves what is left.
 *
 * <p>Safe for use from many threads: runs go on side by side, pruning and closing wait until they
 * have ended. The checkpoint stays open until the model is closed, for {@link #restoreHeads} and
 * {@link #save}.
 */
public final class Model implements AutoCloseable {
  /** Memory of finished runs that is kept for the next ones. */
  private static final int IDLE_ACTIVATIONS = 8;

  private final Checkpoint checkpoint;
  private final Device device;
  private final boolean ownsDevice;

  /** A share of the device that no one else can close. */
  private final Device share;

  private final DType dtype;
  private final bertology_model handle;
  private final Resource resource;

  /** Parameters that were set by hand and are not the checkpoint's, by Hugging Face's name. */
  private final Map<String, ReplacedTensor> replaced = new LinkedHashMap<>();

  private final Deque<NativeActivations> idle = new ArrayDeque<>();
  private boolean idleEnded;
  private volatile ModelConfig config;
  private volatile HeadMask headMask;

  /** A parameter set by hand: float32 values, row by row. */
  record ReplacedTensor(List<Long> shape, float[] values) {}

  private Model(Checkpoint checkpoint, ModelOptions options) {
    this.checkpoint = checkpoint;
    this.config = checkpoint.config();
    this.dtype = options.dtype();
    this.share = options.givenDevice().map(Device::share).orElseGet(options::openDevice);
    this.device = options.givenDevice().orElseGet(share::share);
    this.ownsDevice = options.givenDevice().isEmpty();
    this.headMask = HeadMask.ones(config);
    bertology_model created;
    try {
      created = create();
    } catch (RuntimeException | Error e) {
      closeDevice();
      throw e;
    }
    this.handle = created;
    this.resource = new Resource(this, "model", () -> bertology.bertology_model_free(created));
  }

  /** Loads a checkpoint of any format that {@link Checkpoint#open} knows, onto the best device. */
  public static Model load(Path path) {
    return load(path, ModelOptions.defaults());
  }

  /** Loads a checkpoint of any format that {@link Checkpoint#open} knows. */
  public static Model load(Path path, ModelOptions options) {
    return load(Checkpoint.open(path), options);
  }

  /** Loads an open checkpoint. The model closes it, also when loading fails. */
  public static Model load(Checkpoint checkpoint, ModelOptions options) {
    Model model = null;
    try {
      model = new Model(checkpoint, options);
      model.loadParameters();
      return model;
    } catch (RuntimeException | Error e) {
      if (model != null) {
        model.close();
      } else {
        checkpoint.close();
      }
      throw e;
    }
  }

  // ------------------------------------------------------------------------------------ loading

  private bertology_model create() {
    bertology_model created = new bertology_model((Pointer) null);
    try {
      Native.check(
          share.use(
              at ->
                  NativeConfig.use(
                      config,
                      dtype,
                      shape -> bertology.bertology_model_create(at, shape, created))));
    } catch (BertologyException e) {
      throw new BertologyException(e.kind(), checkpoint.source() + ": " + e.getMessage(), e);
    }
    return created;
  }

  private void loadParameters() {
    prune(config.prunedHeads());
    Map<String, StoredTensor> stored = checkpoint.tensors();
    Map<ParameterMap.Part, String> missing = new HashMap<>();
    for (ParameterMap.Entry entry : ParameterMap.of(config)) {
      if (!stored.containsKey(entry.huggingFace())) {
        missing.putIfAbsent(entry.part(), entry.huggingFace());
      }
    }
    if (missing.containsKey(ParameterMap.Part.ENCODER)) {
      throw BertologyException.invalid(
          "%s has no tensor %s, which its configuration (%s) needs",
          checkpoint.source(), missing.get(ParameterMap.Part.ENCODER), config);
    }
    // A task head that the checkpoint lacks, or has in part, is missed when it is needed.
    List<ParameterMap.Entry> present = new ArrayList<>(ParameterMap.of(config));
    present.removeIf(entry -> missing.containsKey(entry.part()));
    new ReadAhead(checkpoint, present)
        .forEach(
            (entry, tensor) ->
                Native.check(
                    bertology.bertology_model_set_parameter(handle, entry.core(), tensor)));
  }

  // ------------------------------------------------------------------------------------ what it is

  /** The shape of the model as it is now: with the heads that are pruned. */
  public ModelConfig config() {
    return config;
  }

  /** The device that it is on. */
  public Device device() {
    return device;
  }

  /** What its matrix products take as inputs. */
  public DType dtype() {
    return dtype;
  }

  /** Number of parameters that it has now. */
  public long parameterCount() {
    return size()[0];
  }

  /**
   * Bytes that its weights take on the device now; those for backward passes are added by the first
   * of these.
   */
  public long memoryBytes() {
    return size()[1];
  }

  private long[] size() {
    return resource.use(
        () -> {
          long[] parameters = new long[1];
          long[] bytes = new long[1];
          Native.check(bertology.bertology_model_size(handle, parameters, bytes));
          return new long[] {parameters[0], bytes[0]};
        });
  }

  /** Whether it has what {@link Capture#LOGITS} needs. */
  public boolean hasClassifier() {
    boolean pooler = config.pooling() != ModelConfig.Pooling.POOLER || has("pooler.dense.weight");
    return pooler && has(ParameterMap.nameOf(config, "classifier.weight"));
  }

  /** Whether it has what {@link Capture#TOKEN_LOGITS} and {@link Batch.Loss#MASKED_LM} need. */
  public boolean hasMaskedLm() {
    return !config.architecture().isCausal() && has("cls.predictions.transform.dense.weight");
  }

  /** Whether it has what {@link Capture#TOKEN_LOGITS} and {@link Batch.Loss#CAUSAL_LM} need. */
  public boolean hasCausalLm() {
    return config.architecture().isCausal() && (config.tiedEmbeddings() || has("lm_head.weight"));
  }

  private boolean has(String name) {
    return resource.use(() -> replaced.containsKey(name) || checkpoint.tensors().containsKey(name));
  }

  // ------------------------------------------------------------------------------------ runs

  /** Runs a batch with the model's head mask and captures these. */
  public Activations run(Batch batch, Capture... captures) {
    return run(batch, RunOptions.capturing(captures));
  }

  /** Runs a batch. */
  public Activations run(Batch batch, RunOptions options) {
    return resource.use(
        () -> {
          NativeActivations memory = takeIdle();
          try {
            ask(memory, batch, options);
            Native.check(bertology.bertology_model_run(handle, memory.handle()));
            memory.mapMemory();
          } catch (RuntimeException | Error e) {
            giveBack(memory);
            throw e;
          }
          return new Activations(this, batch, memory, options.headMasks().size());
        });
  }

  private void ask(NativeActivations memory, Batch batch, RunOptions options) {
    var target = memory.handle();
    Native.check(
        bertology.bertology_activations_set_batch(
            target,
            batch.examples(),
            batch.offsetsArray(),
            batch.inputIdsArray(),
            batch.tokenTypeIdsArray()));
    switch (batch.loss()) {
      case CLASSIFICATION -> setLabels(memory, bertology.BERTOLOGY_CLASSIFICATION, batch);
      case MASKED_LM -> setLabels(memory, bertology.BERTOLOGY_MASKED_LM, batch);
      case CAUSAL_LM -> setLabels(memory, bertology.BERTOLOGY_CAUSAL_LM, batch);
      case REGRESSION -> {
        float[] targets = batch.targetsArray();
        Native.check(bertology.bertology_activations_set_targets(target, targets, targets.length));
      }
      case NONE -> {}
    }
    options.headMasks().forEach(this::checkShape);
    HeadMask mask = options.headMask().orElse(headMask);
    checkShape(mask);
    if (!options.headMasks().isEmpty()) {
      float[] values = HeadMask.packed(options.headMasks());
      Native.check(
          bertology.bertology_activations_set_head_masks(
              target, values, options.headMasks().size(), values.length));
    } else if (!mask.isOnes()) {
      float[] values = mask.valuesArray();
      Native.check(
          bertology.bertology_activations_set_head_mask(
              target, values, values.length, options.hasMaskedGradients() ? 1 : 0));
    }
    options
        .accumulator()
        .ifPresent(
            sums ->
                Native.check(
                    sums.use(
                        handle ->
                            bertology.bertology_activations_set_accumulator(target, handle))));
    for (Capture capture : options.captures()) {
      int[] layers = capture.layersArray();
      Native.check(
          bertology.bertology_activations_capture(target, capture.code(), layers, layers.length));
    }
  }

  void checkShape(HeadMask mask) {
    BertologyException.check(
        mask.layers() == config.numHiddenLayers() && mask.heads() == config.numAttentionHeads(),
        "a head mask of %d layers of %d heads for a model of %d layers of %d heads",
        mask.layers(),
        mask.heads(),
        config.numHiddenLayers(),
        config.numAttentionHeads());
  }

  private void setLabels(NativeActivations memory, int loss, Batch batch) {
    int[] labels = batch.labelsArray();
    Native.check(
        bertology.bertology_activations_set_labels(memory.handle(), loss, labels, labels.length));
  }

  /** Calls it with its device, which stays open meanwhile. */
  <T> T useDevice(Function<bertology_device, T> call) {
    return resource.use(() -> share.use(call));
  }

  private NativeActivations takeIdle() {
    synchronized (idle) {
      NativeActivations memory = idle.pollFirst();
      if (memory != null) {
        return memory;
      }
    }
    return share.use(NativeActivations::new);
  }

  /** Takes the memory of a finished run back for the next one. */
  void giveBack(NativeActivations memory) {
    synchronized (idle) {
      if (!idleEnded && idle.size() < IDLE_ACTIVATIONS) {
        idle.addFirst(memory); // what was used last is warm
        return;
      }
    }
    memory.discard();
  }

  // ------------------------------------------------------------------------------------ heads

  /** The heads that a layer still has, ascending, in their original numbers. */
  public List<Integer> heads(int layer) {
    return resource.use(
        () -> {
          int[] heads = new int[config.numAttentionHeads()];
          int[] count = new int[1];
          Native.check(bertology.bertology_model_heads(handle, layer, heads, count));
          List<Integer> present = new ArrayList<>();
          for (int i = 0; i < count[0]; i++) {
            present.add(heads[i]);
          }
          return List.copyOf(present);
        });
  }

  /** The heads that are pruned. */
  public Heads prunedHeads() {
    return config.prunedHeads();
  }

  /** The mask that runs use unless they bring their own. */
  public HeadMask headMask() {
    return headMask;
  }

  /** Makes this the mask of runs to come. Pruned heads must have the value 1 in it. */
  public void maskHeads(HeadMask mask) {
    resource.useAlone(
        () -> {
          checkShape(mask);
          for (Heads.Head head : prunedHeads().list()) {
            BertologyException.check(
                mask.get(head.layer(), head.head()) == 1f,
                "head %d of layer %d is pruned: it cannot be masked",
                head.head(),
                head.layer());
          }
          headMask = mask;
          return null;
        });
  }

  /** Removes the heads of a plan, in place. */
  public void pruneHeads(PruningPlan plan) {
    pruneHeads(plan.heads());
  }

  /**
   * Removes heads in place: their rows of query, key and value and their columns of the output
   * matrix. Memory and run time fall. Heads keep their original numbers; all heads of a layer may
   * go. If one of them does not exist or is already pruned, nothing is changed. Masks forget the
   * heads that went.
   */
  public void pruneHeads(Heads heads) {
    resource.useAlone(
        () -> {
          prune(heads);
          config = config.withPrunedHeads(prunedHeads().plus(heads));
          headMask = headMask.unmasking(heads);
          return null;
        });
  }

  private void prune(Heads heads) {
    int[][] pairs = pairs(heads);
    Native.check(bertology.bertology_model_prune_heads(handle, heads.size(), pairs[0], pairs[1]));
  }

  private static int[][] pairs(Heads heads) {
    int[][] pairs = new int[2][heads.size()];
    int i = 0;
    for (Heads.Head head : heads.list()) {
      pairs[0][i] = head.layer();
      pairs[1][i++] = head.head();
    }
    return pairs;
  }

  /** Brings all heads back that were pruned since the model was loaded. */
  public void restoreHeads() {
    resource.useAlone(
        () -> {
          restore(prunedHeads().minus(checkpoint.config().prunedHeads()));
          return null;
        });
  }

  /**
   * Brings these heads back, bit for bit, from the checkpoint. If one of them is not pruned, or was
   * not in the checkpoint, nothing is changed.
   */
  public void restoreHeads(Heads heads) {
    resource.useAlone(
        () -> {
          restore(heads);
          return null;
        });
  }

  private void restore(Heads heads) {
    heads.checkWithin(config.numHiddenLayers(), config.numAttentionHeads());
    int[] layers = heads.layers().stream().mapToInt(Integer::intValue).toArray();
    int perLayer = ParameterMap.dividedByHeads(config, 0).size();
    TensorStaging staging = new TensorStaging(Math.max(1, layers.length * perLayer));
    int index = 0;
    for (int layer : layers) {
      for (ParameterMap.Entry entry : ParameterMap.dividedByHeads(config, layer)) {
        staging.read(index++, checkpoint, checkpoint.tensors().get(entry.huggingFace()), entry);
      }
    }
    int[][] pairs = pairs(heads);
    Native.check(
        bertology.bertology_model_restore_heads(
            handle, heads.size(), pairs[0], pairs[1], layers.length, layers, staging.tensors()));
    config = config.withPrunedHeads(prunedHeads().minus(heads));
  }

  // ------------------------------------------------------------------------------------ classifier

  /**
   * Gives the model a classifier, instead of the one it may have.
   *
   * @param labels the names of its outputs
   * @param pooling what it sees
   * @param weight [labels, D]
   * @param bias [labels]
   */
  public void setClassifier(
      List<String> labels, ModelConfig.Pooling pooling, float[][] weight, float[] bias) {
    int width = config.hiddenSize();
    BertologyException.check(
        !labels.isEmpty() && weight.length == labels.size() && bias.length == labels.size(),
        "classifier: %d rows of weights and %d biases for %d labels",
        weight.length,
        bias.length,
        labels.size());
    float[] values = new float[labels.size() * width];
    for (int i = 0; i < weight.length; i++) {
      BertologyException.check(
          weight[i].length == width,
          "classifier: row %d has %d weights, expected %d",
          i,
          weight[i].length,
          width);
      System.arraycopy(weight[i], 0, values, i * width, width);
    }
    checkFinite("weight", values);
    checkFinite("bias", bias);
    resource.useAlone(
        () -> {
          ModelConfig changed = config.withClassifier(labels, pooling);
          TensorStaging weights = new TensorStaging(1);
          weights.set(0, values, labels.size(), width);
          TensorStaging biases = new TensorStaging(1);
          biases.set(0, bias, labels.size());
          Native.check(
              bertology.bertology_model_set_classifier_shape(
                  handle, labels.size(), NativeConfig.code(pooling)));
          Native.check(
              bertology.bertology_model_set_parameter(
                  handle, "classifier.weight", weights.tensors()));
          Native.check(
              bertology.bertology_model_set_parameter(handle, "classifier.bias", biases.tensors()));
          replaced.put(
              ParameterMap.nameOf(changed, "classifier.weight"),
              new ReplacedTensor(List.of((long) labels.size(), (long) width), values));
          replaced.put(
              ParameterMap.nameOf(changed, "classifier.bias"),
              new ReplacedTensor(List.of((long) labels.size()), bias.clone()));
          config = changed;
          return null;
        });
  }

  /** Checked before anything changes: the core would find it when the old classifier is gone. */
  private static void checkFinite(String what, float[] values) {
    for (int i = 0; i < values.length; i++) {
      BertologyException.check(
          Float.isFinite(values[i]),
          "classifier: %s %d is %s, expected a finite number",
          what,
          i,
          values[i]);
    }
  }

  /** Adds what its numbers depend on: configuration, pruned heads, type of products, weights. */
  void addTo(Fingerprint fingerprint) {
    resource.use(
        () -> {
          ModelConfig whole = config.withPrunedHeads(Heads.none());
          fingerprint.add(whole.toJson().toString()).add(config.prunedHeads().toString());
          fingerprint.add(dtype.toString());
          for (StoredTensor tensor : new TreeMap<>(checkpoint.tensors()).values()) {
            tensor.checkFitsBuffer();
            ByteBuffer bytes = ByteBuffer.allocate((int) tensor.bytes());
            checkpoint.read(tensor, bytes);
            fingerprint.add(tensor.toString()).add(bytes.flip());
          }
          replaced.forEach((name, tensor) -> fingerprint.add(name).add(tensor.values()));
          return null;
        });
  }

  // ------------------------------------------------------------------------------------ saving

  /** Saves the model as a Hugging Face folder; see {@link #save(Path, SaveFormat)}. */
  public void save(Path folder) {
    save(folder, SaveFormat.PRUNED);
  }

  /** How pruned heads are saved. */
  public enum SaveFormat {
    /** Left out, and named by {@code pruned_heads} in config.json, as transformers 4.x reads it. */
    PRUNED,
    /** As zeros: larger, but anything loads it. */
    FULL_SHAPE
  }

  /**
   * Saves the model as a Hugging Face folder: config.json and model.safetensors, and the
   * tokenizer's files if the checkpoint's folder has them. Weights are those of the checkpoint, in
   * the type in which it stores them. Files are written under temporary names and then renamed:
   * what was there before stays until all is written.
   */
  public void save(Path folder, SaveFormat format) {
    resource.use(
        () -> {
          ModelWriter.write(folder, format, config, checkpoint, new TreeMap<>(replaced));
          return null;
        });
  }

  /**
   * Waits for runs in progress and frees the model. Activations stay readable. A second time does
   * nothing.
   */
  @Override
  public void close() {
    resource.close();
    List<NativeActivations> ended;
    synchronized (idle) {
      idleEnded = true;
      ended = List.copyOf(idle);
      idle.clear();
    }
    ended.forEach(NativeActivations::discard);
    checkpoint.close();
    closeDevice();
  }

  private void closeDevice() {
    share.close();
    if (ownsDevice) {
      device.close();
    }
  }

  @Override
  public String toString() {
    return config + " on " + device;
  }
}
