// The buffer's figures that no shell script can take, one JSON line each.
//   bench_buffer fill STORE GROUPS TOKENS   opens GROUPS groups of a buffer and puts a partial response of TOKENS tokens into every member
//   bench_buffer stream STORE GROUPS TOKENS FILE RECORDS
//                                           leases GROUPS groups, writes their finished rollouts as a stream to FILE and the bare records to RECORDS
//   bench_buffer open STORE [ROUNDS]        seconds and memory of opening it
//   bench_buffer hub ADDRESS SECONDS WORKERS
//                                           leases and puts, one small rollout at a time, by so many workers; a trainer takes what gets ready
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/json.h"
#include "base/rng.h"
#include "buffer/claiming.h"
#include "buffer/hub_client.h"
#include "buffer/leasing.h"
#include "buffer/putting.h"
#include "buffer/store.h"
#include "record/io.h"

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

/// Tokens of a vocabulary of 49,152, small ids more often, as in text; log-probabilities in f32 as a sampler records them.
void Extend(record::Rollout* rollout, int64_t count) {
  const auto start = static_cast<int64_t>(rollout->tokens.size());
  for (int64_t i = start; i < start + count; ++i) {
    const uint64_t draw = Mix64(rollout->uid + static_cast<uint64_t>(i));
    const double uniform = static_cast<double>(draw >> 11) * 0x1p-53;
    rollout->tokens.push_back(static_cast<uint32_t>(49152 * uniform * uniform * uniform));
    rollout->logprobs.push_back(static_cast<float>(-4 * uniform * uniform - 1e-3));
  }
  rollout->weight_versions.push_back({1, 1, start, start + count, {}});
  record::Segment segment;
  segment.start = start;
  segment.len = count;
  segment.engine = "bench";
  rollout->segments.push_back(segment);
  rollout->born_version = 1;
  rollout->status = record::Status::kPartial;
}

void Finish(record::Rollout* rollout, double value) {
  rollout->status = record::Status::kComplete;
  rollout->finish = record::Finish::kStop;
  record::Reward reward;
  reward.value = value;
  reward.status = "ok";
  reward.scorer = "bench";
  rollout->reward = reward;
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
  for (int64_t done = 0; done < groups; done += kGroupsAtOnce) {
    const std::vector<uint64_t> keys = Lease(store, std::min(kGroupsAtOnce, groups - done));
    for (size_t next = 0; next < keys.size();) {
      PutCounts counts;
      std::set<uint64_t> leases;
      const auto put = [&](Batch& batch) {
        for (; next < keys.size() && batch.size_bytes() < 1u << 20; ++next) {
          record::Rollout rollout = store.ReadRollout(keys[next]);
          Extend(&rollout, tokens);
          PutRecord(store, batch, record::EncodeRecord(rollout), &counts, &leases);
        }
      };
      store.Transact(put, Wait::kAsLongAsAllowed);
    }
  }
  store.Sync();
}

void Stream(const std::string& directory, int64_t groups, int64_t tokens, const std::string& file, const std::string& records) {
  Store store(SystemFiles(), SystemClock(), directory);
  record::RecordWriter writer(file, StreamHeader(store.state().config()), {.compress = false});
  std::ofstream bare(records, std::ios::binary);
  for (const uint64_t key : Lease(store, groups)) {
    record::Rollout rollout = store.ReadRollout(key);
    Extend(&rollout, tokens);
    Finish(&rollout, static_cast<double>(key % 2));
    writer.Write(rollout);
    bare << record::EncodeRecord(rollout);
  }
  writer.Finish(stream::EndStatus::kOk);
}

