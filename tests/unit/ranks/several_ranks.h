// Several ranks as threads of one process, over the loopback interface.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "ranks/ranks.h"

namespace april::ranks {

/// A port that nobody listens on.
inline int FreePort() {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ::bind(fd, reinterpret_cast<sockaddr*>(&address), size);
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  ::close(fd);
  return ntohs(address.sin_port);
}

/// Runs `action(place)` once for each rank; returns what each threw: exit code and message, "" for none.
inline std::vector<std::string> RunRanks(int size, const std::function<void(const Place& place)>& action, int64_t timeout_ms = 20'000) {
  const int port = FreePort();
  std::vector<std::string> failures(static_cast<size_t>(size));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        Place place{rank, size, "127.0.0.1", port, timeout_ms};
        place.local_rank = rank;
        action(place);
      } catch (const Error& error) {
        failures[static_cast<size_t>(rank)] = std::to_string(static_cast<int>(error.kind())) + " " + error.message();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return failures;
}

}  // namespace april::ranks
