// SPDX-License-Identifier: Apache-2.0
// Which clients a mapping wants. Pure.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "userspace/util/address.h"
#include "userspace/util/error.h"

namespace doppel {

// What tells one list from another, and how long it is.
struct ClientListId {
  uint64_t include = 0, exclude = 0; // prefixes
  std::string digest;                // empty: there is no list
  uint16_t number = 0;               // dp_mapping.clients; 0: it has none (yet)
  bool is_set() const { return !digest.empty(); }
  bool has_same_clients(const ClientListId &b) const { return digest == b.digest; }
  friend bool operator==(const ClientListId &a, const ClientListId &b) = default;
};

// "2 prefixes included, 1 excluded"
std::string clients_text(const ClientListId &id);

class ClientList {
public:
  struct Entry {
    Prefix prefix; // Prefix::trimmed()
    bool include = false;
  };
  explicit ClientList(std::vector<Entry> entries);

  // By family, address and length, each prefix once.
  const std::vector<Entry> &entries() const { return entries_; }
  const ClientListId &id() const { return id_; }
  // With includes only what has one is wanted, else all that has no exclude.
  bool only_listed() const { return id_.include > 0; }
  // No client at all is wanted.
  bool is_nobody() const;

private:
  std::vector<Entry> entries_;
  ClientListId id_;
};

// Whom it does not limit has none.
using Clients = std::shared_ptr<const ClientList>;

struct ListedClient {
  ClientList::Entry entry;
  std::string where; // as Error::where
};

// "10.0.0.0/8", or an address alone; nothing behind the length. Only Error.what and .hint are
// filled in.
Result<Prefix> parse_client(const std::string &text);

// A prefix a line; what follows a # is a comment. Every line that is wrong is told.
void read_client_file(const std::string &text, const std::string &name, bool include,
                      std::vector<ListedClient> &listed, Errors &errors);

// Of both lists of a mapping, which is at `where`. Null: of neither.
Clients client_list(const std::vector<ListedClient> &listed, const std::string &where,
                    Errors &errors);

} // namespace doppel
