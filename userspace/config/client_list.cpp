// SPDX-License-Identifier: Apache-2.0
#include "userspace/config/client_list.h"

#include <algorithm>
#include <cstdio>
#include <string_view>
#include <tuple>

#include "userspace/util/endpoint.h"
#include "userspace/util/text.h"

namespace doppel {
namespace {
// Of a file that is no such list nobody wants to see each line.
constexpr size_t kToldLines = 100;

auto place(const Prefix &p) { return std::tuple(p.family, p.address, p.length); }

// FNV-1a, of 64 bits: a list is compared with the one before it, and nobody gains by two of them
// that look the same.
class Digest {
public:
  void add(const void *data, size_t size) {
    for (const auto *p = static_cast<const unsigned char *>(data); size > 0; p++, size--)
      hash_ = (hash_ ^ *p) * 0x100000001b3ULL;
  }
  std::string text() const {
    char text[17];
    std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(hash_));
    return text;
  }

private:
  uint64_t hash_ = 0xcbf29ce484222325ULL;
};

Error wrong_list(std::string where, std::string what, std::string hint) {
  return {std::move(where), std::move(what), std::move(hint), Exit::usage};
}

std::string_view trim(std::string_view s) {
  constexpr const char *blank = " \t\r\v\f";
  const size_t first = s.find_first_not_of(blank);
  return first == s.npos ? "" : s.substr(first, s.find_last_not_of(blank) - first + 1);
}

bool has(const std::vector<ClientList::Entry> &entries, Family family, bool include) {
  return std::any_of(entries.begin(), entries.end(), [&](const auto &e) {
    return e.prefix.family == family && e.prefix.length == 0 && e.include == include;
  });
}

} // namespace

ClientList::ClientList(std::vector<Entry> entries) : entries_(std::move(entries)) {
  std::sort(entries_.begin(), entries_.end(), [](const Entry &a, const Entry &b) {
    return std::tuple(place(a.prefix), a.include) < std::tuple(place(b.prefix), b.include);
  });
  const auto last =
      std::unique(entries_.begin(), entries_.end(), [](const Entry &a, const Entry &b) {
        return place(a.prefix) == place(b.prefix) && a.include == b.include;
      });
  entries_.erase(last, entries_.end());
  Digest digest;
  for (const Entry &e : entries_) {
    (e.include ? id_.include : id_.exclude)++;
    const unsigned char rest[] = {static_cast<unsigned char>(e.prefix.family),
                                  static_cast<unsigned char>(e.prefix.length), e.include};
    digest.add(&e.prefix.address.raw, sizeof(e.prefix.address.raw));
    digest.add(rest, sizeof(rest));
  }
  id_.digest = digest.text();
}

bool ClientList::is_nobody() const {
  return id_.include == 0 && has(entries_, Family::v4, false) && has(entries_, Family::v6, false);
}

std::string clients_text(const ClientListId &id) {
  const auto count = [](uint64_t n) {
    return std::to_string(n) + (n == 1 ? " prefix" : " prefixes");
  };
  if (!id.is_set())
    return "all";
  if (id.include == 0)
    return "all but those of " + count(id.exclude);
  return "those of " + count(id.include) +
         (id.exclude ? " without those of " + count(id.exclude) : "");
}

Result<Prefix> parse_client(const std::string &text) {
  const auto prefix = parse_prefix(text);
  if (!prefix)
    return wrong_list("", in_quotes(text) + " is neither an IP address nor a prefix",
                      "write \"10.0.0.0/8\", \"2001:db8::/32\" or an address alone, in numbers");
  const Prefix trimmed = prefix->trimmed();
  if (!(trimmed.address == prefix->address))
    return wrong_list("", in_quotes(text) + " has bits behind its length",
                      "write " + in_quotes(trimmed.text()) + ", or the address without a length");
  return trimmed;
}

void read_client_file(const std::string &text, const std::string &name, bool include,
                      std::vector<ListedClient> &listed, Errors &errors) {
  size_t line = 0, wrong = 0;
  const std::string_view all = text;
  for (size_t from = 0; from < all.size(); line++) {
    const size_t end = std::min(all.find('\n', from), all.size());
    const std::string_view whole = all.substr(from, end - from);
    const std::string entry(trim(whole.substr(0, whole.find('#'))));
    from = end + 1;
    if (entry.empty())
      continue;
    const auto place = [&] { return name + ":" + std::to_string(line + 1); };
    if (const auto prefix = parse_client(entry))
      listed.push_back({{*prefix, include}, place()});
    else if (wrong++ < kToldLines)
      errors.push_back(wrong_list(place(), prefix.errors()[0].what, prefix.errors()[0].hint));
  }
  if (wrong > kToldLines)
    errors.push_back(wrong_list(name,
                                "has " + std::to_string(wrong - kToldLines) +
                                    " more lines that are neither an IP address nor a prefix",
                                "is it the right file? A list of clients has a prefix a line"));
}

Clients client_list(const std::vector<ListedClient> &listed, const std::string &where,
                    Errors &errors) {
  if (listed.empty())
    return nullptr;
  std::vector<const ListedClient *> sorted;
  sorted.reserve(listed.size());
  for (const ListedClient &l : listed)
    sorted.push_back(&l);
  const auto order = [](const ListedClient *l) {
    return std::tuple(place(l->entry.prefix), !l->entry.include);
  };
  std::stable_sort(sorted.begin(), sorted.end(),
                   [&](const auto *a, const auto *b) { return order(a) < order(b); });
  const ListedClient *first = nullptr; // of those that have one prefix
  for (const ListedClient *l : sorted) {
    if (!first || place(first->entry.prefix) != place(l->entry.prefix))
      first = l;
    else if (first->entry.include && !l->entry.include)
      errors.push_back(wrong_list(
          l->where,
          l->entry.prefix.text() + " is in \"include_clients\" as well, at " + first->where,
          "remove one of the two: of prefixes of one length none goes before the other"));
  }
  std::vector<ClientList::Entry> entries;
  entries.reserve(listed.size());
  for (const ListedClient &l : listed)
    entries.push_back(l.entry);
  auto list = std::make_shared<const ClientList>(std::move(entries));
  if (list->is_nobody())
    errors.push_back(
        wrong_list(where, "\"exclude_clients\" has all clients: none would be mirrored",
                   "remove 0.0.0.0/0 or ::/0, or say with \"include_clients\" who is"));
  return list;
}

} // namespace doppel
