// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/reach.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <set>

#include "userspace/kernel/conntrack.h"
#include "userspace/kernel/netfilter.h"
#include "userspace/kernel/sock_diag.h"
#include "userspace/util/fd.h"

namespace doppel {
namespace {
using Clock = std::chrono::steady_clock;

constexpr unsigned kPatienceMs = 500;

struct Attempt {
  Reached reached;
  Address target;
  uint16_t port = 0;
  Fd socket;
  int error = EINPROGRESS;
};

Attempt begin(const TargetConfig &t) {
  Attempt a;
  a.target = t.address;
  a.port = t.port;
  a.reached.endpoint = endpoint_text(t.address, t.port);
  a.socket = Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(t.port);
  to.sin_addr.s_addr = t.address.raw.w[3];
  if (!a.socket)
    a.error = errno;
  else if (::connect(a.socket.get(), reinterpret_cast<const sockaddr *>(&to), sizeof(to)))
    a.error = errno;
  else
    a.error = 0;
  return a;
}

void await(std::vector<Attempt> &attempts, unsigned timeout_ms) {
  const auto until = Clock::now() + std::chrono::milliseconds(timeout_ms);
  for (Attempt &a : attempts) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
    pollfd p{a.socket.get(), POLLOUT, 0};
    if (a.error != EINPROGRESS || ::poll(&p, 1, left > 0 ? static_cast<int>(left) : 0) <= 0)
      continue;
    socklen_t size = sizeof(a.error);
    if (::getsockopt(a.socket.get(), SOL_SOCKET, SO_ERROR, &a.error, &size))
      a.error = errno;
  }
}

// Where the kernel leads the connection, if that is not where it was meant to go.
Address led_to(const Attempt &a) {
  sockaddr_in self{};
  socklen_t size = sizeof(self);
  if (::getsockname(a.socket.get(), reinterpret_cast<sockaddr *>(&self), &size))
    return {};
  const Address own = Address::v4(self.sin_addr.s_addr);
  // A BPF program at connect() changes the socket itself.
  Address other;
  const uint16_t port = ntohs(self.sin_port);
  (void)each_tcp_socket({{{port, port}}, {}}, [&](const TcpSocket &s) {
    if (Address{s.local} == own && s.local_port == self.sin_port &&
        !(Address{s.remote} == a.target))
      other = Address{s.remote};
  });
  if (other.is_set())
    return other;
  const auto tracked = passed_to(own.raw, self.sin_port, a.target.raw, htons(a.port));
  return tracked && !(*tracked == a.target) ? *tracked : Address{};
}

bool has_connect_programs() {
  const Fd root(::open("/sys/fs/cgroup", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  uint32_t flags = 0, ids[64], count = 64;
  return root &&
         !bpf_prog_query(root.get(), BPF_CGROUP_INET4_CONNECT, BPF_F_QUERY_EFFECTIVE, &flags, ids,
                         &count) &&
         count > 0;
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

std::vector<Reached> connect_to_targets(const Config &config, unsigned timeout_ms) {
  std::vector<Attempt> attempts;
  std::set<std::string> known;
  for (const MappingConfig &m : config.mappings)
    for (const TargetConfig &t : m.targets)
      if (t.address.is_v4() && known.insert(endpoint_text(t.address, t.port)).second)
        attempts.push_back(begin(t));
  await(attempts, timeout_ms);
  std::vector<Reached> all;
  for (Attempt &a : attempts) {
    using Answer = Reached::Answer;
    a.reached.answer = a.error == 0                                     ? Answer::accepts
                       : a.error == ECONNREFUSED                        ? Answer::refuses
                       : a.error == EINPROGRESS || a.error == ETIMEDOUT ? Answer::silent
                                                                        : Answer::failed;
    if (a.error == 0)
      a.reached.other = led_to(a);
    all.push_back(a.reached);
  }
  return all;
}

std::vector<std::string> translated_targets(const Config &config) {
  std::vector<std::string> sentences;
  if (!output_rules().translates && !has_connect_programs())
    return sentences;
  for (const Reached &r : connect_to_targets(config, kPatienceMs))
    if (r.other.is_set())
      sentences.push_back(r.text());
  return sentences;
}

} // namespace doppel
