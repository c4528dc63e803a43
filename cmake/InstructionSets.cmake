# Compiles a list of sources once for each instruction set, each in a namespace of its own.
#
#   bertology_add_kernels(<target> <source>...)
#
# makes an object library <target>_<set> for each set and lists them all in <target>_OBJECTS.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(BERTOLOGY_INSTRUCTION_SETS baseline avx2 avx512)
else()
  set(BERTOLOGY_INSTRUCTION_SETS baseline)
endif()
set(BERTOLOGY_FLAGS_avx2 -mavx2 -mfma -mf16c)
set(BERTOLOGY_FLAGS_avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512cd -mavx2 -mfma -mf16c
  -mprefer-vector-width=512)

function(bertology_add_kernels target)
  set(objects "")
  foreach(set IN LISTS BERTOLOGY_INSTRUCTION_SETS)
    add_library(${target}_${set} OBJECT ${ARGN})
    target_compile_definitions(${target}_${set} PRIVATE BERTOLOGY_ISA_NAMESPACE=${set})
    # Always optimised: unoptimised inline functions would leave the object files and meet those of other sets.
    # a * b + c may round once; nothing else is relaxed.
    target_compile_options(${target}_${set} PRIVATE -O3 -ffp-contract=fast -fno-math-errno -fno-exceptions
      ${BERTOLOGY_FLAGS_${set}})
    target_link_libraries(${target}_${set} PRIVATE bertology_warnings)
    list(APPEND objects $<TARGET_OBJECTS:${target}_${set}>)
  endforeach()
  set(${target}_OBJECTS ${objects} PARENT_SCOPE)
endfunction()
