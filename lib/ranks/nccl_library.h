// The functions of NCCL and of the CUDA runtime that ranks call, found when they are asked for: programs start and run where neither is installed.
#pragma once

#include <cuda_runtime_api.h>
#include <nccl.h>

namespace april::ranks {

struct NcclLibrary {
  /// Throws Usage naming the library that this machine lacks.
  static const NcclLibrary& Get();

  decltype(&ncclGetVersion) get_version;
  decltype(&ncclGetErrorString) nccl_error_string;
  decltype(&ncclGetLastError) last_error;
  decltype(&ncclGetUniqueId) get_unique_id;
  decltype(&ncclCommInitRankConfig) comm_init;
  decltype(&ncclCommGetAsyncError) async_error;
  decltype(&ncclCommFinalize) comm_finalize;
  decltype(&ncclCommDestroy) comm_destroy;
  decltype(&ncclCommAbort) comm_abort;
  decltype(&ncclGroupStart) group_start;
  decltype(&ncclGroupEnd) group_end;
  decltype(&ncclSend) send;
  decltype(&ncclRecv) receive;
  decltype(&ncclBroadcast) broadcast;

  decltype(&cudaGetErrorString) cuda_error_string;
  decltype(&cudaGetDeviceCount) device_count;
  decltype(&cudaSetDevice) set_device;
  cudaError_t (*allocate)(void**, size_t);  // cudaMalloc, which in C++ has a second form
  decltype(&cudaFree) free;
  decltype(&cudaMemcpy) copy;
  decltype(&cudaStreamCreateWithFlags) stream_create;
  decltype(&cudaStreamWaitEvent) stream_wait;
  decltype(&cudaStreamDestroy) stream_destroy;
  decltype(&cudaEventCreateWithFlags) event_create;
  decltype(&cudaEventDestroy) event_destroy;
  decltype(&cudaEventRecord) event_record;
  decltype(&cudaEventQuery) event_query;
};

}  // namespace april::ranks
