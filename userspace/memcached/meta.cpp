// SPDX-License-Identifier: Apache-2.0
#include "userspace/memcached/meta.h"

#include <openssl/evp.h>

#include <algorithm>

#include "userspace/util/base64.h"
#include "userspace/util/text.h"

namespace doppel::memcached {
namespace {
template <typename T> void read_optional(std::string_view text, std::optional<T> &value) {
  T read{};
  if (read_number(text, read))
    value = read;
}

// Cuts the first word off.
std::string_view next_word(std::string_view &rest) {
  const size_t blank = rest.find(' ');
  const auto word = rest.substr(0, blank);
  rest.remove_prefix(blank == std::string_view::npos ? rest.size() : blank + 1);
  return word;
}

size_t base64_size(std::string_view key) { return (key.size() + 2) / 3 * 4; }

bool fits_base64(std::string_view key) { return !key.empty() && base64_size(key) <= kLongestKey; }

// What ends neither a word nor a line (tokenize_command(), proto_text.c): clients of text may store
// it, control bytes or not.
bool is_word(std::string_view key) {
  return !key.empty() && key.size() <= kLongestKey &&
         key.find_first_of(std::string_view(" \r\n\0", 4)) == std::string_view::npos;
}

} // namespace

bool is_plain_key(std::string_view key) {
  return !key.empty() && key.size() <= kLongestKey &&
         std::none_of(key.begin(), key.end(),
                      [](unsigned char c) { return c <= ' ' || c == 0x7f; });
}

bool names(std::string_view word, std::string_view key) {
  return word == key || key_of_base64(word) == key;
}

bool has_name(std::string_view key) { return fits_base64(key) || is_word(key); }

std::string meta_key(std::string_view key, bool &base64) {
  base64 = false;
  if (is_plain_key(key) || (is_word(key) && !fits_base64(key)))
    return std::string(key);
  if (!has_name(key))
    return {};
  base64 = true;
  std::string text(base64_size(key) + 1, '\0');
  text.resize(static_cast<size_t>(EVP_EncodeBlock(
      reinterpret_cast<unsigned char *>(text.data()),
      reinterpret_cast<const unsigned char *>(key.data()), static_cast<int>(key.size()))));
  return text;
}

std::optional<std::string> key_of_base64(std::string_view text) {
  return text.size() > 2 * kLongestKey ? std::nullopt : from_base64(text);
}

bool add_command(std::string &request, std::string_view command, std::string_view key,
                 std::string_view flags) {
  bool base64 = false;
  const bool plain = is_plain_key(key);
  const std::string encoded = plain ? std::string() : meta_key(key, base64);
  if (!plain && encoded.empty())
    return false;
  request.append(command).append(" ").append(plain ? key : encoded);
  if (base64)
    request += " b"; // first: `me` looks for it nowhere else (1.6.18)
  if (!flags.empty())
    request.append(" ").append(flags);
  request += "\r\n";
  return true;
}

MetaFlags parse_meta(std::string_view line) {
  MetaFlags m;
  m.code = next_word(line);
  if (m.code == "VA")
    next_word(line); // its size is that of Answer::value
  while (!line.empty()) {
    const auto word = next_word(line);
    if (word.empty())
      continue;
    const auto token = word.substr(1);
    switch (word[0]) {
    case 'c':
      read_optional(token, m.c);
      break;
    case 'f':
      read_optional(token, m.f);
      break;
    case 't':
      read_optional(token, m.t);
      break;
    case 's':
      read_optional(token, m.s);
      break;
    case 'k':
      m.k = token;
      break;
    case 'O':
      m.O = token;
      break;
    case 'W':
      m.W = true;
      break;
    case 'X':
      m.X = true;
      break;
    case 'Z':
      m.Z = true;
      break;
    case 'b':
      m.b = true;
      break;
    default:
      break;
    }
  }
  return m;
}

std::optional<Standing> parse_standing(std::string_view line) {
  if (next_word(line) != "ME")
    return std::nullopt;
  Standing s;
  s.key = next_word(line);
  while (!line.empty()) {
    const auto word = next_word(line);
    const size_t equals = word.find('=');
    if (equals == std::string_view::npos)
      continue;
    const auto name = word.substr(0, equals), value = word.substr(equals + 1);
    if (name == "exp" && read_number(value, s.exp))
      s.exp = s.exp < kNoExpiry ? -s.exp : s.exp;
    else if (name == "la")
      read_number(value, s.la);
    else if (name == "cas")
      read_number(value, s.cas);
    else if (name == "fetch")
      s.fetch = value == "yes";
    else if (name == "cls")
      read_number(value, s.cls);
    else if (name == "size")
      read_number(value, s.size);
  }
  return s;
}

} // namespace doppel::memcached
