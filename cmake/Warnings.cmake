# Warnings that every target of ours is built with.
add_library(bertology_warnings INTERFACE)
target_compile_options(bertology_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow=local -Wno-psabi
  $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor -Woverloaded-virtual>)
