// SPDX-License-Identifier: Apache-2.0
// Reads what `doppel top` shows, look after look.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "userspace/memcached/access.h"
#include "userspace/migrate/ends.h"
#include "userspace/migrate/server_reader.h"
#include "userspace/migrate/top_model.h"

namespace doppel::migrate {

class TopReader {
public:
  // `servers`: those that the user named. Those of the mirror's mappings are found by themselves,
  // each time anew: a mirror may come, go and change.
  TopReader(std::vector<memcached::Server> servers, memcached::Access access);

  const memcached::Access &access() const { return access_; }

  // Asks all servers. Comes back at once.
  void begin();
  // All have answered.
  bool answered();
  // The figures since the last finish(). A server that has not answered until then is away.
  TopModel finish(std::chrono::steady_clock::time_point until);

private:
  // A server, and what is known of it.
  struct Known {
    memcached::Server server;
    ServerWatch watch;
    std::optional<Result<ServerSample>> answer; // to the question of begin()
    std::optional<ServerSample> last;           // of the interval before
  };
  struct Seat {
    std::string side, mapping;
    memcached::Server server;
  };

  Known &known(const memcached::Server &server);
  void find_seats();
  void seat(const std::string &side, const std::string &mapping, const memcached::Server &server);
  TopServer take(const Seat &seat, std::chrono::steady_clock::time_point until);

  std::vector<memcached::Server> named_;
  memcached::Access access_;
  std::map<std::string, std::unique_ptr<Known>> known_; // by text
  std::vector<Seat> seats_;                             // of this look, each server once
  std::vector<Pair> pairs_;
  std::map<std::string, std::vector<std::optional<double>>> warmth_; // by Pair::text()
  std::optional<Counters> before_;
  std::string mirror_absent_;
  std::optional<std::chrono::steady_clock::time_point> finished_;
};

} // namespace doppel::migrate
