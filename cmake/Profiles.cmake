# The simulation profiles of lib/rollout/profiles/ become part of the program, so that their names work wherever it is installed.
file(GLOB profiles CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/lib/rollout/profiles/*.json)
set(entries "")
foreach(profile ${profiles})
  get_filename_component(name ${profile} NAME_WLE)
  file(READ ${profile} text)
  string(APPEND entries "    {\"${name}\", R\"profile(${text})profile\"},\n")
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${profile})
endforeach()
file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/generated/shipped_profiles.cc CONTENT [=[
#include "rollout/sim_profile.h"

namespace april::rollout {

const std::vector<ShippedProfile> kShippedProfiles = {
@entries@};

}  // namespace april::rollout
]=] @ONLY)
target_sources(april_rollout PRIVATE ${CMAKE_BINARY_DIR}/generated/shipped_profiles.cc)
