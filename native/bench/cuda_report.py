#!/usr/bin/env python3
"""Writes native/src/cuda/REPORT.md: what can be said of the CUDA kernels without a stopwatch.

    cuda_report.py BUILD [--output FILE] [--nvcc NVCC]

BUILD is a CMake build folder with -DBERTOLOGY_BENCH=ON. Three sources go into the report:

- ptxas, by architecture: registers, static shared memory, spills; from them the occupancy.
- The counters of a stand-in for the CUDA runtime that executes PTX and counts what it does: sectors, bank conflicts,
  arithmetic, by operation in BERT-base's shape. BUILD was configured with -DBERTOLOGY_CUDA_RUNTIME=<its folder>.
- Data sheets: what an operation's bytes and products take at the speeds of a board.

Exits with 1 if a kernel spills or a bound that the report states is broken.
"""
import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[1] / "src" / "cuda"
NATIVE = SOURCES.parents[1]
ARCHITECTURES = [80, 86, 89, 90, 100, 120]
# Of a multiprocessor, by compute capability: threads, blocks, shared memory in KiB (CUDA C++ Programming Guide,
# "Technical Specifications per Compute Capability"). All have 64 Ki registers.
LIMITS = {80: (2048, 32, 164), 86: (1536, 16, 100), 89: (1536, 24, 100), 90: (2048, 32, 228), 100: (2048, 32, 228),
          120: (1536, 24, 100)}
# Dense, without sparsity, from NVIDIA's data sheets of the SXM boards: bytes/s, float32 FLOP/s, tf32 and bf16/fp16
# tensor-core FLOP/s; and bytes/s of the second level cache: 5120 a clock in NVIDIA's A100 white paper, of H100 taken to
# be as many.
BOARDS = {"A100 80GB": (2.039e12, 19.5e12, 156e12, 312e12, 5120 * 1.41e9),
          "H100": (3.35e12, 66.9e12, 494.7e12, 989.4e12, 5120 * 1.755e9)}
# What is allowed, by kernel or operation.
MOST_SECTORS = 4.5  # a request of 4 bytes a thread; 4 is ideal
MOST_CONFLICTS = 0.05  # of all wavefronts of shared memory
MOST_TRAFFIC = 1.15  # of attention, times what the memory on the chip allows
EXAMPLES, LENGTHS, DTYPES = 2, [50, 84, 128, 512], ["float32", "bfloat16", "float16"]
# Texts of 12 heads that give each of a device's multiprocessors a block (A100 has 108, H100 132): of fewer, blocks divide
# the queries of long attention.
FILLING_EXAMPLES = {80: 9, 86: 9, 90: 11}
REGISTERS = 256 << 10  # bytes of a multiprocessor
# Rows that tensor cores multiply at a time at least: columns of m16n8k8 in float32, rows and depth of m16n8k16 else.
STEP = {4: 8, 2: 16}
# Beyond what the memory on the chip allows for, by operation, dtype and architecture, with the reason.
ON_PURPOSE = {
    (operation, "float32", 86): "three passes need tiles of 176 keys, 11 warps and steps of 8 queries, each with three "
    "barriers, and of dQ a part for 4 of the warps: slower products, it is expected, for traffic that is far from the bound"
    for operation in ("attention_backward", "attention_backward_maps")}
LONG = 1024


def launched_shared(name):
    """Bytes of shared memory that a launch adds, where they are the same for every shape (kProductShared)."""
    product = re.match(r"product_kernel<(\w+), \w+, Tile<(\d+), (\d+), (\d+), \d+> ?>", name)
    if not product:
        return 0
    size, depth = (4, 16) if product.group(1) == "float" else (2, 32)
    rows, columns, stages = map(int, product.groups()[1:])
    return stages * depth * (rows * 4 + columns * size)


