// SPDX-License-Identifier: Apache-2.0
#include "userspace/memcached/answers.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "userspace/util/text.h"

namespace doppel::memcached {
namespace {
constexpr size_t kFirstCapacity = 256 << 10;
constexpr size_t kLeastRoom = 64 << 10;

// The n-th word, counted from 0; empty where there are fewer.
std::string_view word(std::string_view line, unsigned n) {
  size_t at = 0;
  for (; n > 0; n--) {
    at = line.find(' ', at);
    if (at == std::string_view::npos)
      return {};
    at++;
  }
  return line.substr(at, line.find(' ', at) - at);
}

// "VA SIZE FLAGS..." and "VALUE KEY FLAGS SIZE [CAS]".
bool has_value(std::string_view line, std::optional<uint64_t> &size) {
  if (!line.starts_with("VA"))
    return false;
  if (line.starts_with("VA "))
    size = parse_number(word(line, 1), kLargestValue);
  else if (line.starts_with("VALUE "))
    size = parse_number(word(line, 3), kLargestValue);
  else
    return false;
  return true;
}

} // namespace

std::string quoted_answer(std::string_view text) {
  constexpr size_t kMost = 64;
  constexpr char kHex[] = "0123456789abcdef";
  std::string shown = "\"";
  for (const unsigned char c : text.substr(0, kMost)) {
    if (c >= ' ' && c < 0x7f)
      shown += static_cast<char>(c);
    else
      shown.append("\\x").append(1, kHex[c >> 4]).append(1, kHex[c & 15]);
  }
  return shown + (text.size() > kMost ? "...\"" : "\"");
}

Answers::Answers()
    : capacity_(kFirstCapacity), buffer_(std::make_unique_for_overwrite<char[]>(kFirstCapacity)) {}

char *Answers::room() {
  if (start_ == end_)
    start_ = end_ = 0;
  if (room_size() < kLeastRoom && start_ > 0) {
    std::memmove(buffer_.get(), buffer_.get() + start_, end_ - start_);
    end_ -= start_;
    start_ = 0;
  }
  if (room_size() < kLeastRoom) { // a large value; as long as it comes
    auto larger = std::make_unique_for_overwrite<char[]>(2 * capacity_);
    std::memcpy(larger.get(), buffer_.get(), end_);
    buffer_ = std::move(larger);
    capacity_ *= 2;
  }
  return buffer_.get() + end_;
}

Answers::Next Answers::next(Answer &answer) {
  const char *at = buffer_.get() + start_;
  const size_t size = end_ - start_;
  if (size < need_ || size == 0)
    return Next::more;
  const void *newline = std::memchr(at + scanned_, '\n', size - scanned_);
  if (!newline) {
    scanned_ = size;
    return size > kLongestLine ? Next::malformed : Next::more;
  }
  const auto line_bytes = static_cast<size_t>(static_cast<const char *>(newline) - at) + 1;
  if (line_bytes > kLongestLine)
    return Next::malformed;
  // A dump's lines end with \n alone.
  const bool cr = line_bytes > 1 && at[line_bytes - 2] == '\r';
  answer.line = {at, line_bytes - (cr ? 2 : 1)};
  return next_value(line_bytes, answer);
}

Answers::Next Answers::next_value(size_t line_bytes, Answer &answer) {
  std::optional<uint64_t> value;
  answer.has_value = has_value(answer.line, value);
  answer.value = {};
  size_t bytes = line_bytes;
  if (answer.has_value) {
    if (!value)
      return Next::malformed;
    bytes += static_cast<size_t>(*value) + 2;
    if (end_ - start_ < bytes) {
      scanned_ = line_bytes - 1;
      need_ = bytes;
      return Next::more;
    }
    const char *at = buffer_.get() + start_ + line_bytes;
    answer.value = {at, static_cast<size_t>(*value)};
    if (std::memcmp(at + *value, "\r\n", 2) != 0)
      return Next::malformed;
  }
  start_ += bytes;
  scanned_ = need_ = 0;
  return Next::answer;
}

} // namespace doppel::memcached
