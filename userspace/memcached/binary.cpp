// SPDX-License-Identifier: Apache-2.0
#include "userspace/memcached/binary.h"

#include <poll.h>

#include <array>
#include <optional>
#include <string>

#include "userspace/memcached/transport.h"
#include "userspace/util/clock.h"

namespace doppel::memcached {
namespace {
constexpr size_t kHeader = 24;
constexpr char kNoop = 0x0a, kSaslAuth = 0x21;
constexpr unsigned kSuccess = 0, kAuthError = 0x20;

std::string request_of(char opcode, const std::string &key, const std::string &value) {
  std::string r(kHeader, '\0');
  const size_t body = key.size() + value.size();
  r[0] = static_cast<char>(0x80);
  r[1] = opcode;
  r[3] = static_cast<char>(key.size());
  r[10] = static_cast<char>(body >> 8);
  r[11] = static_cast<char>(body);
  return r + key + value;
}

// The status of the answer to it; nothing: no answer in that protocol.
std::optional<unsigned> answer_to(Transport &t, const std::string &request, uint64_t deadline_ns) {
  std::array<char, 4096> answer{};
  size_t sent = 0, got = 0;
  for (;;) {
    if (sent < request.size())
      if (const Moved m = t.write(request.data() + sent, request.size() - sent);
          m.how == Moved::How::done)
        sent += m.bytes;
    const Moved m = t.read(answer.data() + got, answer.size() - got);
    if (m.how == Moved::How::done)
      got += m.bytes;
    else if (m.how != Moved::How::again)
      return std::nullopt;
    const auto byte = [&](size_t at) { return static_cast<unsigned char>(answer[at]); };
    if (got > 0 && byte(0) != 0x81)
      return std::nullopt;
    if (got >= kHeader) {
      const size_t body = static_cast<size_t>(byte(10)) << 8 | byte(11);
      if (got >= kHeader + body || got == answer.size())
        return byte(6) << 8 | byte(7);
    }
    const uint64_t now = monotonic_ns();
    pollfd p{t.fd(), t.events(sent < request.size()), 0};
    if (now >= deadline_ns)
      return std::nullopt;
    ::poll(&p, 1, static_cast<int>((deadline_ns - now) / 1'000'000) + 1);
  }
}

// The same on a connection of its own: memcached closes one that asks without being authenticated.
std::optional<unsigned> ask(const Server &server, const Access &access,
                            const std::string &request) {
  const uint64_t deadline_ns = monotonic_ns() + access.timeout_ms * 1'000'000ULL;
  auto transport = Transport::open(server, access);
  return transport ? answer_to(*transport, request, deadline_ns) : std::nullopt;
}

std::string plain(const Access &access) {
  return request_of(kSaslAuth, "PLAIN",
                    std::string(1, '\0') + access.user + '\0' + access.password);
}

} // namespace

Status ask_in_binary(const Server &server, const Access &access) {
  constexpr char kHint[] = "only the text protocol lists keys: start it without -S and -B binary "
                           "(-Y asks for a password in text)";
  // What needs a user: memcached's authenticated() lets "version" pass.
  const auto noop = ask(server, access, request_of(kNoop, "", ""));
  if (!noop)
    return Unit{};
  std::string what = "speaks only the binary protocol";
  if (*noop == kAuthError && access.user.empty())
    what += ", and wants a user and a password (SASL)";
  else if (*noop == kAuthError)
    what += ask(server, access, plain(access)) == kSuccess
                ? ", also to who is authenticated (SASL)"
                : ", and refuses this user and password (SASL PLAIN)";
  return Error{server.text(), what, kHint, Exit::failure};
}

} // namespace doppel::memcached