def occupancy(architecture, registers, shared, threads):
    """Part of a multiprocessor's threads that can be resident, as CUDA's occupancy calculator computes it."""
    most_threads, most_blocks, shared_kib = LIMITS[architecture]
    warps = math.ceil(threads / 32)
    warp_registers = math.ceil(registers * 32 / 256) * 256
    by_registers = 65536 // 4 // warp_registers * 4 // warps  # four schedulers with a quarter of the registers each
    by_shared = (shared_kib << 10) // (math.ceil((shared + 1024) / 128) * 128)
    return min(most_blocks, most_threads // 32 // warps, by_registers, by_shared) * warps * 32 / most_threads


def short(name):
    """The kernel's own name with its template arguments, without return type, namespaces and parameters."""
    name = re.sub(r"\(anonymous namespace\)::|bertology::cuda::|bertology::", "", name)
    name = re.sub(r"\((int|bool|unsigned int|long)\)", "", name)
    depth = 0
    for at, letter in enumerate(name):
        depth += (letter == "<") - (letter == ">")
        if letter == "(" and depth == 0:
            name = name[:at]
            break
    return name.removeprefix("void ").replace("__nv_bfloat16", "bf16").replace("__half", "fp16")


def demangled(names):
    out = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True)
    return out.stdout.splitlines()


def compiled(nvcc, folder):
    """Of each kernel {architecture: (registers, static shared bytes, spilled bytes)}, and its threads a block."""
    kernels, threads = {}, {}
    flags = ["-std=c++17", "-O3", "--expt-relaxed-constexpr", f"-I{NATIVE / 'include'}", f"-I{NATIVE / 'src'}"]
    for source in sorted(SOURCES.glob("*.cu")):
        ptx = Path(folder) / "kernels.ptx"
        subprocess.run([nvcc, *flags, "-arch=compute_80", "-ptx", source, "-o", ptx], check=True)
        for entry, body in re.findall(r"\.entry (\w+)\((.*?)\n\{", ptx.read_text(), re.S):
            most = re.search(r"\.maxntid (\d+)", body)
            threads[entry] = int(most.group(1)) if most else None
        for architecture in ARCHITECTURES:
            virtual = 100 if architecture >= 100 else 80  # as cmake/Cuda.cmake has it
            log = subprocess.run([nvcc, *flags, f"-gencode=arch=compute_{virtual},code=sm_{architecture}", "-cubin",
                                  "-Xptxas", "-v", source, "-o", Path(folder) / "kernels.cubin"], check=True, capture_output=True, text=True).stderr
            for part in log.split("Compiling entry function '")[1:]:
                entry = part.split("'")[0]
                spills = sum(int(n) for n in re.findall(r"(\d+) bytes spill", part))
                registers = int(re.search(r"Used (\d+) registers", part).group(1))
                shared = re.search(r"(\d+) bytes smem", part)
                found = (registers, int(shared.group(1)) if shared else 0, spills)
                kernels.setdefault((source.name, entry), {})[architecture] = found
    entries = list(kernels)
    names = dict(zip(entries, demangled([entry for _, entry in entries])))
    return [(source, short(names[source, entry]), threads.get(entry), kernels[source, entry])
            for source, entry in entries]


def is_attention(operation):
    return operation.startswith("attention_") and "output" not in operation


def texts(operation, length, architecture):
    return FILLING_EXAMPLES[architecture] if operation.startswith("attention_forward") and length > 128 else EXAMPLES


def runtime_of(build):
    """The folder of the runtime that counts, as the build has it."""
    found = re.search(r"^BERTOLOGY_CUDA_RUNTIME:PATH=(.+)$", (build / "CMakeCache.txt").read_text(), re.M)
    if not found:
        sys.exit(f"{build}: configure it with -DBERTOLOGY_CUDA_RUNTIME=<folder of a libcudart.so.13 that counts>")
    return found.group(1)


