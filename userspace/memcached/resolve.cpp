// SPDX-License-Identifier: Apache-2.0
#include "userspace/memcached/resolve.h"

#include <netdb.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "userspace/util/clock.h"

namespace doppel::memcached {
namespace {
// One look-up of getaddrinfo_a(3), which outlives who waits for it where it cannot be cancelled.
struct Lookup {
  std::string host, service;
  addrinfo hints{};
  gaicb request{};
  ~Lookup() {
    if (request.ar_result)
      ::freeaddrinfo(request.ar_result);
  }
};

void start(Lookup &lookup, const Server &server) {
  lookup.host = server.host;
  lookup.service = std::to_string(server.port);
  lookup.hints.ai_socktype = SOCK_STREAM;
  lookup.request.ar_name = lookup.host.c_str();
  lookup.request.ar_service = lookup.service.c_str();
  lookup.request.ar_request = &lookup.hints;
}

std::vector<Endpoint> endpoints(const addrinfo *all) {
  std::vector<Endpoint> found;
  for (; all; all = all->ai_next) {
    Endpoint e;
    e.size = std::min<socklen_t>(all->ai_addrlen, sizeof e.address);
    std::memcpy(&e.address, all->ai_addr, e.size);
    found.push_back(e);
  }
  return found;
}

// Of an address no name server is asked.
std::vector<Endpoint> numeric(const Lookup &lookup) {
  addrinfo hints = lookup.hints, *found = nullptr;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  if (::getaddrinfo(lookup.host.c_str(), lookup.service.c_str(), &hints, &found) != 0)
    return {};
  auto all = endpoints(found);
  ::freeaddrinfo(found);
  return all;
}

// The code of getaddrinfo(); EAI_INPROGRESS: not by then.
int wait(gaicb *request, uint64_t deadline_ns) {
  for (;;) {
    const int code = ::gai_error(request);
    const uint64_t now = monotonic_ns();
    if (code != EAI_INPROGRESS || now >= deadline_ns)
      return code;
    const uint64_t left = deadline_ns - now;
    const timespec timeout{static_cast<time_t>(left / 1'000'000'000),
                           static_cast<long>(left % 1'000'000'000)};
    ::gai_suspend(&request, 1, &timeout);
  }
}

} // namespace

Result<std::vector<Endpoint>> resolve(const Server &server, uint64_t deadline_ns) {
  auto lookup = std::make_unique<Lookup>();
  start(*lookup, server);
  if (auto found = numeric(*lookup); !found.empty())
    return found;
  gaicb *request = &lookup->request;
  int code = ::getaddrinfo_a(GAI_NOWAIT, &request, 1, nullptr);
  if (code == 0)
    code = wait(request, deadline_ns);
  if (code == EAI_INPROGRESS) {
    if (::gai_cancel(request) != EAI_CANCELED)
      lookup.release(); // NOLINT: its thread still writes into it
    return Error{server.text(), "its name is not found in time", "does a name server answer?",
                 Exit::failure};
  }
  if (code != 0)
    return Error{server.text(), std::string("its name is not found: ") + ::gai_strerror(code), "",
                 Exit::failure};
  auto found = endpoints(lookup->request.ar_result);
  if (found.empty())
    return Error{server.text(), "its name has no address", "", Exit::failure};
  return found;
}

} // namespace doppel::memcached
