// SPDX-License-Identifier: Apache-2.0
#include "userspace/keeper/companion.h"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "userspace/util/log.h"

namespace doppel {
namespace {
using namespace std::chrono_literals;

constexpr auto kShortRest = 1s, kLongRest = 30s; // between two starts
constexpr auto kSoon = 10s;                      // who ends that soon would do it again

// Between fork() and execve(): nothing here may allocate.
[[noreturn]] void become(char *const *words, pid_t parent) {
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  // Whatever ends the keeper ends it. The keeper may have died before this call.
  if (::prctl(PR_SET_PDEATHSIG, SIGTERM) == 0 && ::getppid() == parent)
    ::execv(words[0], words);
  ::_exit(127);
}

} // namespace

void Companion::keep() {
  if (command_.empty())
    return;
  int status = 0;
  if (pid_ > 0 && ::waitpid(pid_, &status, WNOHANG) == pid_)
    take_leave(status);
  if (pid_ == 0 && Clock::now() >= next_)
    start();
}

void Companion::start() {
  std::vector<char *> words;
  words.reserve(command_.size() + 1);
  for (const std::string &word : command_)
    words.push_back(const_cast<char *>(word.c_str()));
  words.push_back(nullptr);
  const pid_t parent = ::getpid(), child = ::fork();
  if (child == 0)
    become(words.data(), parent);
  started_ = Clock::now();
  if (child > 0) {
    pid_ = child;
    return;
  }
  rest_ = kLongRest;
  next_ = started_ + rest_;
  log_line(Priority::warning,
           command_[0] + " " + command_[1] + " cannot be started: " + std::strerror(errno));
}

void Companion::take_leave(int status) {
  pid_ = 0;
  const auto now = Clock::now();
  rest_ = now - started_ < kSoon ? std::min<Clock::duration>(kLongRest, rest_ * 2) : kShortRest;
  rest_ = std::max<Clock::duration>(rest_, kShortRest);
  next_ = now + rest_;
  log_line(Priority::warning,
           "doppel " + command_[1] +
               (WIFSIGNALED(status) ? " was ended by signal " + std::to_string(WTERMSIG(status))
                                    : " ended with " + std::to_string(WEXITSTATUS(status))) +
               ": it is started again");
}

void Companion::end() {
  if (pid_ == 0)
    return;
  ::kill(pid_, SIGKILL); // it holds nothing that an orderly end would save
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR)
    ;
  pid_ = 0;
}

} // namespace doppel
