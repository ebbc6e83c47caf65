#include "stream/rpc.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <thread>

#include "base/error.h"
#include "stream/zmq_socket.h"
#include "temp_dir.h"

using namespace april;
using namespace april::stream;
using april::test::TempDir;

namespace {

/// Serves in a thread until destroyed.
class ServerThread {
 public:
  ServerThread(const std::string& endpoint, RpcServer::Handler handler)
      : server_(RpcServer::Bind(endpoint)), thread_([this, handler] {
          while (!stop_) server_->Serve(handler, 20);
        }) {}
  ~ServerThread() {
    stop_ = true;
    thread_.join();
  }

 private:
  std::unique_ptr<RpcServer> server_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

}  // namespace

TEST_CASE("Requests are answered; errors arrive with kind, message and hint") {
  const TempDir dir;
  const std::string endpoint = "zmq+ipc://" + dir.Path("hub");
  const ServerThread server(endpoint, [](const Map& request) -> Map {
    if (Find(request, "fail")) throw Error::NotReady("3 of 8 groups", "wait");
    return {{"twice", 2 * Find(request, "number")->AsInt()}};
  });
  const auto client = RpcClient::Connect(endpoint, 5000);
  for (int i = 0; i < 200; ++i) REQUIRE(Find(client->Call({{"number", i}}), "twice")->AsInt() == 2 * i);
  try {
    client->Call({{"fail", true}});
    FAIL("the error did not arrive");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kNotReady);
    CHECK(error.message() == "3 of 8 groups");
    CHECK(error.hint() == "wait");
  }
  CHECK(Find(client->Call({{"number", 4}}), "twice")->AsInt() == 8);
}

TEST_CASE("A server at localhost is found there and at its address; an address elsewhere is refused with a hint") {
  const std::string port = std::to_string(20'000 + ::getpid() % 20'000);
  {
    const ServerThread server("zmq+tcp://localhost:" + port, [](const Map&) -> Map { return {{"here", true}}; });
    for (const char* host : {"localhost", "127.0.0.1"}) {
      const auto client = RpcClient::Connect("zmq+tcp://" + std::string(host) + ":" + port, 5000);
      CHECK(Find(client->Call({}), "here")->AsBool());
    }
  }
  for (const char* host : {"*", "127.0.0.1", "lo"}) CHECK_NOTHROW(RpcServer::Bind("zmq+tcp://" + std::string(host) + ":" + port));
  try {
    RpcServer::Bind("zmq+tcp://203.0.113.1:" + port);  // an address for documentation: no machine has it
    FAIL("it was bound");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kRuntime);
    CHECK_THAT(error.message(), Catch::Contains("cannot bind @zmq+tcp://203.0.113.1:" + port));
    CHECK_THAT(error.hint(), Catch::Contains("an address of this machine"));
  }
}

