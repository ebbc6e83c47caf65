# LibTorch: the user's own torch if there is one (TORCH_ROOT, or the python3 on PATH), else the PyPI wheel unpacked beside the build folder.
# torch's CMake package insists on a CUDA toolkit even for CPU use, so its libraries are linked by path. The wheel's libtorch_cpu.so needs the CUDA
# runtime and CUPTI libraries at load time; they come as two small wheels and are found through its own RPATH.
set(TORCH_ROOT "" CACHE PATH "Folder of an installed torch (the one with include/ and lib/); empty: look for one, else fetch it")
set(APRIL_TORCH_VERSION 2.11.0)

function(april_find_torch out)
  if(TORCH_ROOT)
    set(${out} ${TORCH_ROOT} PARENT_SCOPE)
    return()
  endif()
  find_program(PYTHON3 python3 REQUIRED)
  execute_process(COMMAND ${PYTHON3} -c "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')"
                  OUTPUT_VARIABLE own OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(own AND EXISTS ${own}/include/ATen/ATen.h)
    set(${out} ${own} PARENT_SCOPE)
    return()
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

file(STRINGS ${april_torch_folder}/include/torch/headeronly/version.h version_lines REGEX "#define TORCH_VERSION_(MAJOR|MINOR) ")
string(REGEX REPLACE ".*MAJOR ([0-9]+).*MINOR ([0-9]+).*" "\\1.\\2" april_torch_version "${version_lines}")
if(april_torch_version VERSION_LESS 2.7)
  message(FATAL_ERROR "LibTorch ${april_torch_version} in ${april_torch_folder} is too old: 2.7 or newer is needed (its C++ ABI changed there)")
endif()

add_library(april_torch INTERFACE)
target_include_directories(april_torch SYSTEM INTERFACE ${april_torch_folder}/include)
target_link_libraries(april_torch INTERFACE ${april_torch_folder}/lib/libtorch_cpu.so ${april_torch_folder}/lib/libc10.so)
target_link_options(april_torch INTERFACE -Wl,--allow-shlib-undefined -Wl,-rpath,${april_torch_folder}/lib)
