// SPDX-License-Identifier: Apache-2.0
#include "userspace/util/log.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>

namespace doppel {
namespace {
// JOURNAL_STREAM names the socket that systemd connected: it may have been redirected since.
bool to_journal() {
  static const bool result = [] {
    const char *stream = std::getenv("JOURNAL_STREAM");
    struct stat st;
    return stream && ::fstat(STDERR_FILENO, &st) == 0 &&
           std::to_string(st.st_dev) + ":" + std::to_string(st.st_ino) == stream;
  }();
  return result;
}

const char *word(Priority priority) {
  if (priority == Priority::error)
    return "error: ";
  return priority == Priority::warning ? "warning: " : "";
}

} // namespace

void log_line(Priority priority, const std::string &text) {
  if (to_journal())
    std::cerr << "<" << static_cast<int>(priority) << ">" << text << std::endl;
  else
    std::cerr << word(priority) << text << std::endl;
}

void log_errors(const Errors &errors, Priority priority) {
  for (const Error &e : errors) {
    std::string text = e.where.empty() ? e.what : e.where + ": " + e.what;
    if (to_journal()) {
      log_line(priority, text + (e.hint.empty() ? "" : " (" + e.hint + ")"));
      continue;
    }
    log_line(priority, text);
    if (!e.hint.empty())
      std::cerr << "hint: " << e.hint << std::endl;
  }
}

} // namespace doppel
