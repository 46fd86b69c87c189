# SPDX-License-Identifier: Apache-2.0
# A user's whole build. The install test renames it to CMakeLists.txt.
cmake_minimum_required(VERSION 3.20)
project(user C)
find_package(light 0.1 REQUIRED)
add_executable(with_cmake user.c)
target_link_libraries(with_cmake light::light)
