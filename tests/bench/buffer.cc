// The buffer's figures that no shell script can take, one JSON line each.
//   bench_buffer fill STORE GROUPS TOKENS   opens GROUPS groups of a buffer and puts a partial response of TOKENS tokens into every member
//   bench_buffer stream STORE GROUPS TOKENS FILE RECORDS
//                                           leases GROUPS groups, writes their finished rollouts as a stream to FILE and the bare records to RECORDS
//   bench_buffer open STORE                 seconds and memory of opening it
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/json.h"
#include "base/rng.h"
#include "buffer/leasing.h"
#include "buffer/putting.h"
#include "buffer/store.h"
#include "record/io.h"
#include "rollouts.h"

namespace april::buffer {
namespace {

void Print(const Json& line) {
  std::printf("%s\n", line.dump().c_str());
  std::fflush(stdout);
}

double Seconds() { return SystemClock().MonotonicSeconds(); }

int64_t ResidentBytes() {
  int64_t pages = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> pages >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

std::vector<uint64_t> Lease(Store& store, int64_t groups) {
  std::vector<uint64_t> keys;
  LeaseRequest request;
  request.lease = RandomId();
  request.worker = "bench";
  request.beyond_demand = true;
  request.max_rollouts = groups * store.state().config().group_size;
  request.max_bytes = int64_t{1} << 50;
  store.Transact([&](Batch& batch) { keys = LeaseRollouts(store, batch, request); });
  return keys;
}

void Fill(const std::string& directory, int64_t groups, int64_t tokens) {
  Store store(SystemFiles(), SystemClock(), directory, {.durability = {Durability::Mode::kOs, 0}});
  constexpr int64_t kGroupsAtOnce = 1000;
  std::vector<uint64_t> keys;  // all leased before any is put: what was put would be leased again first
  for (int64_t done = 0; done < groups; done += kGroupsAtOnce) {
    const std::vector<uint64_t> more = Lease(store, std::min(kGroupsAtOnce, groups - done));
    keys.insert(keys.end(), more.begin(), more.end());
  }
  for (size_t next = 0; next < keys.size();) {
    PutCounts counts;
    std::set<uint64_t> leases;
    const auto put = [&](Batch& batch) {
      for (; next < keys.size() && batch.size_bytes() < 1u << 20; ++next) {
        record::Rollout rollout = store.ReadRollout(keys[next]);
        bench::Extend(&rollout, tokens);
        PutRecord(store, batch, record::EncodeRecord(rollout), &counts, &leases);
      }
    };
    store.Transact(put, Wait::kAsLongAsAllowed);
  }
  store.Sync();
}

void Stream(const std::string& directory, int64_t groups, int64_t tokens, const std::string& file, const std::string& records) {
  Store store(SystemFiles(), SystemClock(), directory);
  record::RecordWriter writer(file, StreamHeader(store.state().config()), {.compress = false});
  std::ofstream bare(records, std::ios::binary);
  for (const uint64_t key : Lease(store, groups)) {
    record::Rollout rollout = store.ReadRollout(key);
    bench::Extend(&rollout, tokens);
    bench::Finish(&rollout, static_cast<double>(key % 2));
    writer.Write(rollout);
    bare << record::EncodeRecord(rollout);
  }
  writer.Finish(stream::EndStatus::kOk);
}

void Open(const std::string& directory) {
  const int64_t before = ResidentBytes();
  const double begin = Seconds();
  const Store store(SystemFiles(), SystemClock(), directory);
  const double seconds = Seconds() - begin;
  int64_t rollouts = 0;
  for (const auto& [admission, group] : store.state().groups()) rollouts += static_cast<int64_t>(group.members.size());
  Print({{"figure", "buffer_open"},
         {"rollouts", rollouts},
         {"seconds", seconds},
         {"bytes_a_rollout", static_cast<double>(ResidentBytes() - before) / static_cast<double>(std::max<int64_t>(rollouts, 1))},
         {"journal_bytes", store.journal().size_bytes()}});
}

int Run(const std::vector<std::string>& arguments) {
  const auto number = [&](size_t i) { return std::stoll(arguments.at(i)); };
  const std::string& what = arguments.at(0);
  if (what == "fill") return Fill(arguments.at(1), number(2), number(3)), 0;
  if (what == "stream") return Stream(arguments.at(1), number(2), number(3), arguments.at(4), arguments.at(5)), 0;
  if (what == "open") return Open(arguments.at(1)), 0;
  return 2;
}

}  // namespace
}  // namespace april::buffer

int main(int argc, char** argv) {
  try {
    return april::buffer::Run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_buffer: %s\n", error.what());
    return 1;
  }
}
