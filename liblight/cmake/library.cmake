# SPDX-License-Identifier: Apache-2.0
# The library itself: which sources, with which flags.
#
# The same bits everywhere is a promise, so the compiler may not reorder floating-point arithmetic. Contraction to
# fused multiply-add is allowed in the CPU kernels only, where every instruction set has objects of its own.

add_library(light_build_flags INTERFACE)
target_compile_options(light_build_flags INTERFACE -Wall -Wextra -fno-math-errno -fno-trapping-math)
target_compile_definitions(light_build_flags INTERFACE $<$<COMPILE_LANGUAGE:C>:_GNU_SOURCE=>)
if(LIGHT_WERROR)
  target_compile_options(light_build_flags INTERFACE -Werror)
endif()
if(LIGHT_SANITIZE)
  # no-recover: a report ends the program, so a test cannot pass with one.
  set(light_sanitize -fsanitize=${LIGHT_SANITIZE} -fno-sanitize-recover=all)
  target_compile_options(light_build_flags INTERFACE ${light_sanitize} -fno-omit-frame-pointer -O1 -UNDEBUG)
  target_link_options(light_build_flags INTERFACE ${light_sanitize})
endif()
target_link_libraries(light_build_flags INTERFACE Threads::Threads OpenMP::OpenMP_C)

# What every object of the library is compiled with.
add_library(light_internal_flags INTERFACE)
target_include_directories(light_internal_flags INTERFACE
  ${PROJECT_SOURCE_DIR}/liblight/include ${PROJECT_SOURCE_DIR}/liblight ${PROJECT_SOURCE_DIR})
target_compile_definitions(light_internal_flags INTERFACE LIGHT_BUILDING LIGHT_VERSION_TEXT="${PROJECT_VERSION}"
  LIGHT_PLUGIN_DIR="${CMAKE_INSTALL_FULL_LIBDIR}")
target_link_libraries(light_internal_flags INTERFACE light_build_flags
  light_dep_hdf5 light_dep_libyaml light_dep_jansson light_dep_zlib light_dep_libpng
  light_dep_libjpeg m ${CMAKE_DL_LIBS})

file(GLOB light_sources CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR}
  liblight/*/*.c liblight/data/formats/*.c liblight/cpu/once/*.c strategies/*.c callbacks/*.c)
list(FILTER light_sources EXCLUDE REGEX "^liblight/(cpu|tools)/[^/]*\\.c$")

add_library(light_objects OBJECT ${light_sources})
target_link_libraries(light_objects PRIVATE light_internal_flags)
target_compile_options(light_objects PRIVATE -ffp-contract=off)
set(light_all_objects $<TARGET_OBJECTS:light_objects>)

# liblight/cpu/*.c holds the CPU kernels. They are compiled once per instruction set; LIGHT_ISA(name) of cpu/isa.h
# gives each copy names of its own, and cpu/once/ chooses among them at run time.
file(GLOB light_kernel_sources CONFIGURE_DEPENDS liblight/cpu/*.c)
set(light_isas generic)
set(light_isa_flags_generic "")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$" AND CMAKE_SIZEOF_VOID_P EQUAL 8)
  list(APPEND light_isas avx2 avx512)
  set(light_isa_flags_avx2 -march=x86-64-v3)
  set(light_isa_flags_avx512 -march=x86-64-v4 -mprefer-vector-width=512)
  target_compile_definitions(light_internal_flags INTERFACE LIGHT_CPU_X86_64)
endif()
if(light_kernel_sources)
  foreach(isa IN LISTS light_isas)
    add_library(light_cpu_${isa} OBJECT ${light_kernel_sources})
    target_link_libraries(light_cpu_${isa} PRIVATE light_internal_flags)
    target_compile_definitions(light_cpu_${isa} PRIVATE LIGHT_CPU_ISA=${isa} LIGHT_CPU_ISA_${isa})
    target_compile_options(light_cpu_${isa} PRIVATE
      ${light_isa_flags_${isa}} -ffp-contract=fast -fno-signed-zeros
      # clang warns of loops marked `omp simd` that stay scalar: those for f64 that call libm, all under sanitizers
      $<$<C_COMPILER_ID:Clang>:-Wno-pass-failed>)
    list(APPEND light_all_objects $<TARGET_OBJECTS:light_cpu_${isa}>)
  endforeach()
endif()

set(light_link_libraries light_build_flags light_dep_hdf5 light_dep_libyaml light_dep_jansson
  light_dep_zlib light_dep_libpng light_dep_libjpeg m ${CMAKE_DL_LIBS})

# What users link: shared by default, static with -DBUILD_SHARED_LIBS=OFF.
add_library(light ${light_all_objects})
add_library(light::light ALIAS light)
target_include_directories(light PUBLIC
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/liblight/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
set_target_properties(light PROPERTIES
  LINKER_LANGUAGE C VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
foreach(library IN LISTS light_link_libraries)
  target_link_libraries(light PRIVATE $<BUILD_INTERFACE:${library}>)
endforeach()
if(BUILD_SHARED_LIBS)
  target_link_options(light PRIVATE -Wl,--as-needed)
  if(LIGHT_SANITIZE)
    # clang links the sanitizer runtime into programs, not into libraries.
    target_link_options(light PRIVATE -Wl,-z,undefs)
  else()
    target_link_options(light PRIVATE -Wl,--no-undefined)
  endif()
endif()

# What the tests link: the same objects with the internal functions in reach.
add_library(light_internal STATIC EXCLUDE_FROM_ALL ${light_all_objects})
set_target_properties(light_internal PROPERTIES LINKER_LANGUAGE C)
target_link_libraries(light_internal PUBLIC light_internal_flags)

# liblight_mpi.so, opened when a program is one of several processes. It links nothing of liblight.
if(MPI_C_FOUND)
  file(GLOB light_mpi_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/strategies/mpi/*.c)
  add_library(light_mpi MODULE ${light_mpi_sources})
  target_link_libraries(light_mpi PRIVATE light_build_flags MPI::MPI_C)
  target_include_directories(light_mpi PRIVATE
    ${PROJECT_SOURCE_DIR}/liblight/include ${PROJECT_SOURCE_DIR}/liblight ${PROJECT_SOURCE_DIR})
  set_target_properties(light_mpi PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR})
endif()

if(LIGHT_CUDA OR LIGHT_CUDA_SIM)
  add_subdirectory(cuda)
endif()

# liblight/tools/NAME.c is the program light-NAME, which is installed; it finds the library from where it stands.
file(GLOB light_tool_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/liblight/tools/*.c)
file(RELATIVE_PATH light_bin_to_lib "/${CMAKE_INSTALL_BINDIR}" "/${CMAKE_INSTALL_LIBDIR}")
foreach(source IN LISTS light_tool_sources)
  get_filename_component(name "${source}" NAME_WE)
  add_executable(light_tool_${name} ${source})
  target_link_libraries(light_tool_${name} PRIVATE light light_build_flags)
  set_target_properties(light_tool_${name} PROPERTIES OUTPUT_NAME light-${name}
    RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR} INSTALL_RPATH "$ORIGIN/${light_bin_to_lib}")
  install(TARGETS light_tool_${name} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endforeach()
