// SPDX-License-Identifier: Apache-2.0
// The first words with a server: is it a memcached, does it speak text, does it want a password?
#include "userspace/memcached/binary.h"
#include "userspace/memcached/connection.h"

namespace doppel::memcached {
namespace {
constexpr char kUnauthenticated[] = "CLIENT_ERROR unauthenticated";

// More than 24 bytes: a server that speaks only the binary protocol waits for as many, and then
// closes (memcached 1.6.18, proto_bin.c).
constexpr char kHello[] = "version\r\nversion\r\nversion\r\n";
constexpr unsigned kHellos = 3;

} // namespace

Result<std::unique_ptr<Connection>> Connection::open(const Server &server, const Access &access) {
  auto first = TRY(dial(server, access));
  bool wants_password = false;
  auto greeted = first->greet(wants_password);
  if (!greeted && first->version_.empty() && first->closed_) {
    // One may be closed by chance: by a server that just begins, or a proxy.
    first = TRY(dial(server, access));
    greeted = first->greet(wants_password);
  }
  if (greeted && !wants_password)
    return first;
  if (!greeted) {
    if (first->version_.empty() && first->closed_)
      TRY(ask_in_binary(server, access)); // the better error
    auto errors = greeted.errors();
    if (first->version_.empty() && first->closed_)
      errors[0].hint = !access.tls           ? "does it want TLS (--tls)?"
                       : access.cert.empty() ? "does it want a certificate of ours (--cert)?"
                                             : "";
    return errors;
  }
  // Of several commands it answers the first (1.6.18), so the conversation starts again.
  auto second = TRY(dial(server, access));
  TRY(second->authenticate(access));
  TRY(second->greet(wants_password));
  return second;
}

Result<std::unique_ptr<Connection>> Connection::dial(const Server &server, const Access &access) {
  auto transport = TRY(Transport::open(server, access));
  return std::unique_ptr<Connection>(new Connection(server, access, std::move(transport)));
}

Status Connection::greet(bool &wants_password) {
  unsigned answers = 0;
  std::string other;
  TRY(converse(kHello, [&](const Answer &a) {
    answers++;
    if (a.line.starts_with("VERSION "))
      version_ = a.line.substr(8);
    else
      other = a.line;
    return other.empty() && answers < kHellos;
  }));
  wants_password = other == kUnauthenticated;
  if (wants_password || other.empty())
    return Unit{};
  if (other.starts_with("ERROR Too many"))
    return error("has no room for another connection: " + quoted_answer(other),
                 "memcached -c sets how many there may be");
  return error("is no memcached: it answers " + quoted_answer(other),
               "does a memcached listen there?");
}

// ASCII authentication (memcached -Y): a `set` of any key, with "USER PASSWORD" for a value.
Status Connection::authenticate(const Access &access) {
  if (access.user.empty())
    return error("wants a user and a password", "--auth-file names a file with USER:PASSWORD");
  const std::string token = access.user + " " + access.password;
  std::string answer;
  TRY(converse("set auth 0 0 " + std::to_string(token.size()) + "\r\n" + token + "\r\n",
               [&](const Answer &a) {
                 answer = a.line;
                 return false;
               }));
  if (answer != "STORED")
    return error("refuses this user and password: it answers " + quoted_answer(answer),
                 "they come from --auth-file");
  return Unit{};
}

} // namespace doppel::memcached
