// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <sstream>

#include "userspace/cli/command.h"
#include "userspace/cli/options.h"
#include "userspace/cli/output.h"
#include "userspace/cli/server_options.h"
#include "userspace/memcached/stats.h"
#include "userspace/migrate/key_list.h"
#include "userspace/migrate/same_server.h"
#include "userspace/migrate/verify.h"
#include "userspace/migrate/verify_file.h"
#include "userspace/util/clock.h"
#include "userspace/util/fd.h"
#include "userspace/util/file.h"
#include "userspace/view/table.h"

namespace doppel {
namespace {
using migrate::VerifyCounts;

struct VerifyCommand {
  std::string source, target, prefix, list, resume;
  uint64_t sample = 10'000, rate = 0;
  bool all = false, stale_ok = false;
  double settle_s = 2;
  ServerOptions servers;
};

void add_options(CLI::App &app, VerifyCommand &o) {
  add_server(app, "SOURCE", o.source, "HOST, HOST:PORT, [IPV6]:PORT or /PATH of a Unix socket");
  add_server(app, "TARGET", o.target, "What has to have the same items");
  add_number(app, "--sample", o.sample,
             "Compare N keys of the source, chosen by chance; 10000 by default", "N");
  add_flag(app, "--all", o.all, "Compare all keys, and look for those that only the target has");
  exclude(app, "--all", "--sample");
  add_text(app, "--prefix", o.prefix, "Only keys that begin like this", "TEXT");
  add_seconds(app, "--settle", o.settle_s,
              "Look at what differs once more after this time; 2 by default");
  add_number(app, "--rate", o.rate, "Read at most this many keys a second", "KEYS");
  add_text(app, "--list", o.list,
           "Write a line for each difference into this file: its kind and its key", "FILE");
  add_text(app, "--resume", o.resume,
           "With --all: keep in this file, and beside it, how far it got, and go on where the "
           "command that was interrupted ended",
           "FILE");
  add_flag(app, "--stale-ok", o.stale_ok,
           "Go on where reading a stale item took its application's token to renew it");
  add_server_options(app, o.servers);
}

std::string percent(double share, bool up) {
  std::ostringstream text;
  // Outwards, so that the interval is never narrower than it is.
  const double hundredths = share * 10'000;
  const auto n = static_cast<int64_t>(hundredths) +
                 (up && hundredths > static_cast<double>(static_cast<int64_t>(hundredths)) ? 1 : 0);
  text << n / 100 << "." << std::setw(2) << std::setfill('0') << n % 100 << " %";
  return text.str();
}

std::string json_of(const VerifyCounts &c, bool sampled) {
  Json j = {{"seconds", c.seconds}};
  for (const auto &[name, value] : migrate::kVerifyCounts)
    j[name] = c.*value;
  j["interval_95"] = nullptr;
  if (sampled && c.judged() > 0) {
    const auto i = migrate::wilson95(c.equal, c.judged(), c.population());
    j["interval_95"] = {i.low, i.high};
  }
  return j.dump() + "\n";
}

std::string share_of(const VerifyCounts &c) {
  const std::string share =
      human_share(static_cast<double>(c.equal) / static_cast<double>(c.judged()));
  if (c.population() == c.judged())
    return share + " of the keys are equal: the sample holds all of them\n";
  const auto i = migrate::wilson95(c.equal, c.judged(), c.population());
  return share + " of the sample are equal; of all keys " + percent(i.low, false) + " to " +
         percent(i.high, true) + " (95 %)\n";
}

std::string text_of(const VerifyCounts &c, const VerifyCommand &o) {
  Table table({"KEYS", ">COUNT", "WHAT IT MEANS"});
  const auto row = [&](const char *name, uint64_t n, const char *what, bool always = false) {
    if (n > 0 || always)
      table.row({name, human_count(static_cast<int64_t>(n)), what});
  };
  row("listed", c.keys, "on the source", true);
  row("compared", c.compared, o.all ? "" : "chosen by chance", true);
  row("equal", c.equal, "on both", true);
  row("missing", c.missing, "not on the target", true);
  row("different", c.different, "another value on the target", true);
  row("flags", c.flags, "other flags on the target", true);
  row("ttl", c.ttl, "expire more than 2 s earlier or later on the target", true);
  row("extra", c.extra, "only on the target: evicted on the source, or a delete that was lost",
      o.all);
  row("moving", c.moving, "changed between two looks: no verdict");
  row("gone", c.gone, "from the source, since its list was made");
  row("stale", c.stale, "marked so by the application: not compared");
  row("unreadable", c.unreadable,
      "not compared: their names fit in no line of text, or a server answered with an error");
  std::string text = table.text();
  if (!o.all && c.judged() > 0)
    text += share_of(c);
  return text;
}

// On a terminal, in one line that is written over.
class Progress {
public:
  void show(const VerifyCounts &c, uint64_t seen, uint64_t of) {
    const uint64_t now = monotonic_ns();
    if (!is_terminal_ || now < next_ns_)
      return;
    next_ns_ = now + 200'000'000;
    std::cerr << "\r\x1b[K" << human_count(static_cast<int64_t>(seen)) << " of "
              << human_count(static_cast<int64_t>(of)) << " keys, "
              << human_count(static_cast<int64_t>(c.differing())) << " differ" << std::flush;
    shown_ = true;
  }
  ~Progress() {
    if (shown_)
      std::cerr << "\r\x1b[K" << std::flush;
  }

private:
  bool is_terminal_ = ::isatty(STDERR_FILENO) == 1;
  bool shown_ = false;
  uint64_t next_ns_ = 0;
};

// A line for each difference, written when it is found: a full disk ends the command at once.
class DifferenceList {
public:
  Status open(const VerifyCommand &o, const migrate::VerifyFile &file);
  Status add(const std::string &key, migrate::Difference difference);
  uint64_t bytes() const { return bytes_; } // also of the command that was interrupted

private:
  Status go_on(const migrate::VerifyFile &file);

