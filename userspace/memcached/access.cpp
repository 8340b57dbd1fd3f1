// SPDX-License-Identifier: Apache-2.0
#include "userspace/memcached/access.h"

#include <cerrno>
#include <fstream>

#include "userspace/util/fd.h"

namespace doppel::memcached {

Status read_auth_file(const std::string &file, Access &access) {
  std::ifstream in(file);
  if (!in)
    return sys_error(file, "cannot be read", errno);
  std::string line;
  std::getline(in, line);
  while (!line.empty() && (line.back() == '\r' || line.back() == '\n'))
    line.pop_back();
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
