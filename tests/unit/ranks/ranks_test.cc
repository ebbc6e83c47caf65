// What ranks exchange, and what they say when one is lost.
#include "ranks/ranks.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <thread>

#include "ranks/watch.h"
#include "several_ranks.h"
#include "stream/rpc.h"

using namespace april;
using namespace april::ranks;

namespace {

const Work kWork = {{"the program", "a"}, {"--lr", "0.1"}};

void Sleep(int64_t ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

/// One that rounds at every addition.
float ValueOf(int rank, size_t index) { return 1.0f + static_cast<float>(rank + 1) * 1e-4f * static_cast<float>(index % 97); }

/// NCCL's is tests/stand_in/nccl.cc.
#if defined(APRIL_NCCL)
auto EveryBackend() { return GENERATE(Backend::kGloo, Backend::kNccl); }
#else
auto EveryBackend() { return Backend::kGloo; }
#endif

Place Over(Backend backend, Place place) {
  place.backend = backend;
  return place;
}

}  // namespace

TEST_CASE("one rank alone exchanges nothing") {
  const auto ranks = Ranks::Join({}, kWork);
  CHECK(ranks->size() == 1);
  CHECK(ranks->IsFirst());
  CHECK(ranks->Broadcast("abc") == "abc");
  std::vector<float> values = {1, 2};
  const Reduction reduction{0, values};
  ranks->Add({&reduction, 1});
  CHECK(values == std::vector<float>{1, 2});
  ranks->Finish();
}

TEST_CASE("bytes go where they shall, sums are added in the order of ranks") {
  constexpr size_t kNum = 7'000'001;  // several messages, and more than NCCL's buffers take at once
  const Backend backend = EveryBackend();
  const auto failures = RunRanks(3, [&](const Place& place) {
    const auto ranks = Ranks::Join(Over(backend, place), kWork);
    const int self = ranks->rank();
    const std::string text = ranks->Broadcast(self == 0 ? std::string(6 * kNum, 'x') + "end" : "not this");
    if (text.size() != 6 * kNum + 3 || !text.ends_with("xend")) throw Error::Data("another text");
    if (!ranks->Broadcast("").empty()) throw Error::Data("something of nothing");

    std::vector<int64_t> numbers = {-1, -1, -1};
    numbers[static_cast<size_t>(self)] = self;
    std::vector<Transfer> transfers;
    for (int from = 0; from < 3; ++from) transfers.push_back({from, kEveryOther, &numbers[static_cast<size_t>(from)], sizeof(int64_t)});
    ranks->Move(transfers);
    if (numbers != std::vector<int64_t>{0, 1, 2}) throw Error::Data("other numbers");

    int64_t secret = self == 2 ? 42 : 0;
    const Transfer transfer{2, 0, &secret, sizeof secret};
    ranks->Move({&transfer, 1});
    if (secret != (self == 1 ? 0 : 42)) throw Error::Data("the secret is " + std::to_string(secret));
    std::string large(self == 1 ? 0 : 10 * kNum, static_cast<char>('a' + self));  // several messages, and nowhere to put them at the rank between
    const Transfer whole{2, 0, self == 1 ? nullptr : large.data(), 10 * kNum};
    ranks->Move({&whole, 1});
    if (self == 0 && large != std::string(10 * kNum, 'c')) throw Error::Data("another large text");

    for (int round = 0; round < 2; ++round) {
      std::vector<float> values(kNum);
      for (size_t i = 0; i < kNum; ++i) values[i] = ValueOf(self, i);
      if (self == round) Sleep(50);  // whoever comes last
      const size_t half = kNum / 2;
      const std::vector<Reduction> reductions = {{2, std::span(values).first(half)}, {1, std::span(values).subspan(half)}};
      ranks->Add(reductions);
      for (size_t i = 0; i < kNum; ++i) {
        const bool owns = self == (i < half ? 2 : 1);
        const float expected = owns ? (ValueOf(0, i) + ValueOf(1, i)) + ValueOf(2, i) : ValueOf(self, i);
        if (values[i] != expected) throw Error::Data("sum " + std::to_string(i) + " is another");
      }
    }
    ranks->Finish();
  });
  CHECK(failures == std::vector<std::string>(3));
}

TEST_CASE("ranks whose work differs are refused on all sides, naming what differs") {
  const auto failures = RunRanks(3, [](const Place& place) {
    Work work = kWork;
    if (place.rank == 2) work["--lr"] = "0.2";
    Ranks::Join(place, work)->Finish();
  });
  for (const std::string& failure : failures) {
    CHECK_THAT(failure,
               Catch::StartsWith("4 the ranks disagree on --lr: rank 0 (") && Catch::Contains("has 0.1, rank 2 (") && Catch::EndsWith("has 0.2"));
  }
}

TEST_CASE("ranks that were started as of another number, or twice, are refused") {
  const int port = FreePort();
  std::atomic<int> seen = 0;
  const auto come = [&](int rank, int size, const std::string& expected) {
    try {
      Ranks::Join({rank, size, "127.0.0.1", port, 500}, kWork)->Finish();
    } catch (const Error& error) {
      if (error.message().find(expected) == std::string::npos) throw std::runtime_error(error.message());
      ++seen;
    }
  };
  std::thread first([&] { come(0, 3, "rank 2 of 3 did not come within"); });
  std::thread second([&] { come(1, 3, "rank 2 of 3 did not come within"); });
  Sleep(500);
  come(1, 2, "rank 0 is one of 3, and a process came as rank 1 of 2");
  come(1, 3, "rank 1 is there already");
  first.join();
  second.join();
  CHECK(seen == 4);
}

TEST_CASE("a rank that fails is named by all others, also by those that wait for somebody else") {
  const Backend backend = EveryBackend();
  const size_t num_bytes = GENERATE(8, 1'000'000);  // of an order, of weights
  const auto failures = RunRanks(3, [&](const Place& place) {
    const auto ranks = Ranks::Join(Over(backend, place), kWork);
    if (place.rank == 1) throw Error::Runtime("disk full");
    // Rank 0 waits for rank 2, which waits for rank 1.
    std::string value(num_bytes, '\0');
    const std::vector<Transfer> transfers = {{1, 2, value.data(), value.size()}, {2, 0, value.data(), value.size()}};
    const auto patience = num_bytes == 8 ? Ranks::Patience::kWhileAlive : Ranks::Patience::kLimited;
    for (const Transfer& transfer : transfers) ranks->Move({&transfer, 1}, patience);
    ranks->Finish();
  });
  CHECK(failures[1] == "1 disk full");
  for (const size_t rank : {0, 2}) CHECK_THAT(failures[rank], Catch::StartsWith("6 rank 1 (") && Catch::EndsWith("is lost: it failed"));
}

TEST_CASE("rank 0 that fails is named, and a rank that goes before the end is missed") {
  auto failures = RunRanks(2, [](const Place& place) {
    const auto ranks = Ranks::Join(place, kWork);
    if (place.rank == 0) throw Error::Runtime("disk full");
    ranks->Broadcast("", Ranks::Patience::kWhileAlive);
  });
  CHECK_THAT(failures[1], Catch::StartsWith("6 rank 0 (") && Catch::EndsWith("is lost: it failed"));
  failures = RunRanks(2, [](const Place& place) {
    const auto ranks = Ranks::Join(place, kWork);
    if (place.rank == 0) ranks->Finish();
  });
  CHECK_THAT(failures[0], Catch::StartsWith("6 rank 1 (") && Catch::EndsWith("is lost: it failed"));
}

TEST_CASE("a rank that lives and does not come is waited for until a limit, and named") {
  const bool to_the_end = GENERATE(true, false);
  const Backend backend = EveryBackend();
  std::atomic<int> gone = 0;
  const auto failures = RunRanks(3, [&](Place place) {
    place.patience_ms = 1'000;
    const auto ranks = Ranks::Join(Over(backend, place), kWork);
    if (place.rank == 2) {
      while (gone < 2) Sleep(10);
      return;
    }
    try {
      std::string value(100'000, '\0');
      const Transfer transfer{2, kEveryOther, value.data(), value.size()};
      if (!to_the_end) ranks->Move({&transfer, 1});
      ranks->Finish();
    } catch (const Error&) {
      ++gone;
      throw;
    }
  });
  const std::string why = std::string("is lost: it lives, and did not come ") + (to_the_end ? "to the end within 1.0 s" : "within 1.0 s");
  for (const size_t rank : {0, 1}) CHECK_THAT(failures[rank], Catch::StartsWith("6 rank 2 (") && Catch::EndsWith(why));
  CHECK(failures[2].empty());
}

TEST_CASE("a rank that waits for the end is told for whom") {
  const stream::Map join = {{"names", stream::Array{"a", "b", "c"}}, {"address", "127.0.0.1"}}, beat = {{"over", false}, {"waits_for", 2}};
  Place place{1, 3, "127.0.0.1", FreePort(), 20'000};
  place.patience_ms = 1'000;
  const auto server = stream::RpcServer::Bind("zmq+tcp://127.0.0.1:" + std::to_string(place.port));
  std::atomic<bool> ending = false;
  std::thread hub([&] {
    while (!ending) server->Serve([&](const stream::Map& request) { return stream::Find(request, "process") ? join : beat; }, 20);
  });
  CHECK_THROWS_WITH(Watch::Start(place, kWork)->Finish(), "rank 2 (c) is lost: it lives, and did not come to the end within 1.0 s");
  ending = true;
  hub.join();
}

TEST_CASE("a message that lacks something, or has something else, is answered and changes nothing") {
  const int port = FreePort();
  const Place first{0, 2, "127.0.0.1", port, 20'000}, second{1, 2, "127.0.0.1", port, 20'000};
  std::string failure;
  std::thread hub([&] {
    try {
      Ranks::Join(first, kWork)->Finish();
    } catch (const Error& error) {
      failure = error.message();
    }
  });
  const stream::Map join = {{"kind", "join"},       {"rank", 1}, {"size", 2}, {"process", 7}, {"name", "x"}, {"address", "127.0.0.1"},
                            {"work", stream::Map{}}};
  const stream::Map beat = {{"kind", "beat"}, {"rank", 1}, {"size", 2}, {"done", true}, {"lost", 1}, {"why", "?"}};
  const auto client = stream::RpcClient::Connect("zmq+tcp://127.0.0.1:" + std::to_string(port), 20'000);
  const auto refused = [&](stream::Map message) { CHECK_THROWS_AS(client->Call(std::move(message)), Error); };
  for (const stream::Map& whole : {join, beat}) {
    for (size_t i = 0; i < whole.size(); ++i) {
      stream::Map message = whole;
      message[i].second = stream::Array{};
      refused(message);
      if (whole[i].first == "lost") continue;  // nobody is lost, mostly
      message.erase(message.begin() + static_cast<std::ptrdiff_t>(i));
      refused(message);
    }
  }
  stream::Map message = join;
  stream::Set(message, "work", stream::Map{{"--lr", 1}});
  refused(message);
  message = beat;
  stream::Set(message, "lost", 7);
  refused(message);
  refused(beat);  // of a rank that did not join
  stream::Set(message, "kind", "leave");
  refused(message);
  Ranks::Join(second, kWork)->Finish();
  hub.join();
  CHECK(failure.empty());
}

TEST_CASE("answers that rank 0 would not give end a rank with an error, and later ones count as silence") {
  const stream::Map good_join = {{"names", stream::Array{"a", "b"}}, {"address", "127.0.0.1"}}, good_beat = {{"over", true}};
  const auto [to_join, to_beat] = GENERATE_COPY(table<stream::Map, stream::Map>({{stream::Map{}, good_beat},
                                                                                 {{{"refused", 4}}, good_beat},
                                                                                 {{{"refused", "no"}}, good_beat},
                                                                                 {{{"names", 1}}, good_beat},
                                                                                 {{{"names", stream::Array{1}}}, good_beat},
                                                                                 {{{"names", stream::Array{"a", "b"}}}, good_beat},
                                                                                 {{{"waits_for", 1}}, good_beat},
                                                                                 {good_join, {}},
                                                                                 {good_join, {{"over", 1}}},
                                                                                 {good_join, {{"lost", 0}}},
                                                                                 {good_join, {{"over", false}, {"waits_for", 9}}},
                                                                                 {good_join, {{"lost", 9}, {"why", "?"}}}}));
  const Place place{1, 2, "127.0.0.1", FreePort(), 300};
  const auto server = stream::RpcServer::Bind("zmq+tcp://127.0.0.1:" + std::to_string(place.port));
  std::atomic<bool> ending = false;
  std::thread hub([&, join = to_join, beat = to_beat] {
    while (!ending) server->Serve([&](const stream::Map& request) { return stream::Find(request, "process") ? join : beat; }, 20);
  });
  if (to_join == good_join) {
    CHECK_THROWS_WITH(Watch::Start(place, kWork)->Finish(), Catch::StartsWith("rank 0 (a) is lost: nothing was heard of it"));
  } else {
    CHECK_THROWS_AS(Watch::Start(place, kWork), Error);
  }
  ending = true;
  hub.join();
}

TEST_CASE("a rank that ended before all were there can be started again, once it has been silent") {
  const int port = FreePort();
  const Place places[] = {{0, 3, "127.0.0.1", port, 400}, {1, 3, "127.0.0.1", port, 400}, {2, 3, "127.0.0.1", port, 400}};
  std::atomic<int> done = 0;
  const auto join = [&](const Place& place) {
    return std::thread([&] {
      Ranks::Join(place, kWork)->Finish();
      ++done;
    });
  };
  std::thread hub = join(places[0]);
  const auto client = stream::RpcClient::Connect("zmq+tcp://127.0.0.1:" + std::to_string(port), 20'000);
  client->Call({{"kind", "join"}, {"rank", 1}, {"size", 3}, {"process", 7}, {"name", "x"}, {"address", "127.0.0.1"}, {"work", stream::Map{}}});
  CHECK_THROWS_WITH(Ranks::Join(places[1], kWork), Catch::StartsWith("rank 1 is there already (x)"));
  Sleep(600);
  std::thread again = join(places[1]), last = join(places[2]);
  for (std::thread* thread : {&hub, &again, &last}) thread->join();
  CHECK(done == 3);
}

TEST_CASE("whatever Gloo throws is told as the loss of that rank") {
  const auto failures = RunRanks(
      2,
      [](const Place& place) {
        const auto ranks = Ranks::Join(place, kWork);
        int64_t value = 0;
        const Transfer transfer{7, 0, &value, sizeof value};  // there is none: a check of Gloo's own fails, which throws no gloo::Exception
        ranks->Move({&transfer, 1});
        ranks->Finish();
      },
      /*timeout_ms=*/500);
  CHECK_THAT(failures[0], Catch::StartsWith("6 rank 7 is lost: its connection closed ("));
}

#if defined(APRIL_NCCL)

namespace {

/// A variable of the stand-in's, while it lives.
class Setting {
 public:
  Setting(const char* name, const char* value) : name_(name) { ::setenv(name, value, 1); }
  ~Setting() { ::unsetenv(name_); }
  Setting(const Setting&) = delete;
  Setting& operator=(const Setting&) = delete;

 private:
  const char* name_;
};

/// What three ranks say that exchange something large over NCCL: a sum, or one rank's bytes.
std::vector<std::string> ExchangeOverNccl(
    bool sums = true, const std::function<void(Place*)>& change = [](Place*) {}) {
  return RunRanks(3, [&](Place place) {
    place.backend = Backend::kNccl;
    change(&place);
    const auto ranks = Ranks::Join(place, kWork);
    std::vector<float> values(100'000);
    const Reduction reduction{0, values};
    const Transfer transfer{2, kEveryOther, values.data(), values.size() * sizeof(float)};
    sums ? ranks->Add({&reduction, 1}) : ranks->Move({&transfer, 1});
    ranks->Finish();
  });
}

}  // namespace

TEST_CASE("a rank on which NCCL fails is named by all, though its end reaches the others as a broken connection") {
  const bool sums = GENERATE(true, false);
  const Setting setting("STAND_IN_FAILS", "1");
  const auto failures = ExchangeOverNccl(sums);
  const char* why = "is lost: NCCL failed on it: unhandled cuda error (a stand-in)";
  CHECK_THAT(failures[1], Catch::StartsWith("6 this process, rank 1 (") && Catch::EndsWith(why));
  for (const size_t rank : {0, 2}) CHECK_THAT(failures[rank], Catch::StartsWith("6 rank 1 (") && Catch::EndsWith(why));
}

TEST_CASE("a rank whose connections break names itself before the others, which see them break first, name themselves") {
  const Setting setting("STAND_IN_BREAKS", "1");
  const auto failures = ExchangeOverNccl(true, [](Place* place) { place->timeout_ms = 2'000; });
  const char* why = "is lost: NCCL failed on it: unhandled system error (a stand-in)";
  CHECK_THAT(failures[1], Catch::StartsWith("6 this process, rank 1 (") && Catch::EndsWith(why));
  for (const size_t rank : {0, 2}) CHECK_THAT(failures[rank], Catch::StartsWith("6 rank 1 (") && Catch::EndsWith(why));
}

TEST_CASE("an exchange over NCCL that does not end is given up") {
  const Setting setting("STAND_IN_HANGS", "1");
  for (const std::string& failure : ExchangeOverNccl(true, [](Place* place) { place->patience_ms = 5'000; }))
    CHECK_THAT(failure, Catch::StartsWith("6 ") && Catch::EndsWith("NCCL did not end within 5.0 s; which rank keeps it is not known"));
}

TEST_CASE("ranks that would share a GPU are refused by NCCL, and ranks over different backends by each other") {
  const Setting setting("STAND_IN_GPUS", "2");  // of three ranks the third has the first one's
  for (const std::string& failure : ExchangeOverNccl())
    CHECK_THAT(failure, Catch::StartsWith("6 ") && Catch::Contains("each rank needs a GPU of its own"));
  const auto differs = [](Place* place) { place->backend = place->rank == 1 ? Backend::kGloo : Backend::kNccl; };
  for (const std::string& failure : ExchangeOverNccl(true, differs))
    CHECK_THAT(failure, Catch::StartsWith("4 the ranks disagree on --rank-backend: rank 0 (") && Catch::Contains("has nccl 2."));
}

TEST_CASE("without a GPU --rank-backend nccl is refused before any other rank is waited for") {
  const Setting setting("STAND_IN_GPUS", "0");
  Place place{1, 2, "127.0.0.1", FreePort(), 20'000};
  place.backend = Backend::kNccl;
  CHECK_THROWS_WITH(Ranks::Join(place, kWork), "--rank-backend nccl: there is no GPU for this process: no CUDA-capable device is detected");
}

#endif  // APRIL_NCCL
