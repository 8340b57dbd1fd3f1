// SPDX-License-Identifier: Apache-2.0
#include "userspace/memcached/server.h"

#include <sys/un.h>

#include <algorithm>

#include "userspace/util/address.h"
#include "userspace/util/text.h"

namespace doppel::memcached {
namespace {
constexpr char kForms[] = "a server is HOST, HOST:PORT, [IPV6]:PORT or /PATH/OF/A/SOCKET";

Error wrong(const std::string &text, const std::string &what) {
  return {"server " + in_quotes(text), what, kForms, Exit::usage};
}

bool is_name(const std::string &host) {
  return !host.empty() && host.size() <= 253 && !host.starts_with("-") &&
         std::all_of(host.begin(), host.end(), [](unsigned char c) {
           return std::isalnum(c) != 0 || c == '.' || c == '-' || c == '_' || c == ':' || c == '%';
         });
}

Result<Server> socket_of(const std::string &path) {
  Server s;
  s.path = path;
  if (path.size() >= sizeof(sockaddr_un::sun_path))
    return wrong(path, "the path of a socket has at most 107 bytes");
  return s;
}

// Cuts ":PORT" off `rest`, if it is there.
Status take_port(const std::string &text, std::string &rest, Server &s) {
  const size_t colon = rest.rfind(':');
  if (colon == std::string::npos)
    return Unit{};
  const auto port = parse_number(std::string_view(rest).substr(colon + 1), UINT16_MAX);
  if (!port || *port == 0)
    return wrong(text, "a port is a number from 1 to 65535");
  s.port = static_cast<uint16_t>(*port);
  rest.resize(colon);
  return Unit{};
}

} // namespace

std::string Server::text() const {
  if (!path.empty())
    return path;
  const bool v6 = host.find(':') != std::string::npos;
  return (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

Result<Server> parse_server(const std::string &text, uint16_t default_port) {
  if (text.starts_with("/"))
    return socket_of(text);
  Server s;
  s.port = default_port;
  if (text.starts_with("[")) {
    const size_t end = text.find(']');
    if (end == std::string::npos || (end + 1 < text.size() && text[end + 1] != ':'))
      return wrong(text, "an address in brackets ends with ] or ]:PORT");
    s.host = text.substr(1, end - 1);
    std::string rest = text.substr(end + 1);
    TRY(take_port(text, rest, s));
    if (s.host.find(':') == std::string::npos || !is_name(s.host))
      return wrong(text, "only an IPv6 address stands in brackets");
    return s;
  }
  s.host = text;
  if (std::count(text.begin(), text.end(), ':') == 1)
    TRY(take_port(text, s.host, s));
  else if (s.host.find(':') != std::string::npos && !parse_address(s.host))
    return wrong(text, "is no address");
  if (!is_name(s.host))
    return wrong(text, "is no name of a host");
  return s;
}

} // namespace doppel::memcached
