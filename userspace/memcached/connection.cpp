// SPDX-License-Identifier: Apache-2.0
#include "userspace/memcached/connection.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>

#include "userspace/util/clock.h"

namespace doppel::memcached {
namespace {
// Reads in a row, so that one server does not keep the others waiting.
constexpr unsigned kReads = 16;

} // namespace

struct Connection::Turn {
  Connection *connection;
  std::string_view request;
  const Take *take;
  size_t sent = 0;
  bool done = false;
  uint64_t first_sent_ns = 0;
  uint64_t progress_ns = 0;
  uint64_t bytes = 0; // either way since then

  bool unsent() const { return sent < request.size(); }
  void progress() {
    progress_ns = monotonic_ns();
    bytes = 0;
  }
};

Result<sockaddr_storage> Connection::peer() const {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  if (::getpeername(transport_.fd(), reinterpret_cast<sockaddr *>(&address), &size) != 0)
    return sys_error(server_.text(), "has no address any more", errno);
  return address;
}

Error Connection::error(const std::string &what, const std::string &hint) const {
  return {server_.text(), what, hint, Exit::failure};
}

Error Connection::closed() const {
  if (answers_.rest().empty())
    return error("the server closed the connection");
  return error("the server closed the connection in the middle of an answer");
}

Status Connection::begin(Turn &turn) {
  last_answer_us_ = 0;
  turn.progress();
  if (broken_)
    return error("an earlier answer was not read to its end");
  if (!answers_.rest().empty())
    return error("an answer came that nobody asked for: " + quoted_answer(answers_.rest()));
  return Unit{};
}

Status Connection::send(Turn &turn) {
  while (turn.unsent()) {
    // The server may have answered by the time that this process is given the processor again.
    if (turn.sent == 0)
      turn.first_sent_ns = monotonic_ns();
    const Moved m =
        transport_.write(turn.request.data() + turn.sent, turn.request.size() - turn.sent);
    if (m.how == Moved::How::again)
      break;
    if (m.how != Moved::How::done) {
      // Its last words may tell why.
      closed_ = true;
      TRY(receive(turn));
      if (turn.done)
        break;
      return error("cannot be written to: " + transport_.why());
    }
    turn.sent += m.bytes;
    moved(turn, m.bytes);
    if (!turn.unsent())
      turn.progress();
  }
  return Unit{};
}

// Bytes alone are progress where they are many: a line is of no use before its end.
void Connection::moved(Turn &turn, size_t bytes) const {
  turn.bytes += bytes;
  if (turn.bytes * 1000 >= kLeastRate * timeout_ms_)
    turn.progress();
}

Status Connection::hand_out(Turn &turn) {
  Answer answer;
  bool whole = false;
  for (;;) {
    switch (answers_.next(answer)) {
    case Answers::Next::more:
      if (whole)
        turn.progress();
      return Unit{};
    case Answers::Next::malformed:
      return error("does not answer as memcached does: " + quoted_answer(answers_.rest()),
                   "does a memcached listen there?");
    case Answers::Next::answer:
      break;
    }
    if (last_answer_us_ == 0 && turn.first_sent_ns != 0)
      last_answer_us_ = std::max<uint64_t>(1, (monotonic_ns() - turn.first_sent_ns) / 1000);
    whole = true;
    if (!(*turn.take)(answer)) {
      turn.done = true;
      return Unit{};
    }
  }
}

Status Connection::receive(Turn &turn) {
  for (unsigned i = 0; i < kReads && !turn.done; i++) {
    char *to = answers_.room();
    const Moved m = transport_.read(to, answers_.room_size());
    if (m.how == Moved::How::again)
      return Unit{};
    if (m.how == Moved::How::closed) {
      closed_ = true;
      return closed();
    }
    if (m.how == Moved::How::failed) {
      closed_ = true;
      return error("the connection breaks: " + transport_.why());
    }
    answers_.filled(m.bytes);
    moved(turn, m.bytes);
    TRY(hand_out(turn));
  }
  return Unit{};
}

Status Connection::move(Turn &turn, short events) {
  // TLS may want to write in order to read, and the other way round.
  if (events != 0 && turn.unsent())
    TRY(send(turn));
  if ((events & ~POLLOUT) != 0 || transport_.pending() || (transport_.events(false) & events) != 0)
    TRY(receive(turn));
  if (turn.done && turn.unsent())
    broken_ = true;
  return Unit{};
}

Status Connection::run(std::vector<Turn> &turns) {
  std::vector<pollfd> polled;
  std::vector<Turn *> open;
  for (Turn &t : turns)
    TRY(t.connection->begin(t));
  for (;;) {
    polled.clear();
    open.clear();
    const uint64_t now = monotonic_ns();
    int wait_ms = -1;
    for (Turn &t : turns) {
      if (t.done)
        continue;
      Connection &c = *t.connection;
      const uint64_t until = t.progress_ns + c.timeout_ms_ * kMsNs;
      // After its time it is looked at once more: this process may have been what stood still.
      const int left =
          c.transport_.pending() || now >= until ? 0 : static_cast<int>((until - now) / kMsNs) + 1;
      wait_ms = wait_ms < 0 ? left : std::min(wait_ms, left);
      polled.push_back({c.transport_.fd(), c.transport_.events(t.unsent()), 0});
      open.push_back(&t);
    }
    if (open.empty())
      return Unit{};
    if (::poll(polled.data(), polled.size(), wait_ms) < 0) {
      if (errno != EINTR)
        return sys_error("poll", "fails", errno);
      continue;
    }
    for (size_t i = 0; i < open.size(); i++)
      TRY(open[i]->connection->move(*open[i], polled[i].revents));
    for (const Turn *t : open)
      TRY(t->connection->overdue(*t, now));
  }
}

Status Connection::overdue(const Turn &turn, uint64_t now) const {
  if (turn.done || now < turn.progress_ns + timeout_ms_ * kMsNs)
    return Unit{};
  const std::string what = answers_.rest().empty() ? "no answer" : "no whole answer";
  return error(what + " for " + std::to_string(timeout_ms_) + " ms",
               "--timeout gives a slow server more time");
}

Status Connection::converse(std::string_view request, const Take &take) {
  std::vector<Turn> turns(1);
  turns[0].connection = this;
  turns[0].request = request;
  turns[0].take = &take;
  auto status = run(turns);
  broken_ = broken_ || !status;
  return status;
}

Status converse_all(std::vector<Exchange> &all) {
  std::vector<Connection::Turn> turns(all.size());
  for (size_t i = 0; i < all.size(); i++) {
    turns[i].connection = all[i].connection;
    turns[i].request = all[i].request;
    turns[i].take = &all[i].take;
  }
  auto status = Connection::run(turns);
  for (const Exchange &e : all)
    e.connection->broken_ = e.connection->broken_ || !status;
  return status;
}

} // namespace doppel::memcached
