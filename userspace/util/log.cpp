// SPDX-License-Identifier: Apache-2.0
#include "userspace/util/log.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstdlib>

namespace doppel {
namespace {
constexpr int kPatienceMs = 100; // for a reader that is just busy; none once it has kept us waiting

uint64_t lost_lines; // since standard error took the last one
bool torn;           // it took only the beginning of a line

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

// A pipe that takes anything takes PIPE_BUF bytes (pipe(7)), a socket says itself what it takes.
// O_NONBLOCK would be that of all who share this standard error.
ssize_t write_some(const char *data, size_t size) {
  size = std::min<size_t>(size, PIPE_BUF);
  const ssize_t sent = ::send(STDERR_FILENO, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent >= 0 || errno != ENOTSOCK)
    return sent;
  return ::write(STDERR_FILENO, data, size);
}

// False: nobody reads it at present. What fails for another reason is not tried again.
bool write_text(const std::string &text) {
  for (size_t done = 0; done < text.size();) {
    pollfd p{STDERR_FILENO, POLLOUT, 0};
    const int ready = ::poll(&p, 1, lost_lines ? 0 : kPatienceMs);
    if (ready < 0 && errno == EINTR)
      continue;
    const ssize_t n = ready > 0 ? write_some(text.data() + done, text.size() - done) : 0;
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0 && errno != EAGAIN)
      return true;
    if (n <= 0) {
      torn |= done > 0;
      return false;
    }
    done += static_cast<size_t>(n);
  }
  return true;
}

std::string as_line(Priority priority, const std::string &text) {
  return (to_journal() ? "<" + std::to_string(static_cast<int>(priority)) + ">" : word(priority)) +
         text + "\n";
}

void write_line(const std::string &line) {
  log_lost_lines();
  if (lost_lines || !write_text(line))
    lost_lines++;
}

} // namespace

void log_lost_lines() {
  if (!lost_lines)
    return;
  const std::string text =
      as_line(Priority::warning, std::to_string(lost_lines) +
                                     (lost_lines == 1 ? " line was" : " lines were") +
                                     " left out here, since nobody read this log");
  if (!write_text((torn ? "\n" : "") + text))
    return;
  lost_lines = 0;
  torn = false;
}

void log_line(Priority priority, const std::string &text) { write_line(as_line(priority, text)); }

void log_errors(const Errors &errors, Priority priority) {
  for (const Error &e : errors) {
    std::string text = e.where.empty() ? e.what : e.where + ": " + e.what;
    if (to_journal()) {
      log_line(priority, text + (e.hint.empty() ? "" : " (" + e.hint + ")"));
      continue;
    }
    log_line(priority, text);
    if (!e.hint.empty())
      write_line("hint: " + e.hint + "\n");
  }
}

} // namespace doppel
