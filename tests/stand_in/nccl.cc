// NCCL and the CUDA runtime without a GPU, for tests of what ranks ask of them: memory is the processor's, a stream is a thread, and messages go
// between the threads of one process. It is as strict as it can be: what they may do late (a copy to the GPU, the launch of a group) it does late, a
// group ends when all its messages were taken, and what NCCL would answer with wrong data or no end (another size, ordinary memory, an order that
// does not match) is an error here.
//   STAND_IN_GPUS=N          so many GPUs (8)
//   STAND_IN_FAILS=RANK      that rank's groups fail
//   STAND_IN_BREAKS=RANK     that rank's connections break, which all others see at once
//   STAND_IN_HANGS=RANK      that rank's groups never begin
#include <cuda_runtime_api.h>
#include <nccl.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace stand_in {

int Setting(const char* name, int otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::atoi(value);
}

thread_local int t_device = 0;

/// Device memory: where each block begins, and its size. What is not freed lives as long as the process, as on a GPU.
std::mutex g_memory_mutex;
std::map<const char*, size_t>& Blocks() {
  static auto* blocks = new std::map<const char*, size_t>;
  return *blocks;
}

bool OnDevice(const void* data, size_t num_bytes) {
  const std::lock_guard lock(g_memory_mutex);
  const auto* begin = static_cast<const char*>(data);
  auto block = Blocks().upper_bound(begin);
  if (block == Blocks().begin()) return false;
  --block;
  return begin + num_bytes <= block->first + block->second;
}

struct Message {
  std::string kind;  ///< "message" or "broadcast": they never match each other
  std::vector<char> data;
  std::shared_ptr<std::atomic<bool>> taken = std::make_shared<std::atomic<bool>>(false);
};

/// The ranks with one unique id.
struct World {
  std::mutex mutex;
  std::condition_variable changed;
  int size = 0;
  bool broken = false;
  std::set<int> ranks, devices;
  std::map<std::pair<int, int>, std::deque<Message>> under_way;  ///< from, to
};
std::mutex g_worlds_mutex;
std::map<std::string, std::shared_ptr<World>> g_worlds;

struct Operation {
  enum Kind { kSend, kReceive, kBroadcast } kind;
  void* data;
  size_t num_bytes;
  int peer;  ///< of a broadcast: its root
};

struct Connection {
  std::shared_ptr<World> world;
  int rank = 0;
  std::atomic<bool> aborted = false;
  std::atomic<ncclResult_t> failure = ncclSuccess;
  std::function<void()> launch;  ///< what was asked for and has not reached its stream
  int polls = 0;

  void Run(const std::vector<Operation>& operations);

 private:
  void Push(const Operation& operation, const char* kind, int to, std::vector<Message>* sent);
  bool Take(const Operation& operation, const char* kind, std::unique_lock<std::mutex>& lock);
};

void Connection::Push(const Operation& operation, const char* kind, int to, std::vector<Message>* sent) {
  const auto* data = static_cast<const char*>(operation.data);
  sent->push_back({kind, {data, data + operation.num_bytes}});
  world->under_way[{rank, to}].push_back(sent->back());
}

bool Connection::Take(const Operation& operation, const char* kind, std::unique_lock<std::mutex>& lock) {
  auto& queue = world->under_way[{operation.peer, rank}];
  world->changed.wait(lock, [&] { return aborted || !queue.empty(); });
  if (aborted) return false;
  if (queue.front().kind != kind || queue.front().data.size() != operation.num_bytes) {
    failure = ncclInvalidArgument;
    return false;
  }
  std::memcpy(operation.data, queue.front().data.data(), operation.num_bytes);
  *queue.front().taken = true;
  queue.pop_front();
  world->changed.notify_all();
  return true;
}

void Connection::Run(const std::vector<Operation>& operations) {
  std::unique_lock lock(world->mutex);
  if (aborted) return;
  std::vector<Message> sent;
  for (const Operation& operation : operations) {
    if (operation.kind == Operation::kSend) Push(operation, "message", operation.peer, &sent);
    if (operation.kind != Operation::kBroadcast || operation.peer != rank) continue;
    for (int to = 0; to < world->size; ++to) {
      if (to != rank) Push(operation, "broadcast", to, &sent);
    }
  }
  world->changed.notify_all();
  for (const Operation& operation : operations) {
    if (operation.kind == Operation::kReceive && !Take(operation, "message", lock)) return;
    if (operation.kind == Operation::kBroadcast && operation.peer != rank && !Take(operation, "broadcast", lock)) return;
  }
  world->changed.wait(lock, [&] {
    for (const Message& message : sent) {
      if (!*message.taken && !aborted) return false;
    }
    return true;
  });
}

}  // namespace stand_in