def counted(build, operation, dtype, length, architecture=80):
    """What an operation should move and compute, and {kernel: counters} of what it did."""
    program = build / "native" / "bench" / "bertology_operation_counts"
    library = build / "native" / "src" / "cuda" / "for_tests" / "libbertology_cuda.so"
    with tempfile.TemporaryDirectory() as folder:
        stats = Path(folder) / "stats"
        environment = dict(os.environ, CUDA_EMU_STATS=str(stats), CUDA_EMU_SM=str(architecture), BERTOLOGY_CUBLAS="none",
                           BERTOLOGY_CUDA_LIBRARY=str(library), LD_LIBRARY_PATH=runtime_of(build))
        command = [program, "cuda:0", operation, dtype, str(texts(operation, length, architecture)), str(length)]
        run = subprocess.run(command, env=environment, capture_output=True, text=True)
        if run.returncode != 0:
            sys.exit(f"{operation} {dtype} {length}: {run.stderr}")
        least = json.loads(run.stdout)
        text = stats.read_text()
    kernels = {}
    for name, body in re.findall(r"^(\S.*)\n((?:  .*\n?)+)", text, re.M):
        if "attention_forward" not in operation and short(name).startswith("forward"):
            continue  # what a backward pass needs was made before it
        if not operation.startswith("query") and re.search(r"round|convert|pack", name):
            continue  # the weights were packed before
        numbers = {}
        numbers["launches"] = int(re.search(r"launches (\d+)", body).group(1))
        numbers["flops"], numbers["mma"] = map(int, re.search(r"flops (\d+), tensor-core flops (\d+)", body).groups())
        touched = re.search(r"loads (\d+) \(([\d.]+) sectors/request, (\d+) bytes used\), stores (\d+) \(([\d.]+) "
                            r"sectors/request, (\d+)", body)
        if touched:
            loads, load_sectors, loaded, stores, store_sectors, stored = map(float, touched.groups())
            numbers["moved"] = 32 * (loads * load_sectors + stores * store_sectors)
            numbers["used"] = loaded + stored
            # Of requests of 4 bytes a thread 4 is ideal, of wider ones as much more as they are wider.
            numbers["sectors"] = 4 * numbers["moved"] / max(1, numbers["used"])
            shared = re.search(r"wavefronts (\d+) \(ideal (\d+)\)", body)
            wavefronts, ideal = map(int, shared.groups())
            numbers["conflicts"] = (wavefronts - ideal) / max(1, wavefronts)
        kernels[short(name)] = numbers
    return least, kernels


def bounds(least, moved, dtype, board):
    """Microseconds of the least bytes from memory, of all bytes from the second level cache, of the products."""
    bandwidth, scalar, tensor32, tensor16, cache = BOARDS[board]
    # float32 products are three tf32 products each, or one of float32 units, whichever is faster.
    speed = max(scalar, tensor32 / 3) if dtype == "float32" else tensor16
    return [1e6 * seconds for seconds in (least["bytes"] / bandwidth, moved / cache, least["flops"] / speed)]


