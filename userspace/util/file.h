// SPDX-License-Identifier: Apache-2.0
// Files that the user names: how they are opened, read, written and removed.
//
// What is opened as root may be anything: a FIFO that nobody writes to, a device whose node must
// not go, another's file behind a symbolic link. None of these hangs a command, and none is harmed.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "userspace/util/error.h"
#include "userspace/util/fd.h"

namespace doppel {

struct FileKind {
  const char *option; // that names it
  const char *what;   // it is
  uint64_t most_mib;
};

constexpr uint32_t kPipePatienceMs = 5000;

// For read_file(): returns at once, also for a FIFO. None, and errno: it cannot be opened.
Fd open_to_read(const std::string &name);

// The text of a file that open_to_read() opened. A pipe may be silent for `patience_ms`, also
// before its writer comes; a terminal for ever. Errors tell `name`: a directory, and what is larger
// than such a file may be, are wrong on the command line.
Result<std::string> read_file(int fd, const std::string &name, const FileKind &kind,
                              uint32_t patience_ms = kPipePatienceMs);

// For a file that a library opens by its name, as often as it likes. Fine where there is none.
Status check_regular(const std::string &name);

// As a shell's > (or, with `append`, >>) opens what the user wants written; a FIFO's reader may
// take `patience_ms` to come.
Result<Fd> open_to_write(const std::string &name, bool append, uint32_t patience_ms);

// All of `text`. Returns 0, or a positive errno: what could be written before stays written.
int write_all(int fd, std::string_view text);

// A file that doppel keeps for itself under a name that the user chose, or beside one.
struct OwnKind {
  const char *what;       // "file of doppel warm"
  std::string_view magic; // with which each of them begins
  std::string hint;       // what to do where another's has its name
};

struct OwnFile {
  Fd fd;                // to read and write
  bool is_ours = false; // it is new, or begins with the magic; else it was there, and is empty
};

// Makes it, if it is not there. An error, and nothing was touched, where something else has its
// name: a symbolic link, what is no regular file, another user's file, one without the magic.
Result<OwnFile> open_own(const std::string &name, const OwnKind &kind);
// To read alone; without a descriptor where there is none.
Result<OwnFile> find_own(const std::string &name, const OwnKind &kind);
// Empties it first, so that no other name of it is taken for one that is to be gone on with.
void remove_own(int fd, const std::string &name);
// Leaves what is not ours.
void remove_own(const std::string &name, const OwnKind &kind);

// Also under two names, and where it is not there yet.
bool is_same_file(const std::string &a, const std::string &b);

} // namespace doppel
