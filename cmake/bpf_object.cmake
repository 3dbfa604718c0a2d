# tierd_bpf_object(SOURCE OBJECT) - compiles a policy. By clang 19: g++ has no such target that CO-RE accepts.
find_program(TIERD_CLANG NAMES clang-19 REQUIRED)
set(policy_includes ${PROJECT_SOURCE_DIR}/bpf)
function(tierd_bpf_object SOURCE OBJECT)
  get_filename_component(folder ${OBJECT} DIRECTORY)
  file(MAKE_DIRECTORY ${folder})
  add_custom_command(OUTPUT ${OBJECT}
    COMMAND ${TIERD_CLANG} -target bpf -O2 -g -Wall -Wextra -Werror -I${policy_includes}
      -I/usr/include/${CMAKE_LIBRARY_ARCHITECTURE} -MD -MF ${OBJECT}.d -c ${SOURCE} -o ${OBJECT}
    DEPENDS ${SOURCE} DEPFILE ${OBJECT}.d
    COMMENT "Building policy ${OBJECT}" VERBATIM)
endfunction()
