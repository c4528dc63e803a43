# oneDNN, headers and library, out of the jar in which the JavaCPP presets ship it. Defines the target oneDNN::dnnl.
#
# BERTOLOGY_ONEDNN_JAR names the jar. Maven passes it; by hand, it is looked for in the local Maven repository.
set(BERTOLOGY_ONEDNN_VERSION "3.11-1.5.13")
set(BERTOLOGY_PLATFORM "linux-x86_64" CACHE STRING "JavaCPP's name of the platform")
set(BERTOLOGY_ONEDNN_JAR "" CACHE FILEPATH "dnnl-<version>-<platform>.jar of org.bytedeco")

set(_jar "${BERTOLOGY_ONEDNN_JAR}")
if(NOT _jar)
  set(_jar "$ENV{HOME}/.m2/repository/org/bytedeco/dnnl/${BERTOLOGY_ONEDNN_VERSION}/dnnl-${BERTOLOGY_ONEDNN_VERSION}-${BERTOLOGY_PLATFORM}.jar")
endif()
if(NOT EXISTS "${_jar}")
  message(FATAL_ERROR "oneDNN's jar is not at ${_jar}. Get it with
    mvn dependency:get -Dartifact=org.bytedeco:dnnl:${BERTOLOGY_ONEDNN_VERSION}:jar:${BERTOLOGY_PLATFORM} -Dtransitive=false
  or name it with -DBERTOLOGY_ONEDNN_JAR=...")
endif()

set(_unpacked "${CMAKE_BINARY_DIR}/onednn")
set(_root "${_unpacked}/org/bytedeco/dnnl/${BERTOLOGY_PLATFORM}")
if(NOT EXISTS "${_root}/include/dnnl.h" OR "${_jar}" IS_NEWER_THAN "${_root}/include/dnnl.h")
  file(MAKE_DIRECTORY "${_unpacked}")
  execute_process(COMMAND ${CMAKE_COMMAND} -E tar xf "${_jar}" WORKING_DIRECTORY "${_unpacked}" RESULT_VARIABLE _failed)
  if(_failed)
    message(FATAL_ERROR "${_jar} could not be unpacked")
  endif()
  file(TOUCH "${_root}/include/dnnl.h")
endif()

add_library(oneDNN::openmp SHARED IMPORTED GLOBAL)
set_target_properties(oneDNN::openmp PROPERTIES
  IMPORTED_LOCATION "${_root}/libgomp.so.1" IMPORTED_SONAME "libgomp.so.1")
add_library(oneDNN::dnnl SHARED IMPORTED GLOBAL)
set_target_properties(oneDNN::dnnl PROPERTIES
  IMPORTED_LOCATION "${_root}/libdnnl.so.3" IMPORTED_SONAME "libdnnl.so.3"
  INTERFACE_INCLUDE_DIRECTORIES "${_root}/include" INTERFACE_LINK_LIBRARIES oneDNN::openmp)
