// SPDX-License-Identifier: Apache-2.0
// How far a verify of all keys got, on disk, so that the next goes on where one was interrupted.
//
// FILE is a JSON text, replaced as a whole by FILE.new; FILE.source and FILE.target are the lists
// of keys, each behind a line that tells what it is. What is none of these, and has one of the
// names, is left as it is.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "userspace/memcached/connection.h"
#include "userspace/migrate/key_list.h"
#include "userspace/migrate/verify_counts.h"
#include "userspace/util/error.h"
#include "userspace/util/fd.h"
#include "userspace/util/file.h"

namespace doppel::migrate {

struct VerifyProgress {
  VerifyCounts counts;
  bool at_extra = false;                     // it goes through the target's list
  uint64_t offset = 0;                       // of the next line, in that list
  uint64_t source_keys = 0, target_keys = 0; // of the lists
  uint64_t source_bytes = 0, target_bytes = 0;
  uint64_t source_crc = 0, target_crc = 0;
  uint64_t seen = 0;    // lines of both
  uint64_t unnamed = 0; // keys of the target that no line of text can name
  uint64_t listed = 0;  // bytes of what tells the differences
};

// How often each was flushed (flush_all), by its own count.
struct Flushes {
  uint64_t source = 0, target = 0;
};

class VerifyFile {
public:
  // `name` empty: nothing is kept. `of`: which servers and keys, `since`: which starts of theirs;
  // `flushes`: of now, for one that begins. A file of others is an error, and so is one that
  // another verify goes by, or what is no file of doppel verify under a name that is needed.
  static Result<VerifyFile> open(const std::string &name, const std::string &of,
                                 const std::string &since, const Flushes &flushes);

  const Flushes &flushes() const { return flushes_; } // when it began

  bool is_kept() const { return !name_.empty(); }
  // What to do where something that it goes by is damaged.
  std::string how_to_begin_anew() const;
  // What the one before came to; nothing: it begins.
  const std::optional<VerifyProgress> &progress() const { return progress_; }

  // The keys of a server: as kept, or, if `fresh`, as they are now. A kept list that is not as it
  // was left is an error.
  Result<KeyList> source_list(memcached::Connection &source, bool fresh);
  Result<KeyList> target_list(memcached::Connection &target, bool fresh);

  Status save(const VerifyProgress &progress);
  void remove(); // it is done

private:
  Result<KeyList> fresh_list(memcached::Connection &c, const char *suffix) const;
  static Status fill(KeyList &list, memcached::Connection &c, const std::string &name);
  Status lock();
  OwnKind kind(const std::string &suffix) const;
  Result<KeyList> kept_list(const char *suffix, uint64_t keys, const ListSum &kept) const;
  Status read();
  Status replace(const std::string &text);

  std::string name_, of_, since_;
  Flushes flushes_;
  Fd lock_;
  std::optional<VerifyProgress> progress_;
  bool is_saved_ = false;
};

} // namespace doppel::migrate
