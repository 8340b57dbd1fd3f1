// SPDX-License-Identifier: Apache-2.0
// The meta commands: how a key is written, and what answers mean. Views point into what was parsed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace doppel::memcached {

constexpr size_t kLongestKey = 250; // on the line, so encoded where it is
constexpr int64_t kNoExpiry = -1;

// The last Unix time that a line of text can name (memcached reads 32 bits with a sign). Clients
// write it for "never", and the binary protocol names later ones. What ends then, or later, or less
// than a minute before, ends alike: clocks of two servers differ.
constexpr int64_t kLastTime = INT32_MAX;
constexpr int64_t last_ttl(int64_t unix_time) { return kLastTime - 60 - unix_time; }

// An item as it was read.
struct Item {
  std::string key;
  std::string value;
  uint64_t flags = 0;
  int64_t ttl = kNoExpiry; // seconds that remain
  uint64_t cas = 0;
  uint32_t size = 0;                                  // of the value
  bool stale = false, won = false, token_out = false; // X, W, Z
};

// A line of text can hold the key as it is, and tell it to people; or can name it at all: by
// base64, or, where that is too long, as it is.
bool is_plain_key(std::string_view key);
// Whether that is how a server may repeat the key: an item that was stored with the flag b it names
// in Base64, whatever it was asked by.
bool names(std::string_view word, std::string_view key);
bool has_name(std::string_view key);
// The key as a line of text wants it: as it is, or, where it has blanks or control bytes and is not
// too long for that, in base64, for which the line needs the flag b. Empty: no line of text can
// name this key.
std::string meta_key(std::string_view key, bool &base64);
// Back again; nothing: no base64.
std::optional<std::string> key_of_base64(std::string_view text);

// Adds "COMMAND KEY [b] [FLAGS]\r\n". False, and nothing added: no line can name the key.
bool add_command(std::string &request, std::string_view command, std::string_view key,
                 std::string_view flags);

// HD, VA, EN, NF, NS, EX, MN with their flags.
struct MetaFlags {
  std::string_view code;     // "HD"
  std::optional<uint64_t> c; // CAS
  std::optional<uint64_t> f; // flags
  std::optional<int64_t> t;  // seconds that remain, kNoExpiry: for ever
  std::optional<uint64_t> s; // bytes of the value
  std::string_view k, O;     // key as on the line, opaque
  bool W = false, X = false, Z = false, b = false;
  // Marked as stale (`md` with `I`), or this answer took the token to renew it.
  bool is_stale() const { return W || X; }
  // Without a value a client has it in place of one that it missed, and fills it (`mg` with `N`):
  // all others go on missing it. An item with a value is used while one renews it (`mg` with `R`).
  bool is_claimed() const { return Z && !is_stale(); }
};
MetaFlags parse_meta(std::string_view line);

// How an item stands: the answer to `me`, "ME KEY exp=N la=N cas=N fetch=yes|no cls=N size=N".
struct Standing {
  std::string_view key; // as on the line
  // Seconds that remain. 1.6.18 writes them negative, so that there -1 may also be one second.
  int64_t exp = kNoExpiry;
  uint64_t la = 0; // seconds since the last access
  uint64_t cas = 0;
  bool fetch = false;
  uint32_t cls = 0;
  uint32_t size = 0; // of the whole item: header, key, value
  bool won = false;  // W: `mg` was asked instead, and took the token to renew a stale item
};
// Nothing: no such answer; EN says that the item is not there.
std::optional<Standing> parse_standing(std::string_view line);

} // namespace doppel::memcached
