# The CUDA half, where the toolkit's headers are there and the machine is one that CUDA runs on. It links nothing of CUDA:
# the driver is found in the engine's process. Sets TIERD_SHIM_EXPORTS and TIERD_CUDA_HALF.
set(TIERD_SHIM_EXPORTS ${PROJECT_SOURCE_DIR}/cuda_shim/host/exports.map)
set(TIERD_CUDA_HALF OFF CACHE INTERNAL "the CUDA half is built")
find_package(Python3 COMPONENTS Interpreter)
set(TIERD_CUDA_WHY_NOT "")
if(NOT TIERD_CUDA_INCLUDE)
  set(TIERD_CUDA_WHY_NOT "${TIERD_NO_CUDA}")
elseif(NOT CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64")
  set(TIERD_CUDA_WHY_NOT "the way in through dlsym is written for x86_64 only")
elseif(NOT Python3_FOUND)
  set(TIERD_CUDA_WHY_NOT "no python3 to generate the table of functions")
endif()
if(TIERD_CUDA_WHY_NOT)
  set(TIERD_CUDA_WHY_NOT ${TIERD_CUDA_WHY_NOT} CACHE INTERNAL "why not")
  message(STATUS "libtierd_shim.so without its CUDA half: ${TIERD_CUDA_WHY_NOT}")
  return()
endif()

set(TIERD_CUDA_HALF ON CACHE INTERNAL "the CUDA half is built")
set(generated ${CMAKE_BINARY_DIR}/cuda_shim)
set(TIERD_SHIM_EXPORTS ${generated}/exports.map)
set(here ${PROJECT_SOURCE_DIR}/cuda_shim/cuda)
add_custom_command(
  OUTPUT ${generated}/cuda_entries.h ${generated}/cuda_wrappers.cc ${generated}/exports.map
  COMMAND ${Python3_EXECUTABLE} ${here}/generate.py --cpp "${CMAKE_CXX_COMPILER} -I${TIERD_CUDA_INCLUDE}"
    --entries ${here}/entries.txt --exports ${PROJECT_SOURCE_DIR}/cuda_shim/host/exports.map --out ${generated}
  DEPENDS ${here}/generate.py ${here}/entries.txt ${PROJECT_SOURCE_DIR}/cuda_shim/host/exports.map
    ${TIERD_CUDA_INCLUDE}/cuda.h
  COMMENT "Generating the table of CUDA functions" VERBATIM)
set(names access_set ahead chunk_store contexts copies gate gpu graphs in_flight launch_scope launches lease lookup managed_backing
  memory queries reads reserved_range residency residency_report shim source use_history verifier vmm_backing)
list(TRANSFORM names PREPEND cuda/ OUTPUT_VARIABLE TIERD_CUDA_SOURCES)
list(TRANSFORM TIERD_CUDA_SOURCES APPEND .cc)
set(TIERD_CUDA_GENERATED ${generated})
add_custom_target(tierd_cuda_table DEPENDS ${generated}/cuda_entries.h ${generated}/cuda_wrappers.cc ${generated}/exports.map)

function(tierd_cuda_half NAME)
  target_sources(${NAME} PRIVATE ${TIERD_CUDA_SOURCES} ${TIERD_CUDA_GENERATED}/cuda_wrappers.cc
    ${TIERD_CUDA_GENERATED}/cuda_entries.h ${TIERD_CUDA_GENERATED}/exports.map)
  add_dependencies(${NAME} tierd_cuda_table)
  target_include_directories(${NAME} PRIVATE ${TIERD_CUDA_GENERATED})
  target_include_directories(${NAME} SYSTEM PRIVATE ${TIERD_CUDA_INCLUDE})
  # A preloaded library is there before any thread, so its thread-local words can have fixed places.
  target_compile_options(${NAME} PRIVATE -ftls-model=initial-exec)
endfunction()
set_source_files_properties(${here}/shim.cc PROPERTIES
  COMPILE_DEFINITIONS "TIERD_HASH_PTX=\"${here}/hash.ptx\"" OBJECT_DEPENDS ${here}/hash.ptx)
# cuda.h still declares what it calls deprecated; we stand before it all the same.
set_source_files_properties(${generated}/cuda_wrappers.cc PROPERTIES COMPILE_OPTIONS -Wno-deprecated-declarations)
# A sanitizer's runtime looks its functions up through our dlsym() before it can watch anything.
if(TIERD_SANITIZE)
  set_source_files_properties(${here}/lookup.cc PROPERTIES COMPILE_OPTIONS -fno-sanitize=all)
endif()
