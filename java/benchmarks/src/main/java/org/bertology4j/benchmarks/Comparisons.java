package org.bertology4j.benchmarks;

import static org.bertology4j.DType.BFLOAT16;
import static org.bertology4j.DType.FLOAT32;
import static org.bertology4j.benchmarks.Subject.BERT_BASE;
import static org.bertology4j.benchmarks.Subject.BGE_SMALL;
import static org.bertology4j.benchmarks.peers.Peers.DJL;
import static org.bertology4j.benchmarks.peers.Peers.LIBTORCH;
import static org.bertology4j.benchmarks.peers.Peers.ONNX_RUNTIME;
import static org.bertology4j.benchmarks.peers.Peers.TRANSFORMERS;

import java.util.ArrayList;
import java.util.List;
import java.util.function.Function;
import org.bertology4j.DType;
import org.bertology4j.benchmarks.Comparison.Opponent;
import org.bertology4j.benchmarks.Comparison.Other;
import org.bertology4j.benchmarks.Comparison.Own;
import org.bertology4j.benchmarks.Comparison.Timed;
import org.bertology4j.benchmarks.peers.PeerTask.Kind;

/** What is compared with what. */
final class Comparisons {
  private static final int USUAL_TEXTS = 64;
  private static final int FEW_TEXTS = 16;
  private static final int QUICK_PART = 8;

  /** The batch size at which transformers is fastest on few cores. */
  private static final int TUNED_BATCH = 16;

  /** Both compute in float32, in different orders. */
  private static final double FLOAT32_TOLERANCE = 1e-3;

  /** Both round inputs of products to bfloat16, transformers also all that is between them. */
  private static final double BFLOAT16_TOLERANCE = 0.1;

  private final int part;

  /**
   * The comparisons.
   *
   * @param quick on fewer texts
   */
  Comparisons(boolean quick) {
    part = quick ? QUICK_PART : 1;
  }

  private int few(int texts) {
    return Math.max(1, texts / part);
  }

  List<Comparison> all() {
    List<Comparison> all = new ArrayList<>();
    for (DType dtype : List.of(FLOAT32, BFLOAT16)) {
      all.add(importance(dtype));
      all.add(importanceAndEntropies(dtype));
      all.add(captures(dtype));
    }
    all.add(forward("forward-bert-base", BERT_BASE, Texts.of(few(16), "128")));
    all.add(forward("forward-bge-16x50", BGE_SMALL, Texts.of(few(16), "50")));
    all.add(forward("forward-bge-16x128", BGE_SMALL, Texts.of(few(16), "128")));
    all.add(forward("forward-bge-4x512", BGE_SMALL, Texts.of(few(4), "512")));
    all.add(forward("sentence-bge-1x16", BGE_SMALL, Texts.of(1, "16")));
    all.add(forward("sentence-bge-1x128", BGE_SMALL, Texts.of(1, "128")));
    all.add(pruned());
    all.add(ablation());
    all.add(load());
    all.add(attentionFloats());
    all.add(attentionArrays());
    return List.copyOf(all);
  }

  private static double tolerance(DType dtype) {
    return dtype == FLOAT32 ? FLOAT32_TOLERANCE : BFLOAT16_TOLERANCE;
  }

  private Comparison importance(DType dtype) {
    Texts texts = Texts.likeMrpc(few(USUAL_TEXTS));
    List<Opponent> opponents = new ArrayList<>();
    opponents.add(
        new Other(
            "transformers-tuned",
            TRANSFORMERS,
            Kind.IMPORTANCE,
            dtype,
            texts.count(),
            TUNED_BATCH,
            tolerance(dtype)));
    if (dtype == FLOAT32) {
      opponents.add(
          new Other(
              LIBTORCH,
              LIBTORCH,
              Kind.IMPORTANCE,
              dtype,
              texts.count(),
              TUNED_BATCH,
              tolerance(dtype)));
    }
    return new Comparison(
        "importance-" + dtype,
        "head importance, " + dtype,
        BERT_BASE,
        dtype,
        texts,
        OwnWork.importance(BERT_BASE, dtype, texts, false),
        opponents,
        false);
  }

