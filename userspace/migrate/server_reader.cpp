// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/server_reader.h"

#include <thread>

#include "userspace/util/clock.h"

namespace doppel::migrate {
using memcached::Access;
using memcached::Answer;
using memcached::Connection;
using memcached::Server;

Result<ServerSample> read_sample(Connection &connection) {
  auto sample = sample_of(TRY(memcached::stats(connection)));
  sample.at_ns = monotonic_ns();
  // A server that has no meta commands answers as well, with ERROR.
  TRY(connection.converse("mn\r\n", [](const Answer &) { return false; }));
  sample.answer_us = connection.last_answer_us();
  return sample;
}

Result<ServerSample> read_sample(const Server &server, const Access &access) {
  const auto connection = TRY(Connection::open(server, access));
  return read_sample(*connection);
}

struct ServerWatch::Reader {
  Server server;
  Access access;
  std::unique_ptr<Connection> connection;

  Result<ServerSample> read() {
    const bool kept = connection != nullptr;
    if (!kept)
      connection = TRY(Connection::open(server, access));
    auto sample = read_sample(*connection);
    if (!sample)
      connection.reset();
    // One that the server closed meanwhile, for it was idle or was started anew.
    return sample || !kept ? std::move(sample) : read();
  }
};

ServerWatch::ServerWatch(const Server &server, const Access &access)
    : reader_(std::make_shared<Reader>(Reader{server, access, nullptr})) {}

void ServerWatch::ask() {
  if (waits())
    return;
  std::packaged_task<Result<ServerSample>()> task([reader = reader_] { return reader->read(); });
  asked_ = task.get_future();
  std::thread(std::move(task)).detach(); // who quits does not wait for it
}

std::optional<Result<ServerSample>>
ServerWatch::answer(std::chrono::steady_clock::time_point until) {
  if (!waits() || asked_.wait_until(until) != std::future_status::ready)
    return std::nullopt;
  return asked_.get();
}

} // namespace doppel::migrate
