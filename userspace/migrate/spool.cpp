// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/spool.h"

#include <fcntl.h>

#include <cerrno>
#include <cstdlib>

namespace doppel::migrate {

Result<Fd> open_spool() {
  const char *set = std::getenv("TMPDIR");
  const std::string directory = set && *set ? set : "/var/tmp"; // /tmp may be memory
  Fd fd(::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (fd)
    return fd;
  // Not every file system knows O_TMPFILE.
  std::string name = directory + "/doppel-keys-XXXXXX";
  fd = Fd(::mkostemp(name.data(), O_CLOEXEC));
  if (!fd)
    return sys_error(directory, "has no room for the list of keys", errno,
                     "$TMPDIR names another directory");
  ::unlink(name.c_str());
  return fd;
}

} // namespace doppel::migrate