void Open(const std::string& directory, int rounds) {
  for (int round = 0; round < rounds; ++round) {
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
}

/// Steps as fast as they get ready, so that what the hub holds stays bounded.
void Train(const std::string& address, const std::atomic<bool>& stop, std::atomic<int64_t>* steps) {
  HubClient hub(address, "trainer", 60'000);
  hub.Hello("commit");
  for (int64_t step = hub.FirstStep(std::nullopt); !stop;) {
    const ClaimAnswer answer = hub.Claim(step, 0, std::nullopt);
    if (answer.state != ClaimAnswer::State::kGranted) {
      std::this_thread::sleep_for(std::chrono::milliseconds(answer.poll_ms));
      continue;
    }
    record::Step record;
    record.claim = answer.claim->id;
    record.step = step;
    record.version = static_cast<uint64_t>(step) + 1;
    record.checkpoint = "c";
    hub.Commit(record);
    *steps = ++step;
  }
  hub.Bye();
}

struct Latencies {
  std::vector<double> lease_s, put_s;
};

void Work(const std::string& address, int worker, const std::atomic<bool>& stop, Latencies* latencies) {
  HubClient hub(address, "g" + std::to_string(worker), 60'000);
  hub.Hello("generate");
  while (!stop) {
    double begin = Seconds();
    LeaseAnswer answer = hub.Lease(1, {}, 1);
    if (answer.rollouts.empty()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(answer.poll_ms));
      continue;
    }
    latencies->lease_s.push_back(Seconds() - begin);
    record::Rollout& rollout = answer.rollouts[0];
    Extend(&rollout, 16);
    Finish(&rollout, static_cast<double>(rollout.index % 2));
    std::set<uint64_t> leases;
    begin = Seconds();
    hub.Put({record::EncodeRecord(rollout)}, &leases);
    latencies->put_s.push_back(Seconds() - begin);
  }
  hub.Bye();
}

Json Quantiles(std::vector<double> seconds) {
  if (seconds.empty()) return {};
  std::sort(seconds.begin(), seconds.end());
  const auto at = [&](double share) { return 1e3 * seconds[static_cast<size_t>(share * static_cast<double>(seconds.size() - 1))]; };
  return {{"count", seconds.size()}, {"p50_ms", at(0.5)}, {"p99_ms", at(0.99)}, {"max_ms", at(1)}};
}

void LoadHub(const std::string& address, double seconds, int workers) {
  std::atomic<bool> stop = false;
  std::atomic<int64_t> steps = 0;
  std::vector<Latencies> latencies(static_cast<size_t>(workers));
  std::vector<std::thread> threads;
  const double begin = Seconds();
  for (int worker = 0; worker < workers; ++worker)
    threads.emplace_back([&, worker] { Work(address, worker, stop, &latencies[static_cast<size_t>(worker)]); });
  std::thread trainer([&] { Train(address, stop, &steps); });
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  stop = true;
  for (std::thread& thread : threads) thread.join();
  const double elapsed = Seconds() - begin;
  trainer.join();
  Latencies all;
  for (const Latencies& one : latencies) {
    all.lease_s.insert(all.lease_s.end(), one.lease_s.begin(), one.lease_s.end());
    all.put_s.insert(all.put_s.end(), one.put_s.begin(), one.put_s.end());
  }
  const auto operations = static_cast<double>(all.lease_s.size() + all.put_s.size());
  Print({{"figure", "hub_operations"},
         {"unit", "1/s"},
         {"workers", workers},
         {"seconds", elapsed},
         {"operations_s", operations / elapsed},
         {"lease", Quantiles(all.lease_s)},
         {"put", Quantiles(all.put_s)},
         {"steps", steps.load()}});
}

int Run(const std::vector<std::string>& arguments) {
  const auto number = [&](size_t i) { return std::stoll(arguments.at(i)); };
  const std::string& what = arguments.at(0);
  if (what == "fill") return Fill(arguments.at(1), number(2), number(3)), 0;
  if (what == "stream") return Stream(arguments.at(1), number(2), number(3), arguments.at(4), arguments.at(5)), 0;
  if (what == "open") return Open(arguments.at(1), arguments.size() > 2 ? static_cast<int>(number(2)) : 1), 0;
  if (what == "hub") return LoadHub(arguments.at(1), static_cast<double>(number(2)), static_cast<int>(number(3))), 0;
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
