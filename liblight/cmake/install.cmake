# SPDX-License-Identifier: Apache-2.0
# Installs the library, the public headers, a pkg-config file and a CMake package.

include(CMakePackageConfigHelpers)

set(light_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/light)

install(TARGETS light EXPORT light_targets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(MPI_C_FOUND) # beside the library, where it is looked for
  install(TARGETS light_mpi LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()
if(LIGHT_CUDA) # there too
  install(FILES ${PROJECT_BINARY_DIR}/liblight_cuda.so DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()
install(DIRECTORY ${PROJECT_SOURCE_DIR}/liblight/include/light DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  FILES_MATCHING PATTERN "*.h")
install(EXPORT light_targets FILE light-targets.cmake NAMESPACE light:: DESTINATION ${light_package_dir})

# A static library leaves its dependencies to whoever links it; a shared one carries them.
set(light_private_libs "${LIGHT_HDF5_LINK_LIBRARIES}")
foreach(name libyaml jansson zlib libpng libjpeg)
  list(APPEND light_private_libs "${LIGHT_${name}_LIBRARY}")
endforeach()
list(APPEND light_private_libs ${OpenMP_C_LIBRARIES} ${CMAKE_THREAD_LIBS_INIT} m ${CMAKE_DL_LIBS})
list(FILTER light_private_libs EXCLUDE REGEX "^$|pthread")
list(APPEND light_private_libs -pthread)
list(REMOVE_DUPLICATES light_private_libs)
set(light_pc_private "")
foreach(library IN LISTS light_private_libs)
  if(library MATCHES "^(/|-)")
    string(APPEND light_pc_private " ${library}")
  else()
    string(APPEND light_pc_private " -l${library}")
  endif()
endforeach()
if(BUILD_SHARED_LIBS)
  set(light_pc_libs "")
  set(light_pc_libs_private "${light_pc_private}")
  set(light_config_libs "")
else()
  set(light_pc_libs "${light_pc_private}")
  set(light_pc_libs_private "")
  set(light_config_libs "${light_private_libs}")
endif()

# The installed files find each other by relative paths, so the whole of it may be moved.
file(RELATIVE_PATH light_pc_prefix "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
string(REGEX REPLACE "/$" "" light_pc_prefix "${light_pc_prefix}")
configure_file(liblight/cmake/light.pc.in ${PROJECT_BINARY_DIR}/light.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/light.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

configure_package_config_file(liblight/cmake/light-config.cmake.in ${PROJECT_BINARY_DIR}/light-config.cmake
  INSTALL_DESTINATION ${light_package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/light-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/light-config.cmake ${PROJECT_BINARY_DIR}/light-config-version.cmake
  DESTINATION ${light_package_dir})