using namespace stand_in;

struct CUstream_st {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void()>> work;
  std::thread thread{[this] {
    std::unique_lock lock(mutex);
    while (true) {
      changed.wait(lock, [this] { return !work.empty(); });
      const auto next = std::move(work.front());
      work.pop_front();
      lock.unlock();
      next();
      lock.lock();
    }
  }};

  void Enqueue(std::function<void()> next) {
    const std::lock_guard lock(mutex);
    work.push_back(std::move(next));
    changed.notify_all();
  }
};

struct CUevent_st {
  std::shared_ptr<std::atomic<bool>> done = std::make_shared<std::atomic<bool>>(true);
};

/// Streams and events live as long as the process.
template <typename T>
T* Kept(T* object) {
  static std::mutex mutex;
  static auto* all = new std::vector<T*>;
  const std::lock_guard lock(mutex);
  all->push_back(object);
  return object;
}
CUstream_st& DefaultStream() {
  static CUstream_st* stream = Kept(new CUstream_st);
  return *stream;
}
CUstream_st& StreamOf(CUstream_st* stream) { return stream == nullptr ? DefaultStream() : *stream; }

struct ncclComm {
  std::shared_ptr<Connection> connection;
};

namespace {

struct Group {
  int depth = 0;
  ncclResult_t failure = ncclSuccess;
  std::vector<Operation> operations;
  ncclComm* comm = nullptr;
  CUstream_st* stream = nullptr;
};
thread_local Group t_group;

ncclResult_t Ask(Operation operation, ncclComm* comm, CUstream_st* stream) {
  if (t_group.depth == 0) return ncclInvalidUsage;
  if (!OnDevice(operation.data, operation.num_bytes)) return t_group.failure = ncclInvalidArgument;
  t_group.operations.push_back(operation);
  t_group.comm = comm;
  t_group.stream = stream;
  return ncclSuccess;
}

}  // namespace

extern "C" {

const char* cudaGetErrorString(cudaError_t error) { return error == cudaErrorNoDevice ? "no CUDA-capable device is detected" : "invalid argument"; }
cudaError_t cudaGetDeviceCount(int* count) {
  *count = Setting("STAND_IN_GPUS", 8);
  return *count == 0 ? cudaErrorNoDevice : cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= Setting("STAND_IN_GPUS", 8)) return cudaErrorInvalidDevice;
  t_device = device;
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** data, size_t num_bytes) {
  auto* block = new char[num_bytes];
  const std::lock_guard lock(g_memory_mutex);
  Blocks()[block] = num_bytes;
  *data = block;
  return cudaSuccess;
}
cudaError_t cudaFree(void* data) {
  const std::lock_guard lock(g_memory_mutex);
  auto* block = static_cast<char*>(data);
  if (Blocks().erase(block) == 0) return cudaErrorInvalidValue;
  delete[] block;
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t num_bytes, cudaMemcpyKind kind) {
  const bool matches = kind == cudaMemcpyHostToDevice ? OnDevice(to, num_bytes) && !OnDevice(from, 1) : OnDevice(from, num_bytes) && !OnDevice(to, 1);
  if (!matches) return cudaErrorInvalidValue;
  if (kind == cudaMemcpyHostToDevice) {
    const auto* begin = static_cast<const char*>(from);
    DefaultStream().Enqueue([to, data = std::vector<char>(begin, begin + num_bytes)] {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      std::memcpy(to, data.data(), data.size());
    });
    return cudaSuccess;
  }
  std::promise<void> copied;
  DefaultStream().Enqueue([&] {
    std::memcpy(to, from, num_bytes);
    copied.set_value();
  });
  copied.get_future().wait();
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  if (flags != cudaStreamNonBlocking) return cudaErrorInvalidValue;  // cudaMemcpy would wait for it
  *stream = Kept(new CUstream_st);
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  StreamOf(stream).Enqueue([done = event->done] {
    while (!*done) std::this_thread::sleep_for(std::chrono::microseconds(50));
  });
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const std::lock_guard lock(stream->mutex);
  return stream->work.empty() ? cudaSuccess : cudaErrorInvalidResourceHandle;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = Kept(new CUevent_st);
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) { return *event->done ? cudaSuccess : cudaErrorInvalidValue; }
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  event->done = std::make_shared<std::atomic<bool>>(false);
  StreamOf(stream).Enqueue([done = event->done] { *done = true; });
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) { return *event->done ? cudaSuccess : cudaErrorNotReady; }

