// SPDX-License-Identifier: Apache-2.0
// The clients of tools/bench: many connections to a memcached, each with one request at a time.
//
//   bench-load ADDRESS PORT get|set REQUEST RESPONSE CONNECTIONS RATE ACKS SECONDS
//
// Requests of REQUEST bytes; a get is answered with RESPONSE bytes. Sizes are whole: commands, line
// ends and all. RATE is in requests a second, over all connections; 0: each connection sends its
// next request as soon as it has its answer. With a rate, latency counts from when a request was
// due, so that a server which stalls cannot hide what it delays.
//
// Prints "ready" when it is connected and warm, goes on at a line on its standard input, prints the
// result as JSON, and keeps its connections until its standard input ends.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <iostream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::nanoseconds;
using Seconds = std::chrono::duration<double>;

constexpr char kKey[] = "bench";
constexpr size_t kMaxKey = 250; // memcached's protocol.txt
constexpr size_t kReceive = 1 << 18;
constexpr auto kWarm = std::chrono::milliseconds(300);

struct Plan {
  sockaddr_in6 server{}; // IPv4 as ::ffff:a.b.c.d, which the kernel connects to by IPv4
  bool get = false, acks = false;
  unsigned connections = 0;
  size_t request = 0, response = 0;
  double rate = 0, seconds = 0;
};

struct Connection {
  int fd = -1;
  size_t to_send = 0, to_receive = 0; // bytes
  bool writing = false;               // waits for room to send
  Clock::time_point due;
};

[[noreturn]] void fail(const std::string &what) {
  throw std::system_error(errno, std::generic_category(), what);
}

std::string set_command(size_t value) {
  return "set " + std::string(kKey) + " 0 0 " + std::to_string(value) + "\r\n" +
         std::string(value, 'v') + "\r\n";
}

std::string get_answer(size_t value) {
  return "VALUE " + std::string(kKey) + " 0 " + std::to_string(value) + "\r\n" +
         std::string(value, 'v') + "\r\nEND\r\n";
}

// The size of the value with which make() gives so many bytes in all.
size_t value_for(std::string (*make)(size_t), size_t total) {
  for (size_t digits = 1; digits < 10; digits++) {
    const size_t rest = make(0).size() - 1 + digits;
    if (total >= rest && std::to_string(total - rest).size() == digits)
      return total - rest;
  }
  throw std::invalid_argument("no value makes " + std::to_string(total) + " bytes");
}

// A get of our key and, to fill it up, of keys that nobody has set.
std::string get_command(size_t total) {
  std::string line = "get " + std::string(kKey);
  while (line.size() + 2 < total) {
    const size_t left = total - 2 - line.size();
    size_t n = std::min(left, kMaxKey + 1);
    if (left - n == 1) // a blank needs a key behind it
      n--;
    line += " " + std::string(n - 1, 'k');
  }
  line += "\r\n";
  if (line.size() != total)
    throw std::invalid_argument("no get has " + std::to_string(total) + " bytes");
  return line;
}

int connected(const sockaddr_in6 &server) {
  const int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int one = 1;
  if (fd < 0 || connect(fd, reinterpret_cast<const sockaddr *>(&server), sizeof server))
    fail("connect");
  if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one))
    fail("TCP_NODELAY");
  return fd;
}

