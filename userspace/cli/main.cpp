// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <iostream>

#include "userspace/cli/command_line.h"
#include "userspace/cli/output.h"

namespace doppel {
namespace {
// Else what is opened first gets one of these numbers, and is written to. Opened the wrong way
// round, so that to use it fails as before.
void fill_standard_files() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::fcntl(fd, F_GETFD) < 0 && errno == EBADF)
      (void)::open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

// The exit code, once everything is said.
int say_the_rest(int code, bool acts) {
  if (std::cout.flush())
    return code;
  const int why = errno;
  if (!acts || why != EPIPE) // else a reader that has seen enough
    std::cerr << (acts ? "warning" : "error")
              << ": standard output: cannot be written: " << std::strerror(why) << "\n";
  return acts ? code : exit_code(Exit::failure);
}

} // namespace
} // namespace doppel

int main(int argc, char **argv) { // NOLINT(bugprone-exception-escape): a defect, which may end it
  using namespace doppel;
  fill_standard_files();
  CommandLine line;
  const auto action = line.parse(argc, argv);
  if (!action) // --json counts also where the rest cannot be understood
    return fail(action.errors(), std::any_of(argv, argv + argc, [](const char *a) {
                  return std::strcmp(a, "--json") == 0;
                }));
  std::signal(SIGXFSZ, SIG_IGN); // with a limit (ulimit -f) the write fails, and that is told
  if (line.acts())               // what it does must come to its end, whoever listens
    std::signal(SIGPIPE, SIG_IGN);
  return say_the_rest((*action)(), line.acts());
}
