// SPDX-License-Identifier: Apache-2.0
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "userspace/cli/command.h"
#include "userspace/cli/interrupt.h"
#include "userspace/cli/options.h"
#include "userspace/cli/output.h"
#include "userspace/cli/server_options.h"
#include "userspace/migrate/key_reader.h"
#include "userspace/migrate/key_render.h"
#include "userspace/migrate/top_render.h"
#include "userspace/migrate/top_screen.h"

namespace doppel {
namespace {
using namespace migrate;

using Clock = std::chrono::steady_clock;

struct TopOptions {
  ServerOptions servers;
  std::string list; // of servers, with commas
  double interval_s = 1;
  bool once = false;
  bool keys = false;
};

void add_options(CLI::App &app, TopOptions &o) {
  add_text(app, "--servers", o.list, "Also show these memcacheds, separated by commas", "A,B,...");
  add_flag(app, "--keys", o.keys, "The keys that requests name most, as lines or JSON");
  add_flag(app, "--once", o.once, "One interval, then the end");
  add_seconds(app, "--interval", o.interval_s, "How long an interval is; 1 by default");
  add_server_options(app, o.servers);
}

Result<std::vector<memcached::Server>> parse_servers(const std::string &text) {
  std::vector<memcached::Server> servers;
  Errors errors;
  for (size_t at = 0; !text.empty() && at <= text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    const auto server = memcached::parse_server(text.substr(at, end - at));
    collect(server, errors);
    if (server)
      servers.push_back(*server);
    at = end + 1;
  }
  if (!errors.empty())
    return errors;
  return servers;
}

// Until that time, or until a signal comes.
void sleep_until(Clock::time_point until) {
  while (!interrupted && Clock::now() < until) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now());
    ::poll(nullptr, 0, static_cast<int>(left.count()));
  }
}

Clock::duration interval_of(const TopOptions &o) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(o.interval_s));
}

// The keys of that time, which are taken while it passes.
Result<KeyModel> keys_until(KeyReader &reader, Clock::time_point until) {
  while (!interrupted && Clock::now() < until) {
    sleep_until(std::min(until, Clock::now() + std::chrono::milliseconds(KeyReader::kTakeMs)));
    TRY(reader.take());
  }
  return reader.finish();
}

Status print_key_intervals(const TopOptions &o) {
  constexpr size_t kMost = 1000;
  const auto reader = TRY(KeyReader::open(TRY(access_of(o.servers))));
  // A short look before, which tells how large a share can be sampled.
  const auto interval = interval_of(o),
             look = std::min<Clock::duration>(interval, std::chrono::milliseconds(200));
  (void)TRY(keys_until(*reader, Clock::now() + look));
  while (!interrupted) {
    const KeyModel model = TRY(keys_until(*reader, Clock::now() + interval));
    if (interrupted)
      break;
    std::cout << (o.servers.json ? key_json(model, kMost) : key_text(model, kMost));
    if (!std::cout.flush())
      return Error{"standard output", "nobody reads it any more", ""};
    if (o.once)
      break;
  }
  return Unit{};
}

int print_keys(const TopOptions &o) {
  interrupt_by_signals();
  const Status done = print_key_intervals(o);
  return done ? exit_code(Exit::ok) : fail(done.errors(), o.servers.json);
}

// As lines, or a document for each interval.
int print(TopReader &reader, const TopOptions &o) {
  interrupt_by_signals();
  const auto interval = interval_of(o);
  // Of a stream of documents none comes late for a server that is away.
  const auto patience = o.once ? std::chrono::duration_cast<Clock::duration>(
                                     std::chrono::duration<double>(o.servers.timeout_s))
                               : interval;
  auto next = Clock::now();
  for (bool first = true; !interrupted; first = false) {
    reader.begin();
    next += interval;
    const TopModel model = reader.finish(Clock::now() + patience);
    if (first) {
      next = Clock::now() + interval; // what the first look took is none of the interval
      sleep_until(next);
      continue;
    }
    std::cout << (o.servers.json ? json_text(model, true) : to_text(model, TopLook{}));
    if (!std::cout.flush())
      return exit_code(Exit::failure); // nobody reads any more
    if (o.once)
      break;
    sleep_until(next);
  }
  return exit_code(Exit::ok);
}

int run(const TopOptions &o) {
  if (o.keys)
    return print_keys(o);
  Errors errors;
  auto servers = parse_servers(o.list);
  collect(servers, errors);
  auto access = access_of(o.servers);
  collect(access, errors);
  if (!errors.empty())
    return fail(errors, o.servers.json);
  if (servers->empty())
    if (const auto attached = find_attached("top"); !attached) {
      Errors none = attached.errors();
      none.front().hint += "; --servers A,B,... needs none";
      return fail(none, o.servers.json);
    }
  TopReader reader(std::move(*servers), *access);
  if (o.servers.json || o.once || isatty(STDOUT_FILENO) != 1 || isatty(STDIN_FILENO) != 1)
    return print(reader, o);
  const auto shown = show_top(reader, o.interval_s);
  return shown ? exit_code(Exit::ok) : fail(shown.errors(), o.servers.json);
}

constexpr char kTopDetails[] =
    "For each mapping and target what is observed, delivered, in flight and lost; beside it the "
    "memcacheds of both sides, with what happened within the interval. Without a mirror, --servers "
    "shows memcacheds alone. A server that is away has its row all the same. On a terminal it "
    "fills "
    "the screen: q quits, space pauses, m chooses between mirror and servers, k shows the keys "
    "that requests name "
    "most, h explains. Keys, on the screen or by --keys, are read by the mirror while they are "
    "shown, of mappings on the server's host (direction ingress) whose application is not any; of "
    "many requests a share is sampled, and calls a second are reckoned from that share. A row is a "
    "key at one server, which is the address and port that requests went to: behind others it may "
    "be another item. The size is that of the value that "
    "was stored last while keys were shown, and the bit rate that of so many values as were stored "
    "and read but by misses. Misses are the reads of a key that the source does not "
    "have when it is asked, at the interval's end, unless the key was written to meanwhile. A key "
    "with "
    "blanks or control bytes is not asked for, as that might take the token to renew a stale item. "
    "One doppel top at a time can show keys.";

} // namespace

const Command top_command = {"top", "Watch the mirror and the memcacheds of both sides at work",
                             kTopDetails,
                             "sudo doppel top\n"
                             "doppel top --servers cache1,cache2:11212\n"
                             "sudo doppel top --once --json\n"
                             "sudo doppel top --keys --once",
                             declare<TopOptions, add_options, run>};

} // namespace doppel
