# Whether and how the CUDA backend is built.
#
# BERTOLOGY_CUDA: AUTO builds it where nvcc 13 or newer is found, ON insists, OFF leaves it out.
set(BERTOLOGY_CUDA AUTO CACHE STRING "Build the CUDA backend: AUTO, ON or OFF")
# What a device finds in the library: PTX for the first, from which the driver compiles for any later one, and machine
# code for those that nvcc knows.
set(_tuned_architectures 80 86 89 90 100 120)
set(BERTOLOGY_CUDA_ARCHITECTURES ${_tuned_architectures} CACHE STRING "Compute capabilities to compile for; PTX for the first")
set(BERTOLOGY_CUDA_RUNTIME "" CACHE PATH "Folder of a libcudart.so.13 that tests are to use instead of the toolkit's")

set(BERTOLOGY_WITH_CUDA FALSE)
if(NOT BERTOLOGY_CUDA STREQUAL "OFF" AND NOT BERTOLOGY_SANITIZE)
  include(${CMAKE_CURRENT_LIST_DIR}/Nvcc.cmake)
  if(BERTOLOGY_NVCC_PROBLEM)
    if(BERTOLOGY_CUDA STREQUAL "ON")
      message(FATAL_ERROR "${BERTOLOGY_NVCC_PROBLEM}")
    endif()
    message(STATUS "${BERTOLOGY_NVCC_PROBLEM}: the CUDA backend is left out")
  else()
    set(BERTOLOGY_WITH_CUDA TRUE)
  endif()
endif()

if(BERTOLOGY_WITH_CUDA)
  set(CMAKE_CUDA_COMPILER ${BERTOLOGY_NVCC})
  list(GET BERTOLOGY_CUDA_ARCHITECTURES 0 _baseline)
  # Given by hand below: PTX for the first architecture, machine code for all.
  set(CMAKE_CUDA_ARCHITECTURES OFF)
  enable_language(CUDA)
  set(CMAKE_CUDA_STANDARD 17)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  find_package(CUDAToolkit REQUIRED)
  set(BERTOLOGY_CUDA_FLAGS -gencode=arch=compute_${_baseline},code=compute_${_baseline})
  foreach(_architecture IN LISTS BERTOLOGY_CUDA_ARCHITECTURES)
    set(_virtual ${_baseline})
    if(_architecture GREATER_EQUAL 100)
      set(_virtual 100)  # ptxas spills in some kernels that were compiled for less
    endif()
    list(APPEND BERTOLOGY_CUDA_FLAGS -gencode=arch=compute_${_virtual},code=sm_${_architecture})
  endforeach()
  # No kernel spills registers with the nvcc and for the devices that they were tuned for: one that does is an error
  # there, and elsewhere a warning, since it only costs time. A library with PTX alone has nothing that could spill.
  set(_spills -Xptxas=-warn-spills)
  if(CMAKE_CUDA_COMPILER_VERSION MATCHES "^13\\.0\\." AND BERTOLOGY_CUDA_ARCHITECTURES STREQUAL _tuned_architectures)
    string(APPEND _spills ",-Werror")
  endif()
  list(APPEND BERTOLOGY_CUDA_FLAGS ${_spills})
endif()
