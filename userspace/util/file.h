// SPDX-License-Identifier: Apache-2.0
// Files that the user names.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "userspace/util/error.h"

namespace doppel {

struct FileKind {
  const char *option; // that names it
  const char *what;   // it is
  uint64_t most_mib;
};

// The text of an open file. Errors tell `name`: a directory, and what is larger than such a file
// may be, are wrong on the command line.
Result<std::string> read_file(int fd, const std::string &name, const FileKind &kind);

// All of `text`. Returns 0, or a positive errno: what could be written before stays written.
int write_all(int fd, std::string_view text);

} // namespace doppel