  std::string name_; // empty: nobody wants a list
  std::string hint_;
  Fd fd_;
  uint64_t bytes_ = 0;
};

Status DifferenceList::open(const VerifyCommand &o, const migrate::VerifyFile &file) {
  if (o.list.empty())
    return Unit{};
  name_ = o.list;
  hint_ = file.is_kept() ? "make room for it: the same command goes on where this one ended"
                         : "make room for it, or name another file";
  bytes_ = file.progress() ? file.progress()->listed : 0;
  struct stat st {};
  if (file.is_kept() && ::stat(name_.c_str(), &st) == 0 && !S_ISREG(st.st_mode))
    return Error{name_, "is no regular file: no command could go on with it",
                 "--list with --resume names a file", Exit::usage};
  auto opened = open_to_write(name_, bytes_ > 0, static_cast<uint32_t>(o.servers.timeout_s * 1000));
  if (!opened) {
    Errors errors = opened.errors();
    if (bytes_ > 0)
      errors[0].hint = file.how_to_begin_anew();
    return errors;
  }
  fd_ = *std::move(opened);
  return file.is_kept() ? go_on(file) : Unit{};
}

// What was written behind the last save is written again.
Status DifferenceList::go_on(const migrate::VerifyFile &file) {
  struct stat st {};
  if (::fstat(fd_.get(), &st) != 0)
    return sys_error(name_, "cannot be read", errno);
  const auto size = static_cast<uint64_t>(st.st_size);
  if (size < bytes_)
    return Error{
        name_, "is damaged: it has " + std::to_string(size) + " bytes of " + std::to_string(bytes_),
        file.how_to_begin_anew(), Exit::failure};
  if (::ftruncate(fd_.get(), static_cast<off_t>(bytes_)) != 0)
    return sys_error(name_, "cannot be gone on with", errno);
  return Unit{};
}

Status DifferenceList::add(const std::string &key, migrate::Difference difference) {
  if (!fd_)
    return Unit{};
  const std::string line =
      std::string(migrate::difference_name(difference)) + " " + migrate::key_text(key) + "\n";
  if (const int err = write_all(fd_.get(), line); err != 0)
    return sys_error(name_, "cannot be written", err, hint_);
  bytes_ += line.size();
  return Unit{};
}

// What was equal is not any more where one was flushed and the other was not: a mirror brings it to
// both.
Status check_flushes(const migrate::VerifyFile &file, memcached::Connection &source,
                     memcached::Connection &target) {
  if (!file.progress())
    return Unit{};
  const auto here = TRY(memcached::stats(source)), there = TRY(memcached::stats(target));
  const uint64_t ours = memcached::flushes_since(here, file.flushes().source);
  const uint64_t theirs = memcached::flushes_since(there, file.flushes().target);
  if (ours == theirs)
    return Unit{};
  const memcached::Connection &flushed = ours > theirs ? source : target;
  return Error{flushed.server().text(),
               "was flushed (flush_all) more often than " +
                   (ours > theirs ? target : source).server().text() + " since that verify began",
               file.how_to_begin_anew(), Exit::failure};
}

Result<migrate::VerifyFile> open_file(const VerifyCommand &o, memcached::Connection &source,
                                      memcached::Connection &target,
                                      const migrate::VerifyOptions &options) {
  if (o.resume.empty())
    return migrate::VerifyFile();
  const std::string since =
      TRY(migrate::incarnation(source)) + " to " + TRY(migrate::incarnation(target));
  auto file = TRY(migrate::VerifyFile::open(
      o.resume, migrate::identity(source, target, options) + ", list " + o.list, since,
      {memcached::number(TRY(memcached::stats(source)), "cmd_flush"),
       memcached::number(TRY(memcached::stats(target)), "cmd_flush")}));
  TRY(check_flushes(file, source, target));
  return file;
}

Result<VerifyCounts> verify(const VerifyCommand &o) {
  if (!o.resume.empty() && !o.all)
    return Error{"--resume", "is for --all: a sample is compared within seconds", "", Exit::usage};
  for (const char *suffix : {"", ".source", ".target", ".new"})
    if (!o.list.empty() && !o.resume.empty() && is_same_file(o.list, o.resume + suffix))
      return Error{"--list, --resume", "are one file: " + o.list,
                   "each keeps another thing in a file of its own", Exit::usage};
  auto source = TRY(connect(o.source, o.servers));
  auto target = TRY(connect(o.target, o.servers));
  migrate::VerifyOptions options;
  if (!o.all)
    options.sample = o.sample;
  options.prefix = o.prefix;
  options.settle_ms = static_cast<uint32_t>(o.settle_s * 1000);
  options.rate = o.rate;
  options.stale_ok = o.stale_ok;
  auto file = TRY(open_file(o, *source, *target, options));
  DifferenceList list;
  if (const auto opened = list.open(o, file); !opened) {
    if (!file.progress())
      file.remove();
    return opened.errors();
  }
  if (file.progress())
    warn({"goes on where the last one ended"});
  Progress progress;
  const migrate::VerifyHooks hooks = {
      [&](const std::string &key, migrate::Difference d) { return list.add(key, d); },
      [&](const VerifyCounts &c, uint64_t seen, uint64_t of) { progress.show(c, seen, of); },
      [](const std::string &text) { warn({text}); }, [&] { return list.bytes(); }};
  return migrate::verify(*source, *target, options, hooks, file);
}

int run(const VerifyCommand &o) {
  const auto counts = verify(o);
  if (!counts)
    return fail(counts.errors(), o.servers.json);
  std::cout << (o.servers.json ? json_of(*counts, !o.all) : text_of(*counts, o));
  if (!std::cout.flush())
    return exit_code(Exit::failure);
  // Both without a key are equal; a sample, or a prefix, says nothing then.
  const bool looked = (o.all && o.prefix.empty()) ||
                      counts->judged() + counts->extra + counts->moving + counts->stale > 0;
  if (!looked)
    warn({"nothing was compared: " + std::string(counts->keys ? "its keys are gone from the source"
                                                              : "the source has no such key")});
  const bool proven = looked && counts->differing() + counts->unreadable == 0;
  return exit_code(proven ? Exit::ok : Exit::detached);
}

} // namespace

const Command verify_command = {
    "verify",
    "Compare the items of two memcacheds",
    "It lists the source's keys, reads a sample of 10,000 of them (--sample, or --all) on both "
    "servers, and compares values, flags and the time to live. It writes nothing, and leaves no "
    "trace on an item: neither its place in the LRU nor its age change, only the servers' counts "
    "of gets. One thing it cannot help: a read of an item that a client marked as stale (md with "
    "I) "
    "takes the token by which one client would renew it. At the source the first such read ends "
    "it, "
    "unless --stale-ok; at the target it goes on, and says how many there were. What differs "
    "counts only if a second look, --settle later, finds the same and the "
    "source has not changed it meanwhile. The exit code is 0 if nothing differs and 3 if something "
    "does, could not be read, or if there was nothing to compare. A server that speaks only the "
    "binary protocol (memcached -S) "
    "cannot be compared.",
    "doppel verify cache1 cache2:11212\n"
    "doppel verify --all --list differences.txt cache1 /run/memcached.sock\n"
    "doppel verify --all --resume /var/tmp/verify --rate 20000 cache1 cache2",
    declare<VerifyCommand, add_options, run>,
    false,
    true};

} // namespace doppel