class Load {
public:
  explicit Load(const Plan &plan) : plan_(plan), buffer_(kReceive) {
    command_ =
        plan.get ? get_command(plan.request) : set_command(value_for(set_command, plan.request));
    answer_ = plan.get ? get_answer(value_for(get_answer, plan.response)) : "STORED\r\n";
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_ < 0)
      fail("epoll_create1");
  }

  void open() {
    if (plan_.get)
      provide();
    crowd_.resize(plan_.connections);
    for (Connection &c : crowd_) {
      c.fd = connected(plan_.server);
      epoll_event e{};
      e.events = EPOLLIN;
      e.data.ptr = &c;
      if (epoll_ctl(epoll_, EPOLL_CTL_ADD, c.fd, &e))
        fail("epoll_ctl");
      idle_.push_back(&c);
    }
  }

  // Sends for so long, then waits for what is still to come.
  void run(Clock::duration length) {
    latencies_.clear();
    begin_ = Clock::now();
    const Clock::time_point end = begin_ + length;
    started_ = 0;
    while (true) {
      const Clock::time_point now = Clock::now();
      if (now >= end) {
        if (busy_ == 0)
          break;
        if (now > end + std::chrono::seconds(20))
          throw std::runtime_error(std::to_string(busy_) + " requests were never answered");
      } else {
        start_due(now);
      }
      wait(now, end);
    }
    elapsed_ = Clock::now() - begin_;
  }

  nlohmann::json result() {
    std::sort(latencies_.begin(), latencies_.end());
    const auto at = [this](double q) {
      const size_t n = latencies_.size();
      return n ? static_cast<double>(
                     latencies_[std::min(n - 1, static_cast<size_t>(q * static_cast<double>(n)))]) /
                     1000
               : 0.0;
    };
    return {{"requests", latencies_.size()},
            {"seconds", Seconds(elapsed_).count()},
            {"sent", latencies_.size() * command_.size()},
            {"received", latencies_.size() * answer_.size()},
            {"late", late_},
            {"latency_us",
             {{"p50", at(0.5)}, {"p99", at(0.99)}, {"p99.9", at(0.999)}, {"max", at(1)}}}};
  }

private:
  // The value that all gets ask for.
  void provide() {
    const std::string set = set_command(value_for(get_answer, plan_.response));
    const int fd = connected(plan_.server);
    for (size_t at = 0; at < set.size();) {
      const ssize_t n = send(fd, set.data() + at, set.size() - at, MSG_NOSIGNAL);
      if (n < 0)
        fail("send");
      at += static_cast<size_t>(n);
    }
    char said[64];
    const ssize_t n = recv(fd, said, sizeof said, 0);
    if (n < 6 || std::memcmp(said, "STORED", 6) != 0)
      throw std::runtime_error("the value was not stored");
    close(fd);
  }

  void start_due(Clock::time_point now) {
    if (plan_.rate <= 0) {
      while (!idle_.empty())
        start(now);
      return;
    }
    while (true) {
      const Clock::time_point due =
          begin_ + std::chrono::duration_cast<nanoseconds>(Seconds(started_ / plan_.rate));
      if (due > now)
        return;
      if (idle_.empty()) {
        late_++; // it goes when an answer comes; its latency counts from when it was due
        return;
      }
      start(due);
    }
  }

  void start(Clock::time_point due) {
    Connection &c = *idle_.front();
    idle_.pop_front();
    busy_++;
    started_++;
    c.due = due;
    c.to_send = command_.size();
    c.to_receive = answer_.size();
    flush(c);
  }

  void flush(Connection &c) {
    while (c.to_send) {
      const ssize_t n = send(c.fd, command_.data() + command_.size() - c.to_send, c.to_send,
                             MSG_DONTWAIT | MSG_NOSIGNAL);
      if (n < 0 && errno != EAGAIN)
        fail("send");
      if (n < 0)
        break;
      c.to_send -= static_cast<size_t>(n);
    }
    if (c.writing != (c.to_send > 0)) {
      c.writing = c.to_send > 0;
      epoll_event e{};
      e.events = c.writing ? EPOLLIN | EPOLLOUT : EPOLLIN;
      e.data.ptr = &c;
      if (epoll_ctl(epoll_, EPOLL_CTL_MOD, c.fd, &e))
        fail("epoll_ctl");
    }
  }

  void receive(Connection &c) {
    const ssize_t n = recv(c.fd, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
      return;
    if (n <= 0)
      fail(n ? "recv" : "the server closed a connection");
    const size_t got = static_cast<size_t>(n);
    if (got > c.to_receive || !c.to_receive)
      throw std::runtime_error("more of an answer than expected");
    if (std::memcmp(buffer_.data(), answer_.data() + answer_.size() - c.to_receive,
                    std::min<size_t>(got, 64)) != 0)
      throw std::runtime_error("unexpected answer: " +
                               std::string(buffer_.data(), std::min<size_t>(got, 60)));
    c.to_receive -= got;
    if (c.to_receive)
      return;
    const int one = 1;
    if (plan_.acks && setsockopt(c.fd, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof one))
      fail("TCP_QUICKACK");
    latencies_.push_back(std::chrono::duration_cast<nanoseconds>(Clock::now() - c.due).count());
    busy_--;
    idle_.push_back(&c);
  }

  void wait(Clock::time_point now, Clock::time_point end) {
    nanoseconds length = std::chrono::milliseconds(100);
    if (now < end && plan_.rate > 0 && !idle_.empty()) {
      const Clock::time_point due =
          begin_ + std::chrono::duration_cast<nanoseconds>(Seconds(started_ / plan_.rate));
      length = std::clamp<nanoseconds>(due - Clock::now(), nanoseconds(0), length);
    }
    if (now < end)
      length = std::min<nanoseconds>(length, end - now);
    const timespec t{length.count() / 1000000000, length.count() % 1000000000};
    epoll_event events[256];
    const int n = epoll_pwait2(epoll_, events, 256, &t, nullptr);
    if (n < 0 && errno != EINTR)
      fail("epoll_pwait2");
    for (int i = 0; i < n; i++) {
      Connection &c = *static_cast<Connection *>(events[i].data.ptr);
      if (events[i].events & EPOLLOUT)
        flush(c);
      if (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP))
        receive(c);
    }
  }

  const Plan plan_;
  std::string command_, answer_;
  std::vector<char> buffer_;
  int epoll_ = -1;
  std::vector<Connection> crowd_;
  std::deque<Connection *> idle_; // the longest idle first: all connections take part
  unsigned busy_ = 0;
  double started_ = 0;
  uint64_t late_ = 0;
  Clock::time_point begin_;
  Clock::duration elapsed_{};
  std::vector<int64_t> latencies_; // ns
};

