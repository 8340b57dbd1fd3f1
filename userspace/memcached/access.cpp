// SPDX-License-Identifier: Apache-2.0
#include "userspace/memcached/access.h"

#include <cerrno>

#include "userspace/util/fd.h"
#include "userspace/util/file.h"

namespace doppel::memcached {
namespace {
constexpr FileKind kAuthFile = {"--auth-file", "file of a user and a password", 1};
}

Status read_auth_file(const std::string &file, Access &access) {
  const Fd fd = open_to_read(file);
  if (!fd)
    return sys_error(file, "cannot be read", errno);
  const std::string text = TRY(read_file(fd.get(), file, kAuthFile, access.timeout_ms));
  const std::string line = text.substr(0, text.find_first_of("\r\n"));
  const size_t colon = line.find(':');
  // The ASCII protocol sends "USER PASSWORD" and reads two words (memcached 1.6.18).
  if (colon == std::string::npos || colon == 0 || colon + 1 == line.size() ||
      line.find_first_of(" \t") != std::string::npos)
    return Error{file, "is not one line USER:PASSWORD without blanks", "", Exit::usage};
  access.user = line.substr(0, colon);
  access.password = line.substr(colon + 1);
  return Unit{};
}

} // namespace doppel::memcached
