// How much memory this process may still take.
#pragma once

#include <cstdint>
#include <string>

namespace april {

/// The least of what the machine can give without swapping (free memory and droppable caches) and what is left below the limits of the control groups
/// that the process is in (of a job, of a container). UINT64_MAX when the system tells nothing.
///   Source  proc(5), MemAvailable; the kernel's cgroup-v2 and cgroup-v1/memory documents. The arguments are for tests.
uint64_t AvailableMemoryBytes(const std::string& proc = "/proc", const std::string& cgroups = "/sys/fs/cgroup");

/// Throws Runtime when less than `bytes` is available for `what` ("training this model"). Memory that nothing has touched is always to be had:
/// without this a process is killed later, when it touches more than there is.
void RequireMemory(uint64_t bytes, const std::string& what, const std::string& hint);

}  // namespace april