ncclResult_t ncclGetVersion(int* version) {
  *version = 22809;
  return ncclSuccess;
}
const char* ncclGetErrorString(ncclResult_t error) {
  return error == ncclUnhandledCudaError ? "unhandled cuda error" : error == ncclSystemError ? "unhandled system error" : "invalid argument";
}
const char* ncclGetLastError(ncclComm_t) { return "a stand-in"; }
ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  static std::atomic<int> next = 0;
  std::memset(id, 0, sizeof *id);
  const std::string text = "world " + std::to_string(next++);
  std::memcpy(id->internal, text.data(), text.size());
  return ncclSuccess;
}
ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int size, ncclUniqueId id, int rank, ncclConfig_t* config) {
  if (config->blocking != 0) return ncclInvalidUsage;
  std::shared_ptr<World> world;
  {
    const std::lock_guard lock(g_worlds_mutex);
    auto& known = g_worlds[id.internal];
    if (!known) known = std::make_shared<World>();
    world = known;
  }
  const std::lock_guard lock(world->mutex);
  if (world->size != 0 && world->size != size) return ncclInvalidArgument;
  if (!world->ranks.insert(rank).second || !world->devices.insert(t_device).second) return ncclInvalidUsage;
  world->size = size;
  *comm = new ncclComm{std::make_shared<Connection>()};
  (*comm)->connection->world = world;
  (*comm)->connection->rank = rank;
  return ncclInProgress;
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
  Connection& connection = *comm->connection;
  *state = connection.failure;
  if (*state != ncclSuccess) return ncclSuccess;
  {
    const std::lock_guard lock(connection.world->mutex);
    if (connection.world->broken) {
      *state = ncclRemoteError;
      return ncclSuccess;
    }
    if (static_cast<int>(connection.world->ranks.size()) < connection.world->size) *state = ncclInProgress;
  }
  if (!connection.launch) return ncclSuccess;
  *state = ncclInProgress;
  if (++connection.polls % 2 == 0) std::exchange(connection.launch, nullptr)();
  return ncclSuccess;
}
/// What the others are in is over for them, too: as a broken connection.
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  {
    World& world = *comm->connection->world;
    const std::lock_guard lock(world.mutex);
    comm->connection->aborted = true;
    world.broken = true;
    world.changed.notify_all();
  }
  comm->connection->launch = nullptr;  // which holds the connection
  delete comm;
  return ncclSuccess;
}
ncclResult_t ncclCommFinalize(ncclComm_t comm) { return comm->connection->launch ? ncclInvalidUsage : ncclInProgress; }
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  delete comm;
  return ncclSuccess;
}
ncclResult_t ncclGroupStart() {
  ++t_group.depth;
  return ncclSuccess;
}
ncclResult_t ncclGroupEnd() {
  if (t_group.depth == 0) return ncclInvalidUsage;
  Group group = std::exchange(t_group, {});
  if (group.failure != ncclSuccess || group.comm == nullptr) return group.failure;
  const auto connection = group.comm->connection;
  if (connection->rank == Setting("STAND_IN_FAILS", -1)) return ncclUnhandledCudaError;
  if (connection->rank == Setting("STAND_IN_BREAKS", -1)) {
    const std::lock_guard lock(connection->world->mutex);
    connection->world->broken = true;
    return ncclSystemError;
  }
  if (connection->rank == Setting("STAND_IN_HANGS", -1)) {
    group.operations = {{Operation::kReceive, nullptr, 0, connection->rank}};  // from itself, which sends nothing
  }
  connection->launch = [connection, group] { group.stream->Enqueue([connection, group] { connection->Run(group.operations); }); };
  return ncclInProgress;
}
ncclResult_t ncclSend(const void* data, size_t count, ncclDataType_t type, int to, ncclComm_t comm, cudaStream_t stream) {
  return type == ncclUint8 ? Ask({Operation::kSend, const_cast<void*>(data), count, to}, comm, stream) : ncclInvalidArgument;
}
ncclResult_t ncclRecv(void* data, size_t count, ncclDataType_t type, int from, ncclComm_t comm, cudaStream_t stream) {
  return type == ncclUint8 ? Ask({Operation::kReceive, data, count, from}, comm, stream) : ncclInvalidArgument;
}
ncclResult_t ncclBroadcast(const void* data, void* to, size_t count, ncclDataType_t type, int root, ncclComm_t comm, cudaStream_t stream) {
  return type == ncclUint8 && data == to ? Ask({Operation::kBroadcast, to, count, root}, comm, stream) : ncclInvalidArgument;
}

}  // extern "C"