Plan plan_of(char **argv) {
  Plan p;
  const std::string address = argv[1];
  const std::string wide = address.find(':') == std::string::npos ? "::ffff:" + address : address;
  p.server.sin6_family = AF_INET6;
  if (inet_pton(AF_INET6, wide.c_str(), &p.server.sin6_addr) != 1)
    throw std::invalid_argument("not an IP address: " + address);
  p.server.sin6_port = htons(static_cast<uint16_t>(std::stoul(argv[2])));
  p.get = std::string(argv[3]) == "get";
  p.connections = static_cast<unsigned>(std::stoul(argv[6]));
  p.request = std::stoul(argv[4]);
  p.response = std::stoul(argv[5]);
  p.rate = std::stod(argv[7]);
  p.acks = std::stoi(argv[8]) != 0;
  p.seconds = std::stod(argv[9]);
  return p;
}

int run(char **argv) {
  const Plan plan = plan_of(argv);
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL,
        0UL); // 50 us by default: the distance of requests at 20,000/s
  Load load(plan);
  load.open();
  load.run(kWarm);
  std::cout << "ready" << std::endl;
  std::string line;
  std::getline(std::cin, line);
  load.run(std::chrono::duration_cast<Clock::duration>(Seconds(plan.seconds)));
  std::cout << load.result().dump() << std::endl;
  while (std::getline(std::cin, line)) {
  }
  return 0;
}

} // namespace

int main(int argc, char **argv) {
  if (argc != 10) {
    std::cerr << "usage: bench-load ADDRESS PORT get|set REQUEST RESPONSE CONNECTIONS RATE ACKS "
                 "SECONDS\n";
    return 2;
  }
  try {
    return run(argv);
  } catch (const std::exception &e) {
    std::cerr << "bench-load: " << e.what() << "\n";
    return 1;
  }
}
