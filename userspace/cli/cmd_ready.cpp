// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <set>

#include "userspace/cli/command.h"
#include "userspace/cli/interrupt.h"
#include "userspace/cli/options.h"
#include "userspace/cli/output.h"
#include "userspace/cli/server_options.h"
#include "userspace/keeper/keeper_lock.h"
#include "userspace/migrate/ends.h"
#include "userspace/migrate/estimate.h"
#include "userspace/migrate/ready_read.h"
#include "userspace/util/clock.h"
#include "userspace/util/fd.h"
#include "userspace/util/file.h"
#include "userspace/view/table.h"

namespace doppel {
namespace {
using namespace migrate;

constexpr FileKind kCountersFile = {"--since", "output of doppel counters --json", 64};
constexpr Exit kNotReady = Exit::detached; // the code is that of verify as well

struct ReadyOptions {
  ServerOptions servers;
  std::string source, target; // words
  std::string config, mapping, since;
  std::vector<std::string> limits;
  double window_s = 60;
  uint64_t sample = 1000;
  bool without_mirror = false;
  bool watch = false;
};

void add_options(CLI::App &app, ReadyOptions &o) {
  add_word(app, "SOURCE", o.source, "The memcached that serves now");
  add_word(app, "TARGET", o.target, "The one that is to take over");
  add_text(app, "--config", o.config, "Take sources and targets of the mappings of this file",
           "FILE");
  add_text(app, "--mapping", o.mapping, "Take this mapping alone", "NAME");
  add_seconds(app, "--window", o.window_s, "How long to look; 60 by default");
  add_texts(app, "--limit", o.limits, "Another limit of a criterion; may be repeated",
            "NAME=VALUE");
  add_text(app, "--since", o.since,
           "What doppel counters --json printed when warm began: missing_bytes counts from there",
           "FILE");
  add_number(app, "--sample", o.sample,
             "Compare N keys of the source after the window; 1000 by default", "N");
  add_flag(app, "--without-mirror", o.without_mirror, "Leave out what only a mirror can tell");
  add_flag(app, "--watch", o.watch, "Window after window, until it is ready or interrupted");
  add_server_options(app, o.servers);
}

// Of the file or of the mirror.
Result<std::vector<MappingEnds>> all_mappings(const ReadyOptions &o) {
  if (!o.config.empty())
    return ends_of(TRY(read_config(o.config)));
  return ends_of(TRY(find_attached("ready")).meta.mappings);
}

Status by_mappings(const ReadyOptions &o, ReadyWanted &wanted) {
  const auto all = TRY(all_mappings(o));
  const auto mappings = TRY(named(all, o.mapping));
  const auto listeners = TRY(listeners_of(mappings));
  Errors errors;
  for (const MappingEnds &m : mappings) {
    const auto found = find_pairs(m, listeners, wanted.access);
    collect(found, errors);
    if (found) {
      wanted.pairs.insert(wanted.pairs.end(), found->pairs.begin(), found->pairs.end());
      wanted.unpaired.insert(wanted.unpaired.end(), found->unpaired.begin(), found->unpaired.end());
    }
    for (Unpaired &alone : udp_alone(m, all))
      wanted.unpaired.push_back(std::move(alone));
    for (RowName &row : rows_of(m))
      wanted.rows.push_back(std::move(row));
  }
  return status_of(errors);
}

Status by_words(const ReadyOptions &o, ReadyWanted &wanted) {
  const auto source = memcached::parse_server(o.source), target = memcached::parse_server(o.target);
  Errors errors;
  collect(source, errors);
  collect(target, errors);
  if (!errors.empty())
    return errors;
  wanted.pairs.push_back({"", *source, *target});
  if (o.without_mirror)
    return Unit{};
  const auto attached = find_attached("ready");
  if (!attached)
    return Unit{}; // told with each criterion of it
  const auto mappings = ends_of(TRY(migrate::mappings_of(*attached, *source, wanted.access)));
  for (const Address &address : addresses_of(*target))
    for (RowName &row : rows_between(mappings, source->port, address, target->port))
      wanted.rows.push_back(std::move(row));
  if (wanted.rows.empty())
    wanted.rows_absent = "not seen: " + no_mapping(*source, *target);
  return Unit{};
}

Status read_since(const ReadyOptions &o, ReadyWanted &wanted) {
  if (o.since.empty())
    return Unit{};
  const Fd fd = open_to_read(o.since);
  if (!fd)
    return sys_error(o.since, "cannot be read", errno);
  const auto text = TRY(read_file(fd.get(), o.since, kCountersFile, wanted.access.timeout_ms));
  const auto attached = TRY(find_attached("ready"));
  wanted.at_since = TRY(missing_of(text, o.since, attached.meta.since));
  wanted.since_attached = attached.meta.since;
  return Unit{};
}

Status check(const ReadyOptions &o) {
  const bool words = !o.source.empty();
  if (words && o.target.empty())
    return Error{"doppel ready", "a source without a target", "name both: SOURCE TARGET",
                 Exit::usage};
  if (words && (!o.config.empty() || !o.mapping.empty()))
    return Error{"doppel ready", "SOURCE TARGET cannot go together with --config or --mapping",
                 "give the one or the others", Exit::usage};
  return Unit{};
}

struct Prepared {
  ReadyWanted wanted;
  CriterionLimits limits;
};

// All errors of the command line at once.
Result<Prepared> prepare(const ReadyOptions &o) {
  Prepared p;
  Errors errors;
  const auto limits = parse_limits(o.limits);
  const auto access = access_of(o.servers);
  collect(check(o), errors);
  collect(limits, errors);
  collect(access, errors);
  if (!errors.empty())
    return errors;
  p.limits = *limits;
  p.wanted.access = *access;
  p.wanted.without_mirror = o.without_mirror;
  TRY(o.source.empty() ? by_mappings(o, p.wanted) : by_words(o, p.wanted));
  TRY(read_since(o, p.wanted));
  return p;
}

// On a terminal, as long as the window is open: nothing else is printed meanwhile.
class LookingLine {
public:
  explicit LookingLine(double seconds) {
    if (is_terminal_)
      std::cerr << "looking for " << human_ms(static_cast<uint64_t>(seconds * 1000)) << " ..."
                << std::flush;
  }
  ~LookingLine() {
    if (is_terminal_)
      std::cerr << "\r\x1b[K" << std::flush;
  }
  LookingLine(const LookingLine &) = delete;
  LookingLine &operator=(const LookingLine &) = delete;

private:
  bool is_terminal_ = ::isatty(STDERR_FILENO) == 1;
};

// Until the window is over, or a signal comes.
void wait_for(double seconds, ResetWatch &resets) {
  const LookingLine line(seconds);
  constexpr uint64_t kLookNs = kSecondNs;
  const uint64_t begin = monotonic_ns();
  const uint64_t until = begin + static_cast<uint64_t>(seconds * 1e9);
  uint64_t look_at = begin + kLookNs;
  for (uint64_t now = begin; now < until && !interrupted; now = monotonic_ns()) {
    if (now >= look_at) {
      resets.look();
      look_at = now + kLookNs;
    }
    ::poll(nullptr, 0, static_cast<int>((std::min(until, look_at) - now) / kMsNs + 1));
  }
}

bool print(const Readiness &r, const ReadyOptions &o) {
  std::cout << (o.servers.json ? json_text(r, o.watch) : to_text(r) + (o.watch ? "\n" : ""));
  return static_cast<bool>(std::cout.flush());
}

// What the window from `begin` to `end` comes to.
Readiness judge(const Prepared &p, const ReadyOptions &o, const ReadyLook &begin,
                const ReadyLook &end, Estimate &estimate) {
  std::vector<Problem> problems;
  if (end.counters)
    problems = read_problems(find_keeper);
  auto window = window_of(p.wanted, begin, end, std::move(problems));
  for (PairWindow &pair : window.pairs) // after the window, so that what it reads is not in it
    sample_keys(pair, p.wanted.access, o.sample);
  Readiness r{std::time(nullptr), window.over_ns / 1'000'000, judge_ready(window, p.limits), {}};
  r.ready_in_s = estimate.after(static_cast<double>(end.at_ns) / 1e9, r.findings);
  return r;
}

// A reload may have added mappings, and targets. What cannot be found out is not met.
void look_again(ReadyWanted &wanted, const ReadyOptions &o) {
  if (!o.source.empty() || !o.config.empty())
    return;
  ReadyWanted now = wanted;
  now.pairs.clear();
  now.unpaired.clear();
  now.rows.clear();
  now.rows_absent.clear();
  if (const auto found = by_mappings(o, now)) {
    wanted = std::move(now);
  } else {
    wanted.rows.clear();
    wanted.rows_absent = "not seen: " + found.errors().front().what;
    wanted.unpaired = {{"the mappings", wanted.rows_absent, "look again"}};
  }
}

// Nobody looked at what a reload added within the window.
void find_added(ReadyWanted &wanted, const ReadyOptions &o) {
  ReadyWanted now = wanted;
  look_again(now, o);
  std::set<std::string> added;
  for (const RowName &row : now.rows)
    if (std::find(wanted.rows.begin(), wanted.rows.end(), row) == wanted.rows.end())
      added.insert(row.mapping);
  for (const std::string &mapping : added)
    wanted.unpaired.push_back(
        {mapping, "a reload added it, or a target of it, within the window", "look again"});
}

int watch(Prepared p, const ReadyOptions &o) {
  interrupt_by_signals();
  Estimate estimate;
  Readiness r;
  for (;;) {
    const auto begin = look(p.wanted);
    ResetWatch resets(p.wanted, begin);
    wait_for(o.window_s, resets);
    if (interrupted)
      break; // a window that was cut short is none
    auto end = look(p.wanted);
    resets.note(end);
    find_added(p.wanted, o);
    r = judge(p, o, begin, end, estimate);
    if (!print(r, o))
      return exit_code(Exit::failure);
    if (!o.watch || is_ready(r.findings))
      break;
    look_again(p.wanted, o);
  }
  return exit_code(is_ready(r.findings) ? Exit::ok : kNotReady);
}

int run(const ReadyOptions &o) {
  auto prepared = prepare(o);
  return prepared ? watch(std::move(*prepared), o) : fail(prepared.errors(), o.servers.json);
}

constexpr char kReadyDetails[] =
    "It looks at the mirror and at both memcacheds over one window, and holds what it saw against "
    "a limit for each criterion (docs/ready.md). Without words it takes the mappings of the "
    "mirror; the source of a mapping is asked at 127.0.0.1 where it listens there as well. What "
    "was "
    "not seen is not met. The exit code is 0 if the targets can take over, 3 if not.";

} // namespace

const Command ready_command = {"ready",
                               "Tell whether the targets can take over, and what is against it",
                               kReadyDetails,
                               "sudo doppel ready\n"
                               "sudo doppel ready --mapping data --watch --window 10\n"
                               "doppel ready cache1 cache2 --without-mirror --limit warmth=95%",
                               declare<ReadyOptions, add_options, run>,
                               false,
                               true};

} // namespace doppel
