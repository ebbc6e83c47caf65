# One Catch2 executable a directory of tests/unit/, linked with the module of that name. Everything else is driven by tests/run.sh.
find_package(Catch2 REQUIRED)
add_library(april_catch STATIC ${CMAKE_SOURCE_DIR}/tests/unit/main.cc)
target_link_libraries(april_catch PUBLIC Catch2::Catch2)
target_compile_options(april_catch PUBLIC $<$<CONFIG:Release>:-O1>)  # of the tests' own code alone: a quarter less time to build, and they run as fast

file(GLOB unit_directories CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/unit/*)
foreach(directory ${unit_directories})
  get_filename_component(name ${directory} NAME)
  file(GLOB sources CONFIGURE_DEPENDS ${directory}/*.cc)
  if(sources AND TARGET april_${name})
    add_executable(unit_${name} ${sources})
    target_link_libraries(unit_${name} PRIVATE april_${name} april_catch)
    target_compile_definitions(unit_${name} PRIVATE APRIL_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
    add_test(NAME unit_${name} COMMAND unit_${name})
    set_tests_properties(unit_${name} PROPERTIES TIMEOUT 300)
  endif()
endforeach()

# tests/bench/NAME.cc: programs that print figures; never run by the tests.
if(APRIL_TORCH)
  file(GLOB bench_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/bench/*.cc)
  foreach(source ${bench_sources})
    get_filename_component(name ${source} NAME_WE)
    add_executable(bench_${name} EXCLUDE_FROM_ALL ${source})
    target_link_libraries(bench_${name} PRIVATE april_rollout april_grpo)
  endforeach()
endif()
