# LibTorch: the user's own torch if there is one (TORCH_ROOT, or the python3 on PATH), else the PyPI wheel unpacked beside the build folder.
# torch's CMake package insists on a CUDA toolkit even for CPU use, so its libraries are linked by path. The wheel's libtorch_cpu.so needs the CUDA
# runtime and CUPTI libraries at load time; they come as two small wheels and are found through its own RPATH.
set(TORCH_ROOT "" CACHE PATH "Folder of an installed torch (the one with include/ and lib/); empty: look for one, else fetch it")
set(APRIL_TORCH_VERSION 2.11.0)

set(APRIL_TORCH_OLDEST 2.7)  # its C++ ABI changed there

# The version of the torch in FOLDER, from its headers; empty if there is none. The numbers' header has moved between releases.
function(april_torch_version folder out)
  set(${out} "" PARENT_SCOPE)
  foreach(header torch/headeronly/version.h torch/csrc/api/include/torch/version.h)
    if(EXISTS ${folder}/include/${header})
      file(STRINGS ${folder}/include/${header} lines REGEX "#define TORCH_VERSION_(MAJOR|MINOR) ")
      if("${lines}" MATCHES "MAJOR ([0-9]+).*MINOR ([0-9]+)")
        set(${out} ${CMAKE_MATCH_1}.${CMAKE_MATCH_2} PARENT_SCOPE)
        return()
      endif()
    endif()
  endforeach()
endfunction()

function(april_find_torch out)
  if(TORCH_ROOT)
    april_torch_version(${TORCH_ROOT} version)
    if(NOT version OR version VERSION_LESS APRIL_TORCH_OLDEST)
      message(FATAL_ERROR "TORCH_ROOT=${TORCH_ROOT} holds torch \"${version}\", ${APRIL_TORCH_OLDEST} or newer is needed. It is the folder with include/ and lib/")
    endif()
    set(${out} ${TORCH_ROOT} PARENT_SCOPE)
    return()
  endif()
  find_program(PYTHON3 python3 REQUIRED)
  execute_process(COMMAND ${PYTHON3} -c "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')"
                  OUTPUT_VARIABLE own OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(own AND EXISTS ${own}/include/ATen/ATen.h)
    april_torch_version(${own} version)
    if(version AND version VERSION_GREATER_EQUAL APRIL_TORCH_OLDEST)
      set(${out} ${own} PARENT_SCOPE)
      return()
    endif()
    message(STATUS "The torch of ${PYTHON3} is passed over: its version is \"${version}\", ${APRIL_TORCH_OLDEST} or newer is needed")
  endif()
  get_filename_component(folder ${CMAKE_BINARY_DIR}/../libtorch ABSOLUTE)  # beside the build folders of all presets
  if(NOT EXISTS ${folder}/torch/lib/libtorch_cpu.so)
    message(STATUS "Fetching LibTorch ${APRIL_TORCH_VERSION} into ${folder} (about 1.2 GB unpacked)")
    execute_process(COMMAND ${CMAKE_SOURCE_DIR}/cmake/fetch-libtorch.sh ${folder} ${APRIL_TORCH_VERSION} RESULT_VARIABLE failed)
    if(failed)
      message(FATAL_ERROR "LibTorch could not be fetched. Install torch for python3, or set -DTORCH_ROOT=FOLDER, or build without it: -DAPRIL_TORCH=OFF")
    endif()
  endif()
  set(${out} ${folder}/torch PARENT_SCOPE)
endfunction()

april_find_torch(april_torch_folder)
message(STATUS "LibTorch: ${april_torch_folder}")

add_library(april_torch INTERFACE)
target_include_directories(april_torch SYSTEM INTERFACE ${april_torch_folder}/include)
target_link_libraries(april_torch INTERFACE ${april_torch_folder}/lib/libtorch_cpu.so ${april_torch_folder}/lib/libc10.so)
target_link_options(april_torch INTERFACE -Wl,--allow-shlib-undefined -Wl,-rpath,${april_torch_folder}/lib)
