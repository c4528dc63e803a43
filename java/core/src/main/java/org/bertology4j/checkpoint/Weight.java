package org.bertology4j.checkpoint;

import java.util.List;
import java.util.Optional;
import java.util.function.Supplier;

/**
 * A tensor as a format's reader found it, before the name rules.
 *
 * @param name the name that Hugging Face would give it, perhaps with a prefix or in old style
 * @param storedAs the name that the file has for it
 * @param typeName what the format calls its element type
 * @param type its element type, if it is one that weights may have
 * @param shape as Hugging Face has it
 * @param transposed whether a matrix is stored as [inputs, outputs]
 * @param segment where its bytes are; asked for, and so checked, only if the tensor is kept
 */
record Weight(
    String name,
    String storedAs,
    String typeName,
    Optional<StoredType> type,
    List<Long> shape,
    boolean transposed,
    Supplier<Segment> segment) {}
