#if defined(APRIL_NCCL)

#include "ranks/nccl_library.h"

#include <dlfcn.h>

#include <string>

#include "base/error.h"

namespace april::ranks {
namespace {

/// A shared library, for as long as the process lives.
class Library {
 public:
  explicit Library(std::string name) : name_(std::move(name)), handle_(::dlopen(name_.c_str(), RTLD_NOW | RTLD_LOCAL)) {
    if (handle_ == nullptr) Refuse();
  }

  template <typename Function>
  void Find(const char* symbol, Function* function) const {
    *function = reinterpret_cast<Function>(::dlsym(handle_, symbol));
    if (*function == nullptr) Refuse();
  }

 private:
  [[noreturn]] void Refuse() const {
    throw Error::Usage("--rank-backend nccl: " + name_ + " cannot be used here: " + ::dlerror(),
                       "where it lies elsewhere, for example beside python3's torch, name its folder in LD_LIBRARY_PATH; or leave the option out");
  }
  std::string name_;
  void* handle_;
};

NcclLibrary Load() {
  NcclLibrary all;
  const Library nccl("libnccl.so.2");
  nccl.Find("ncclGetVersion", &all.get_version);
  nccl.Find("ncclGetErrorString", &all.nccl_error_string);
  nccl.Find("ncclGetLastError", &all.last_error);
  nccl.Find("ncclGetUniqueId", &all.get_unique_id);
  nccl.Find("ncclCommInitRankConfig", &all.comm_init);
  nccl.Find("ncclCommGetAsyncError", &all.async_error);
  nccl.Find("ncclCommFinalize", &all.comm_finalize);
  nccl.Find("ncclCommDestroy", &all.comm_destroy);
  nccl.Find("ncclCommAbort", &all.comm_abort);
  nccl.Find("ncclGroupStart", &all.group_start);
  nccl.Find("ncclGroupEnd", &all.group_end);
  nccl.Find("ncclSend", &all.send);
  nccl.Find("ncclRecv", &all.receive);
  nccl.Find("ncclBroadcast", &all.broadcast);
  // These functions are the same in all releases with the major number that this was compiled for.
  const Library cuda("libcudart.so." + std::to_string(CUDART_VERSION / 1000));
  cuda.Find("cudaGetErrorString", &all.cuda_error_string);
  cuda.Find("cudaGetDeviceCount", &all.device_count);
  cuda.Find("cudaSetDevice", &all.set_device);
  cuda.Find("cudaMalloc", &all.allocate);
  cuda.Find("cudaFree", &all.free);
  cuda.Find("cudaMemcpy", &all.copy);
  cuda.Find("cudaStreamCreateWithFlags", &all.stream_create);
  cuda.Find("cudaStreamWaitEvent", &all.stream_wait);
  cuda.Find("cudaStreamDestroy", &all.stream_destroy);
  cuda.Find("cudaEventCreateWithFlags", &all.event_create);
  cuda.Find("cudaEventDestroy", &all.event_destroy);
  cuda.Find("cudaEventRecord", &all.event_record);
  cuda.Find("cudaEventQuery", &all.event_query);
  return all;
}

}  // namespace

const NcclLibrary& NcclLibrary::Get() {
  static const NcclLibrary library = Load();
  return library;
}

}  // namespace april::ranks

#endif  // APRIL_NCCL
