// The hub under load, one JSON line.
//   bench_hub ADDRESS SECONDS WORKERS SERVER_PID
//                                           leases and puts, one small rollout at a time, by so many workers; a trainer takes what gets ready
// Each worker is a session over a connection of its own with one request under way. One thread drives them all, so that what is measured on a small
// machine is the server and not the switching between its clients.
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <fstream>
#include <string>
#include <thread>
#include <vector>
#include <zmq.hpp>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "base/rng.h"
#include "buffer/hub_client.h"
#include "buffer/map_fields.h"
#include "record/io.h"
#include "rollouts.h"

namespace april::buffer {
namespace {

using stream::Array;
using stream::Bin;
using stream::Map;

double Seconds() { return SystemClock().MonotonicSeconds(); }

/// CPU time of this process.
double OwnCpuSeconds() {
  rusage usage = {};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) { return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec); };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

/// CPU time of another process.
double CpuSecondsOf(const std::string& pid) {
  std::ifstream file("/proc/" + pid + "/stat");
  std::string word;
  for (int field = 1; field < 14; ++field) file >> word;
  double user = 0, system = 0;
  file >> user >> system;
  if (!file) throw Error::Runtime("no process " + pid);
  return (user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

struct Latencies {
  std::vector<double> lease_s, put_s;
  int64_t empty = 0;  ///< leases that brought nothing: enough was ready
};

/// One generator and its sink: leases a rollout, puts it finished, and so on.
class Worker {
 public:
  Worker(zmq::context_t& context, const std::string& address, int number, Latencies* latencies)
      : socket_(context, zmq::socket_type::dealer), name_("g" + std::to_string(number)), latencies_(latencies) {
    socket_.set(zmq::sockopt::linger, 0);
    socket_.connect(address);
    Ask("hello", {});
  }

  zmq::socket_t& socket() { return socket_; }
  bool gone() const { return asked_.empty(); }
  double wakes_s() const { return wakes_s_; }  ///< when it asks again; 0: it waits for an answer
  void Next(bool ending) {
    if (ending) return Ask("bye", {});
    Ask("lease", {{"request", ++num_leases_}, {"want", 1}, {"held", Array{}}, {"version", 1}});
  }

  /// Takes the answer that came and asks the next thing.
  void Go(bool ending) {
    zmq::message_t message;
    if (!socket_.recv(message, zmq::recv_flags::dontwait)) return;
    const double took_s = Seconds() - begin_s_;
    const stream::Value value = stream::Decode(message.to_string_view());
    const MapFields answer(value.AsMap(), "answer of the hub");
    if (answer.Has("error")) throw Error::Runtime("the hub: " + stream::Find(answer.Map("error"), "message")->AsString());
    if (asked_ == "lease") return Put(answer, took_s);
    if (asked_ == "bye") return asked_.clear();
    if (asked_ == "put") latencies_->put_s.push_back(took_s);
    Next(ending);
  }

 private:
  void Put(const MapFields& lease, double took_s) {
    const Array& rollouts = lease.Array("rollouts");
    if (rollouts.empty()) {
      ++latencies_->empty;
      wakes_s_ = Seconds() + 1e-3 * static_cast<double>(lease.Int("poll_ms"));
      return;
    }
    latencies_->lease_s.push_back(took_s);
    record::Record record = record::DecodeRecord(rollouts[0].AsBin());
    auto& rollout = std::get<record::Rollout>(record);
    bench::Extend(&rollout, 16);
    bench::Finish(&rollout, static_cast<double>(rollout.index % 2));
    Ask("put", {{"records", Array{Bin{record::EncodeRecord(rollout)}}}});
  }

  void Ask(const char* op, Map arguments) {
    Map request = {{"op", op}, {"session", session_}, {"worker", name_}, {"role", "generate"}, {"incarnation", session_}, {"seq", ++seq_}};
    for (auto& argument : arguments) request.push_back(std::move(argument));
    wakes_s_ = 0;
    asked_ = op;
    begin_s_ = Seconds();
    socket_.send(zmq::buffer(stream::Encode(request)), zmq::send_flags::none);
  }

  zmq::socket_t socket_;
  std::string name_, asked_;
  Latencies* latencies_;
  uint64_t session_ = RandomId(), seq_ = 0, num_leases_ = 0;
  double begin_s_ = 0, wakes_s_ = 0;
};

void Drive(const std::string& address, int workers, double until_s, Latencies* latencies) {
  constexpr double kTimeoutS = 30;
  zmq::context_t context;
  std::vector<Worker> all;
  std::vector<zmq::pollitem_t> items;
  for (int worker = 0; worker < workers; ++worker) all.emplace_back(context, address, worker, latencies);
  for (Worker& worker : all) items.push_back({worker.socket().handle(), 0, ZMQ_POLLIN, 0});
  const auto is_gone = [](const Worker& worker) { return worker.gone(); };
  for (double now = Seconds(), heard_s = now; !std::all_of(all.begin(), all.end(), is_gone); now = Seconds()) {
    const bool ending = now >= until_s;
    double next_s = std::max(until_s, now + 1);
    for (Worker& worker : all) {
      if (worker.wakes_s() > 0 && (ending || worker.wakes_s() <= now)) worker.Next(ending);
      if (worker.wakes_s() > 0) next_s = std::min(next_s, worker.wakes_s());
    }
    zmq::poll(items, std::chrono::milliseconds(1 + static_cast<int64_t>(1e3 * (next_s - now))));
    for (size_t i = 0; i < all.size(); ++i) {
      if (items[i].revents == 0) continue;
      all[i].Go(ending);
      heard_s = now;
    }
    if (now - heard_s > kTimeoutS) throw Error::Peer("no answer from " + address);
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
    ++step;
    ++*steps;
  }
  hub.Bye();
}

Json Quantiles(std::vector<double> seconds) {
  if (seconds.empty()) return {};
  std::sort(seconds.begin(), seconds.end());
  const auto at = [&](double share) { return 1e3 * seconds[static_cast<size_t>(share * static_cast<double>(seconds.size() - 1))]; };
  return {{"count", seconds.size()}, {"p50_ms", at(0.5)}, {"p99_ms", at(0.99)}, {"max_ms", at(1)}};
}

void Load(const std::string& address, double seconds, int workers, const std::string& server) {
  std::atomic<bool> stop = false;
  std::atomic<int64_t> steps = 0;
  Latencies latencies;
  const double begin = Seconds(), own_cpu_s = OwnCpuSeconds(), server_cpu_s = CpuSecondsOf(server);
  std::thread trainer([&] { Train(address, stop, &steps); });
  try {
    Drive(address.substr(std::string_view("zmq+").size()), workers, begin + seconds, &latencies);
  } catch (...) {
    stop = true;
    trainer.join();
    throw;
  }
  const double elapsed = Seconds() - begin;
  const auto operations = static_cast<double>(latencies.lease_s.size() + latencies.put_s.size());
  const Json line = {{"figure", "hub_operations"},
                     {"unit", "1/s"},
                     {"workers", workers},
                     {"seconds", elapsed},
                     {"operations_s", operations / elapsed},
                     {"server_cpu_us", 1e6 * (CpuSecondsOf(server) - server_cpu_s) / operations},
                     {"client_cpu_us", 1e6 * (OwnCpuSeconds() - own_cpu_s) / operations},
                     {"lease", Quantiles(latencies.lease_s)},
                     {"put", Quantiles(latencies.put_s)},
                     {"empty", latencies.empty},
                     {"steps", steps.load()}};
  std::printf("%s\n", line.dump().c_str());
  stop = true;
  trainer.join();
}

}  // namespace
}  // namespace april::buffer

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: bench_hub ADDRESS SECONDS WORKERS SERVER_PID\n");
    return 2;
  }
  try {
    april::buffer::Load(argv[1], std::stod(argv[2]), std::stoi(argv[3]), argv[4]);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_hub: %s\n", error.what());
    return 1;
  }
}