  /** The script computes in float32 only. */
  private Comparison importanceAndEntropies(DType dtype) {
    Texts texts = Texts.likeMrpc(few(USUAL_TEXTS));
    return new Comparison(
        "importance-entropies-" + dtype,
        "head importance and entropies, " + dtype + "; run_bertology.py's loop in float32",
        BERT_BASE,
        dtype,
        texts,
        OwnWork.importance(BERT_BASE, dtype, texts, true),
        List.of(
            new Other(
                "transformers-script",
                TRANSFORMERS,
                Kind.IMPORTANCE_OF_THE_SCRIPT,
                FLOAT32,
                few(FEW_TEXTS),
                1,
                tolerance(dtype))),
        false);
  }

  private Comparison captures(DType dtype) {
    Texts texts = Texts.likeMrpc(few(USUAL_TEXTS));
    return new Comparison(
        "captures-" + dtype,
        "forward with all hidden states and attention maps, " + dtype,
        BERT_BASE,
        dtype,
        texts,
        OwnWork.captures(BERT_BASE, dtype, texts),
        List.of(
            new Other(
                TRANSFORMERS,
                TRANSFORMERS,
                Kind.CAPTURES,
                dtype,
                texts.count(),
                TUNED_BATCH,
                tolerance(dtype))),
        false);
  }

  /** Texts of one length: no one has to pad. */
  private static Comparison forward(String name, Subject subject, Texts texts) {
    List<Opponent> opponents = new ArrayList<>();
    for (String peer : List.of(ONNX_RUNTIME, LIBTORCH, DJL, TRANSFORMERS)) {
      opponents.add(
          new Other(
              peer, peer, Kind.FORWARD, FLOAT32, texts.count(), texts.count(), FLOAT32_TOLERANCE));
    }
    return new Comparison(
        name,
        "forward to the last hidden states, " + subject + ", " + texts + ", float32",
        subject,
        FLOAT32,
        texts,
        OwnWork.forward(subject, FLOAT32, texts),
        opponents,
        false);
  }

  private Comparison pruned() {
    Texts texts = Texts.likeMrpc(few(USUAL_TEXTS));
    return new Comparison(
        "pruned-50",
        "forward without a random half of the heads, speed by operations",
        BERT_BASE,
        FLOAT32,
        texts,
        OwnWork.pruned(BERT_BASE, FLOAT32, texts),
        List.of(
            new Own(
                "dense",
                "the same model with all heads",
                OwnWork.forward(BERT_BASE, FLOAT32, texts),
                true)),
        false);
  }

  private Comparison ablation() {
    Texts texts = Texts.likeMrpc(few(FEW_TEXTS));
    return new Comparison(
        "ablation",
        "the loss without each single head, in one sweep",
        BERT_BASE,
        FLOAT32,
        texts,
        OwnWork.ablation(BERT_BASE, FLOAT32, texts),
        List.of(
            new Own(
                "full-evaluations",
                "as many whole runs",
                OwnWork.fullEvaluations(BERT_BASE, FLOAT32, texts),
                false)),
        false);
  }

  private static Comparison load() {
    Texts texts = Texts.of(1, "16");
    return new Comparison(
        "load",
        "from model.safetensors (in the system's page cache) to the first result, float32",
        BERT_BASE,
        FLOAT32,
        texts,
        OwnWork.load(BERT_BASE, FLOAT32, texts),
        List.of(new Other(TRANSFORMERS, TRANSFORMERS, Kind.LOAD, FLOAT32, 1, 1, FLOAT32_TOLERANCE)),
        true);
  }

  private static Comparison attentionFloats() {
    Texts texts = Texts.of(FEW_TEXTS, "128");
    return attentionAsFloats(
        "attention-floats",
        "attention maps into one float[], ",
        texts,
        OwnWork.attentionArrays(BERT_BASE, FLOAT32, texts));
  }

  private static Comparison attentionArrays() {
    Texts texts = Texts.of(FEW_TEXTS, "128");
    return attentionAsFloats(
        "attention-arrays",
        "attention maps as new float[], which the JVM takes and zeroes, ",
        texts,
        OwnWork.newAttentionArrays(BERT_BASE, FLOAT32, texts));
  }

  private static Comparison attentionAsFloats(
      String name, String what, Texts texts, Function<Setting, Timed> work) {
    return new Comparison(
        name,
        what + texts,
        BERT_BASE,
        FLOAT32,
        texts,
        work,
        List.of(
            new Own(
                "memcpy",
                "memcpy of the same bytes, to one place",
                OwnWork.memcpy(BERT_BASE, FLOAT32, texts),
                false)),
        false);
  }
}
