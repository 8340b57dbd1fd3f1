// SPDX-License-Identifier: Apache-2.0
// Cuts what a server sends into answers: lines, and values behind VA and VALUE. No memory is taken
// per answer, and what is left over is moved to the front once per read at most.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace doppel::memcached {

// Views into the buffer, valid until more is read.
struct Answer {
  std::string_view line; // without its end: "HD c12", "VA 5 t-1 f0", "END", "STAT a b", "ERROR ..."
  std::string_view value; // of VA and VALUE, else empty
  bool has_value = false;
};

// Longer lines are not memcached's: the longest are those of a dump, whose keys of up to 250 bytes
// are escaped.
constexpr size_t kLongestLine = 2048;
// memcached's -I goes up to 1024m.
constexpr uint64_t kLargestValue = 1024ULL << 20;

// For messages: as in_quotes(), with \xNN also for what is no ASCII, as it need not be UTF-8.
std::string quoted_answer(std::string_view text);

class Answers {
public:
  Answers();
  // Where the next bytes go. At least 64 KiB.
  char *room();
  size_t room_size() const { return capacity_ - end_; }
  void filled(size_t bytes) { end_ += bytes; }

  enum class Next { answer, more, malformed };
  Next next(Answer &answer);
  // What has come and is no answer yet.
  std::string_view rest() const { return {buffer_.get() + start_, end_ - start_}; }

private:
  Next next_value(size_t line_bytes, Answer &answer);

  size_t capacity_;
  std::unique_ptr<char[]> buffer_;
  size_t start_ = 0, end_ = 0;
  size_t scanned_ = 0; // from start_: no end of a line is in there
  size_t need_ = 0;    // from start_: what a value wants before it is worth a look
};

} // namespace doppel::memcached
