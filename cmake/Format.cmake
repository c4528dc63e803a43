# The targets `format` and `format_check`: clang-format over all C and C++ of ours, by the style in native/.clang-format.
# Versions of clang-format disagree with each other, so only one of them is asked.
set(BERTOLOGY_CLANG_FORMAT_VERSION 14)
find_program(BERTOLOGY_CLANG_FORMAT NAMES clang-format-${BERTOLOGY_CLANG_FORMAT_VERSION} clang-format)
set(_usable FALSE)
if(BERTOLOGY_CLANG_FORMAT)
  execute_process(COMMAND ${BERTOLOGY_CLANG_FORMAT} --version OUTPUT_VARIABLE _version)
  if(_version MATCHES "version ${BERTOLOGY_CLANG_FORMAT_VERSION}\\.")
    set(_usable TRUE)
  endif()
endif()

if(_usable)
  file(GLOB_RECURSE _sources CONFIGURE_DEPENDS
    ${PROJECT_SOURCE_DIR}/native/*.h ${PROJECT_SOURCE_DIR}/native/*.c ${PROJECT_SOURCE_DIR}/native/*.cpp
    ${PROJECT_SOURCE_DIR}/native/*.cu ${PROJECT_SOURCE_DIR}/native/*.cuh)
  add_custom_target(format COMMAND ${BERTOLOGY_CLANG_FORMAT} -i ${_sources})
  add_custom_target(format_check COMMAND ${BERTOLOGY_CLANG_FORMAT} --dry-run -Werror ${_sources})
else()
  add_custom_target(format_check COMMAND ${CMAKE_COMMAND} -E echo
    "clang-format ${BERTOLOGY_CLANG_FORMAT_VERSION} was not found: the format of the C and C++ files is not checked")
endif()
