// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/reach.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <set>

#include "userspace/kernel/conntrack.h"
#include "userspace/kernel/netfilter.h"
#include "userspace/kernel/sock_diag.h"
#include "userspace/kernel/socket_address.h"
#include "userspace/util/fd.h"

namespace doppel {
namespace {
using Clock = std::chrono::steady_clock;

// Where the kernel leads the connection, if that is not where it was meant to go.
Address led_to(int socket, const Address &target, uint16_t port_there) {
  const Endpoint own = own_end(socket);
  if (!own.address.is_set())
    return {};
  // A BPF program at connect() changes the socket itself.
  Address other;
  (void)each_tcp_socket({{{own.port, own.port}}, {}}, [&](const TcpSocket &s) {
    if (Address{s.local} == own.address && ntohs(s.local_port) == own.port &&
        !(Address{s.remote} == target))
      other = Address{s.remote};
  });
  if (other.is_set())
    return other;
  const auto tracked = passed_to(own.address.raw, htons(own.port), target.raw, htons(port_there));
  return tracked && !(*tracked == target) ? *tracked : Address{};
}

bool has_connect_programs(const std::set<Family> &families) {
  const Fd root(::open("/sys/fs/cgroup", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return root && std::any_of(families.begin(), families.end(), [&](Family family) {
           const auto hook =
               family == Family::v6 ? BPF_CGROUP_INET6_CONNECT : BPF_CGROUP_INET4_CONNECT;
           uint32_t flags = 0, ids[64], count = 64;
           return !bpf_prog_query(root.get(), hook, BPF_F_QUERY_EFFECTIVE, &flags, ids, &count) &&
                  count > 0;
         });
}

} // namespace

std::string Reached::text() const {
  if (other.is_set())
    return "target " + endpoint + ": this host's own connections are led to " + other.text() +
           " (DNAT, IPVS or a BPF program), and copies are not: they go to the address itself; "
           "name " +
           other.text() + " as the target, with the port there";
  switch (answer) {
  case Answer::accepts:
    return "target " + endpoint + " accepts connections";
  case Answer::refuses:
    return "target " + endpoint + " refuses connections: nothing listens there";
  case Answer::failed:
    return "target " + endpoint + " cannot be reached from here";
  case Answer::silent:
    break;
  }
  return "target " + endpoint + " does not answer";
}

struct Connects::Attempt {
  explicit Attempt(const TargetConfig &t) : target(t.address), port(t.port) {
    reached.endpoint = endpoint_text(t.address, t.port);
    const SocketAddress to = socket_address({t.address, t.port});
    socket = Fd(::socket(to.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const bool done = socket && !::connect(socket.get(), to.get(), to.size);
    settle(done ? 0 : errno);
  }

  bool answered() const { return !socket; }

  // Its answer is known, and it closes.
  void settle(int error) {
    using Answer = Reached::Answer;
    if (error == EINPROGRESS)
      return;
    reached.answer = error == 0              ? Answer::accepts
                     : error == ECONNREFUSED ? Answer::refuses
                     : error == ETIMEDOUT    ? Answer::silent
                                             : Answer::failed;
    if (error == 0)
      reached.other = led_to(socket.get(), target, port);
    socket = Fd();
  }

  Reached reached;
  Address target;
  uint16_t port = 0; // host byte order
  Fd socket;         // none: answered
};

Connects::Connects(const std::vector<TargetConfig> &targets) {
  std::set<std::string> known;
  for (const TargetConfig &t : targets)
    if (t.address.is_set() && known.insert(endpoint_text(t.address, t.port)).second)
      attempts_.emplace_back(t);
}

Connects::Connects(Connects &&) noexcept = default;
Connects &Connects::operator=(Connects &&) noexcept = default;
Connects::~Connects() = default;

bool Connects::wait(unsigned ms) {
  const auto until = Clock::now() + std::chrono::milliseconds(ms);
  bool all = true;
  for (Attempt &a : attempts_) {
    if (a.answered())
      continue;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
    pollfd p{a.socket.get(), POLLOUT, 0};
    int error = EINPROGRESS;
    socklen_t size = sizeof(error);
    if (::poll(&p, 1, left > 0 ? static_cast<int>(left) : 0) > 0)
      a.settle(::getsockopt(a.socket.get(), SOL_SOCKET, SO_ERROR, &error, &size) ? errno : error);
    all &= a.answered();
  }
  return all;
}

std::vector<Reached> Connects::answers() {
  wait(0);
  std::vector<Reached> all;
  for (const Attempt &a : attempts_)
    all.push_back(a.reached);
  return all;
}

std::vector<Reached> connect_to_targets(const Config &config) {
  std::vector<TargetConfig> targets;
  for (const MappingConfig &m : config.mappings)
    targets.insert(targets.end(), m.targets.begin(), m.targets.end());
  Connects connections(targets);
  connections.wait(kReachMs);
  return connections.answers();
}

std::vector<std::string> translated_targets(const Config &config) {
  std::vector<std::string> sentences;
  const std::set<Family> families = target_families(config);
  if (!output_rules(families).translates && !has_connect_programs(families))
    return sentences;
  for (const Reached &r : connect_to_targets(config))
    if (r.other.is_set())
      sentences.push_back(r.text());
  return sentences;
}

} // namespace doppel