TEST_CASE("Several clients at once, with large requests and answers") {
  const TempDir dir;
  const std::string endpoint = "zmq+ipc://" + dir.Path("hub");
  const ServerThread server(endpoint, [](const Map& request) -> Map { return {{"data", *Find(request, "data")}}; });
  std::vector<std::thread> threads;
  std::atomic<int> right = 0;
  for (int c = 0; c < 4; ++c) {
    threads.emplace_back([&, c] {
      const auto client = RpcClient::Connect(endpoint, 20'000);
      for (int i = 0; i < 5; ++i) {
        const Value data = Bin{std::string(1 << 20, static_cast<char>('a' + c + i))};
        right += *Find(client->Call({{"data", data}}), "data") == data;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(right == 20);
}

TEST_CASE("A repeated request gets the same answer and is handled once") {
  const TempDir dir;
  const std::string endpoint = "zmq+ipc://" + dir.Path("hub");
  std::atomic<int> handled = 0;
  const ServerThread server(endpoint, [&](const Map&) -> Map { return {{"count", ++handled}}; });
  ZmqSocket socket(ZmqSocket::Kind::kDealer, Endpoint::Parse(endpoint));
  const auto ask = [&](uint64_t seq) {
    const std::string request = Encode(Map{{"incarnation", 77}, {"seq", seq}});
    while (!socket.Send({request})) socket.Wait(true, false, 1000);
    std::vector<std::string> parts;
    for (int i = 0; i < 100 && !socket.Receive(&parts); ++i) socket.Wait(false, false, 100);
    REQUIRE(parts.size() == 1);
    return Decode(parts[0]);
  };
  const Value first = ask(1);
  CHECK(ask(1) == first);
  CHECK(ask(1) == first);
  CHECK(handled == 1);
  CHECK(Find(ask(2).AsMap(), "count")->AsInt() == 2);
}

TEST_CASE("A request that comes again over a new connection, before it was answered, is answered there too") {
  const TempDir dir;
  const std::string endpoint = "zmq+ipc://" + dir.Path("hub");
  const auto server = RpcServer::Bind(endpoint);
  ZmqSocket first(ZmqSocket::Kind::kDealer, Endpoint::Parse(endpoint)), second(ZmqSocket::Kind::kDealer, Endpoint::Parse(endpoint));
  const std::string request = Encode(Map{{"incarnation", 77}, {"seq", 1}});
  for (ZmqSocket* socket : {&first, &second}) {
    while (!socket->Send({request})) socket->Wait(true, false, 1000);
    std::this_thread::sleep_for(std::chrono::milliseconds(200));  // both wait at the server, in this order
  }
  int handled = 0;
  for (ZmqSocket* socket : {&first, &second}) {
    std::vector<std::string> parts;
    for (int i = 0; i < 50 && !socket->Receive(&parts); ++i) server->Serve([&](const Map&) -> Map { return {{"count", ++handled}}; }, 100);
    CHECK(parts.size() == 1);
  }
  CHECK(handled == 1);
}

TEST_CASE("A client outlives its server's restart", "[slow]") {
  const TempDir dir;
  const std::string endpoint = "zmq+ipc://" + dir.Path("hub");
  const auto answer = [](int value) { return [value](const Map&) -> Map { return {{"value", value}}; }; };
  const auto client = RpcClient::Connect(endpoint, 20'000);
  {
    const ServerThread server(endpoint, answer(1));
    CHECK(Find(client->Call({}), "value")->AsInt() == 1);
  }
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    const ServerThread server(endpoint, answer(2));
    std::this_thread::sleep_for(std::chrono::milliseconds(2500));
  });
  CHECK(Find(client->Call({}), "value")->AsInt() == 2);
  later.join();
}

TEST_CASE("A request whose server dies before answering is sent again to the next one", "[slow]") {
  const TempDir dir;
  const std::string endpoint = "zmq+ipc://" + dir.Path("hub");
  const pid_t child = ::fork();
  if (child == 0) {
    const auto server = RpcServer::Bind(endpoint);
    server->Serve([](const Map&) -> Map { ::_exit(0); }, 10'000);  // dies with the request in hand
    ::_exit(1);
  }
  std::thread later([&] {
    ::waitpid(child, nullptr, 0);
    const ServerThread server(endpoint, [](const Map& request) -> Map { return {{"seq_seen", *Find(request, "seq")}}; });
    std::this_thread::sleep_for(std::chrono::milliseconds(2500));
  });
  const auto client = RpcClient::Connect(endpoint, 20'000);
  CHECK(Find(client->Call({}), "seq_seen")->AsInt() == 1);
  later.join();
}

TEST_CASE("Nobody there, and nobody answering, are lost peers after the timeout", "[slow]") {
  const TempDir dir;
  const std::string endpoint = "zmq+ipc://" + dir.Path("hub");
  const auto client = RpcClient::Connect(endpoint, 200);
  try {
    client->Call({});
    FAIL("nobody answered");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kPeer);
    CHECK_THAT(error.what(), Catch::Contains("no server at"));
  }
}

TEST_CASE("Sockets say what is wrong with their address") {
  const TempDir dir;
  CHECK_THROWS_WITH(RpcClient::Connect("zmq+ipc://" + dir.Path("missing/hub"), 100), Catch::Contains("does not exist"));
  CHECK_THROWS_WITH(RpcServer::Bind("zmq+ipc://" + dir.Path("missing/hub")), Catch::Contains("does not exist"));
  CHECK_THROWS_WITH(RpcServer::Bind("some/file"), Catch::Contains("is no socket"));
  const auto server = RpcServer::Bind("zmq+ipc://" + dir.Path("hub"));
  CHECK_THROWS_WITH(RpcServer::Bind("zmq+ipc://" + dir.Path("hub")), Catch::Contains("served by another process"));
}

TEST_CASE("Requests that cannot be read are ignored, and the server lives on") {
  const TempDir dir;
  const std::string endpoint = "zmq+ipc://" + dir.Path("hub");
  const ServerThread server(endpoint, [](const Map&) -> Map { return {{"fine", true}}; });
  ZmqSocket socket(ZmqSocket::Kind::kDealer, Endpoint::Parse(endpoint));
  for (const std::string junk : {"", "\xc1", "junk", "\x80"}) {
    while (!socket.Send({junk})) socket.Wait(true, false, 1000);
    while (!socket.Send({junk, junk})) socket.Wait(true, false, 1000);
  }
  CHECK(Find(RpcClient::Connect(endpoint, 5000)->Call({}), "fine")->AsBool());
}
