package org.bertology4j;

import java.util.OptionalDouble;

/**
 * How long one operation takes alone, and what it is held against. Times are medians, in seconds.
 *
 * @param operation what was measured
 * @param seconds of the operation; of a matrix product on a CUDA device, of this library's own
 *     kernels
 * @param librarySeconds of a matrix product on a CUDA device where cuBLAS was found: as cuBLAS
 *     makes it, with what is left to do before and after it
 * @param copySeconds of a copy inside the device's memory of as many bytes, half of them read and
 *     half written
 * @param leastBytes what it moves at least: every operand read once, every result written once
 * @param leastFlops the arithmetic of its products, attention's too; 0 if it has none
 */
public record OperationTiming(
    Operation operation,
    double seconds,
    OptionalDouble librarySeconds,
    double copySeconds,
    double leastBytes,
    double leastFlops) {}
