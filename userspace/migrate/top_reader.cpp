// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/top_reader.h"

#include <algorithm>

#include "userspace/mirror/counters.h"
#include "userspace/view/render.h"

namespace doppel::migrate {
namespace {
using Clock = std::chrono::steady_clock;
constexpr size_t kHistory = 300; // intervals

} // namespace

TopReader::TopReader(std::vector<memcached::Server> servers, memcached::Access access)
    : named_(std::move(servers)), access_(std::move(access)) {}

TopReader::Known &TopReader::known(const memcached::Server &server) {
  auto &known = known_[server.text()];
  if (!known)
    known = std::make_unique<Known>(Known{server, ServerWatch(server, access_), {}, {}});
  return *known;
}

void TopReader::seat(const std::string &side, const std::string &mapping,
                     const memcached::Server &server) {
  const bool there = std::any_of(seats_.begin(), seats_.end(),
                                 [&](const Seat &s) { return s.server.text() == server.text(); });
  if (!there)
    seats_.push_back({side, mapping, server});
}

void TopReader::find_seats() {
  seats_.clear();
  pairs_.clear();
  const auto attached = find_attached("top");
  mirror_absent_ = attached ? "" : attached.errors().front().what;
  if (attached) {
    const auto mappings = ends_of(attached->meta.mappings);
    if (const auto listeners = listeners_of(mappings))
      for (const MappingEnds &m : mappings)
        if (const auto sources = sources_of(m, *listeners)) // else its source is elsewhere
          for (const auto &servers : sources->ports)
            for (Pair &pair : pairs_at(m, servers[0]))
              pairs_.push_back(std::move(pair));
  }
  for (const Pair &pair : pairs_) {
    seat("source", pair.mapping, pair.source);
    seat("target", pair.mapping, pair.target);
  }
  for (const memcached::Server &server : named_)
    seat("", "", server);
}

void TopReader::begin() {
  find_seats();
  for (const Seat &s : seats_) {
    Known &k = known(s.server);
    k.answer.reset();
    k.watch.ask();
  }
}

bool TopReader::answered() {
  bool all = true;
  for (const Seat &s : seats_) {
    Known &k = known(s.server);
    if (!k.answer)
      k.answer = k.watch.answer(Clock::now());
    all &= k.answer.has_value();
  }
  return all;
}

TopServer TopReader::take(const Seat &s, Clock::time_point until) {
  Known &k = known(s.server);
  if (!k.answer)
    k.answer = k.watch.answer(until);
  TopServer server{s.server.text(), s.side, s.mapping, {}, {}, {}};
  if (!k.answer)
    server.away = "has not answered yet";
  else if (!*k.answer)
    server.away = k.answer->errors().front().what;
  if (!server.away.empty()) {
    k.last.reset(); // what happened meanwhile is no interval's
    return server;
  }
  server.now = **k.answer;
  if (k.last)
    server.window = between(*k.last, *server.now);
  k.last = server.now;
  return server;
}

TopModel TopReader::finish(Clock::time_point until) {
  TopModel model;
  for (const Seat &s : seats_)
    model.servers.push_back(take(s, until));
  const auto now = Clock::now();
  model.now = std::time(nullptr);
  if (finished_)
    model.interval_s = std::chrono::duration<double>(now - *finished_).count();
  finished_ = now;
  const auto place = [&](const memcached::Server &server) {
    const auto at = std::find_if(seats_.begin(), seats_.end(),
                                 [&](const Seat &s) { return s.server.text() == server.text(); });
    return static_cast<size_t>(at - seats_.begin());
  };
  for (const Pair &pair : pairs_) {
    const size_t a = place(pair.source), b = place(pair.target);
    auto &history = warmth_[pair.text()];
    history.push_back(warmth_of(model.servers[a], model.servers[b]));
    if (history.size() > kHistory)
      history.erase(history.begin());
    model.pairs.push_back({pair.mapping, a, b, history});
  }
  model.mirror_absent = mirror_absent_;
  if (mirror_absent_.empty()) {
    if (auto counters = read_counters()) {
      if (!before_ || before_->attached != counters->attached)
        counters->over_ns = 0; // averages since attach are none of the interval
      else
        measure_rates(*counters, *before_);
      before_ = *counters;
      model.counters = std::move(*counters);
    } else {
      model.mirror_absent = counters.errors().front().what;
    }
  }
  return model;
}

} // namespace doppel::migrate