def least_passes(operation, dtype, length, shared_kib):
    """How often attention of BERT-base's heads must read what passes by a block, and its traffic over the least."""
    width, size, shared = 64, 4 if dtype == "float32" else 2, (shared_kib - 1) << 10  # the driver takes 1 KiB
    row = width * size
    # Half of the registers can hold results: the others hold what is multiplied.
    held = REGISTERS // 2 // (width * 4)
    if "backward" not in operation:
        # Keys and values stay, or queries with their outputs in registers while keys and values pass by.
        # What passes by comes with maps once more, keys only: probabilities need the sums of their rows.
        stay = 2 * length * row <= shared
        passes = 1 if stay else math.ceil(length / min(shared // row, held))
        once, again = 4, 2 * (passes - 1) + (passes if "maps" in operation and not stay else 0)
    else:
        # Every warp multiplies with all queries and dcontext (dK, dV) if they stay, or with all keys and values: they
        # are in shared memory. With less than all of the keys, queries and dcontext come again for the others, and dQ
        # is written and read once more. Beside them a step of what passes by and its dS, which warps exchange.
        room = shared - 2 * STEP[size] * row
        resident = 2 * row + STEP[size] * size
        stay = length * resident <= room and length <= held
        # Of keys there are two results, dK and dV.
        passes = 1 if stay else math.ceil(length / min(room // resident, held // 2))
        once, again = 8, 4 * (passes - 1)
    maps = length / width if "maps" in operation else 0
    return passes, (once + again + maps) / (once + maps)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("build", type=Path)
    parser.add_argument("--output", type=Path, default=SOURCES / "REPORT.md")
    parser.add_argument("--nvcc", default="nvcc")
    options = parser.parse_args()
    problems, forced, chosen, lines = [], [], [], []

    def check_traffic(operation, dtype, length, architecture, ratio):
        possible = least_passes(operation, dtype, length, LIMITS[architecture][2])[1]
        if ratio > MOST_TRAFFIC:
            text = (f"{operation} {dtype} n={length} sm_{architecture}: moves {ratio:.2f} times the least; the memory on "
                    f"the chip allows {possible:.2f}")
            reason = ON_PURPOSE.get((operation, dtype, architecture))
            if ratio <= MOST_TRAFFIC * possible:
                forced.append(text)
            elif reason:
                chosen.append(f"{text}. {reason[0].upper()}{reason[1:]}")
            else:
                problems.append(text)

    with tempfile.TemporaryDirectory() as folder:
        kernels = compiled(options.nvcc, folder)
    lines += ["# The CUDA kernels, without a stopwatch", "",
              "Written by `native/bench/cuda_report.py`. No figure here was measured on a GPU.", "",
              "## Registers, shared memory, occupancy", "",
              "Registers / occupancy by architecture. Shared memory in bytes: static, and what a launch adds. Attention's "
              "depends on the lengths: its blocks on a multiprocessor are in [README.md](README.md). Spills: none are allowed.", "",
              "| file | kernel | threads | shared | " + " | ".join(f"sm_{a}" for a in ARCHITECTURES) + " |",
              "|---|---|---|---|" + "---|" * len(ARCHITECTURES)]
    for source, name, threads, found in kernels:
        cells = []
        for architecture in ARCHITECTURES:
            registers, shared, spills = found[architecture]
            if spills:
                problems.append(f"{name} spills {spills} bytes on sm_{architecture}")
            part = occupancy(architecture, registers, shared + launched_shared(name), threads or 256)
            cells.append(f"{registers} / {part:.0%}" + (f" SPILLS {spills}" if spills else ""))
        lines.append(f"| {source} | `{name}` | {threads or ''} | {found[80][1] + launched_shared(name)} | " + " | ".join(cells) + " |")

    operations = subprocess.run([options.build / "native" / "bench" / "bertology_operation_counts"],
                                capture_output=True, text=True).stdout.split()
    products = re.compile("attention|head_gradients|query|output|intermediate")
    lines += ["", "## What each operation moves and computes", "",
              f"BERT-base's shape, {EXAMPLES} texts of n tokens ({FILLING_EXAMPLES[80]} in forward attention beyond 128), counted "
              "while the kernels' PTX was executed. *Moved*: sectors of "
              "32 bytes that all loads and stores of global memory asked for, against the least: every operand read once, "
              "every result written once. *Sectors*: for each request of 4 bytes a thread, 4 is ideal. *Conflicts*: wavefronts of shared memory beyond the ideal.", "",
              "*Computed bound*, no measurement, in microseconds: the largest of the least bytes at the speed of the board's "
              "memory / all that was moved at that of its second level cache, where what is read again lies / the least "
              "products at that of its units.", "",
              "| operation | dtype | n | kernels | least MB | moved / least | sectors | conflicts | tensor-core GFLOP | "
              "least GFLOP | " + " | ".join(f"computed bound {b}, µs" for b in BOARDS) + " |",
              "|---|---|---|---|---|---|---|---|---|---|---|---|"]
    ratios = {}
    for operation in operations:
        with_products = bool(products.search(operation))
        for dtype in DTYPES if with_products else DTYPES[:1]:
            for length in LENGTHS if is_attention(operation) else [128]:
                least, counts = counted(options.build, operation, dtype, length)
                moved = sum(c.get("moved", 0) for c in counts.values())
                used = sum(c.get("used", 0) for c in counts.values())
                sectors = 4 * moved / max(1, used)
                conflicts = max((c.get("conflicts", 0) for c in counts.values()), default=0)
                where = f"{operation} {dtype} n={length}"
                ratios[operation, dtype, length, 80] = moved / least["bytes"]
                if sectors > MOST_SECTORS:
                    problems.append(f"{where}: {sectors:.2f} sectors a request")
                if conflicts > MOST_CONFLICTS:
                    problems.append(f"{where}: {conflicts:.1%} bank conflicts")
                if is_attention(operation):
                    check_traffic(operation, dtype, length, 80, moved / least["bytes"])
                cells = []
                for board in BOARDS:
                    times = bounds(least, moved, dtype, board)
                    cells.append(f"**{max(times):.2f}** = max({' / '.join(f'{t:.2f}' for t in times)})")
                mma = sum(c["mma"] for c in counts.values())
                lines.append(f"| {operation} | {dtype} | {length} | {', '.join(f'`{k}`' for k in counts)} | "
                             f"{least['bytes'] / 1e6:.2f} | {moved / least['bytes']:.2f} | {sectors:.2f} | {conflicts:.1%} | "
                             f"{mma / 1e9:.3f} | {least['flops'] / 1e9:.3f} | {' | '.join(cells)} |")

    lines += ["", "## What the memory on the chip allows for long texts", "",
              "Half of the attention's operands stay in shared memory while the others pass by once, if they fit: forward "
              "keeps keys and values (2 n d), or queries (n d) with their outputs in registers; backward keeps queries and "
              "dcontext (2 n d), because every warp multiplies with all of them, with dQ in registers. If less fits, what "
              "passes by comes once for each part, in backward with dQ once more written and read: (4 + 2 (passes - 1)) / 4 "
              "and (8 + 4 (passes - 1)) / 8 of the least; forward with maps, keys that pass by once more each time, because "
              "probabilities need the sums of their rows. In backward a step of what passes by needs room as well, eight rows "
              "at least in float32 and else sixteen (what tensor cores multiply), and so does its dS, which all warps need "
              "for dQ. Of a multiprocessor's 256 KiB of registers half can hold results.", "",
              "So float32 backward of 512 tokens cannot move less than 1.50: the results of 256 keys take half of the "
              "registers, and neither queries and dcontext nor keys and values of 512 tokens (256 KiB each) fit the shared "
              "memory of any of these devices. What comes again is read by the same block a moment later (a head's queries, "
              "dcontext and dQ are 384 KiB at 512 tokens), so it comes from the second level cache and not from memory, "
              "unless the blocks of all multiprocessors together have more than that holds.",
              "", "| operation | dtype | n | shared memory | passes at least | moved / least: possible | moved / least: ours |",
              "|---|---|---|---|---|---|---|"]
    for length in max(LENGTHS), LONG:
        for operation in filter(is_attention, operations):
            for dtype in DTYPES[:2]:
                for architecture in (86, 80, 90):
                    key = operation, dtype, length, architecture
                    passes, ratio = least_passes(operation, dtype, length, LIMITS[architecture][2])
                    # What stands in the table above is not counted again, and of the longest texts what is furthest from the least.
                    if key not in ratios and (length < LONG or (architecture == 80 and operation == "attention_backward")):
                        least, counts = counted(options.build, operation, dtype, length, architecture)
                        ratios[key] = sum(c.get("moved", 0) for c in counts.values()) / least["bytes"]
                        check_traffic(operation, dtype, length, architecture, ratios[key])
                    ours = f"{ratios[key]:.2f}" if key in ratios else "not counted"
                    lines.append(f"| {operation} | {dtype} | {length} | {LIMITS[architecture][2]} KiB (sm_{architecture}) | "
                                 f"{passes} | {ratio:.2f} | {ours} |")
    if problems:
        lines += ["", "## Beyond the bounds", ""] + [f"- {problem}" for problem in problems]
    if chosen:
        lines += ["", "## More than the memory on the chip allows, on purpose", ""] + [f"- {text}" for text in chosen]
    if forced:
        lines += ["", "## More than the least, for want of memory on the chip", ""] + [f"- {text}" for text in forced]
    options.output.write_text("\n".join(lines) + "\n")
    print(f"{options.output}: {len(kernels)} kernels, {len(problems)} beyond the bounds")
    for problem in problems:
        print("  " + problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
