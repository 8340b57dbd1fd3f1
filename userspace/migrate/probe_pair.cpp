// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/probe_pair.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "userspace/memcached/answers.h"
#include "userspace/migrate/slab_fit.h"
#include "userspace/util/text.h"
#include "userspace/view/table.h"

namespace doppel::migrate {
using memcached::number;
using memcached::Stats;

namespace {
using Level = PairLevel;

constexpr uint64_t kIdleSeconds = 60; // a list of ten million keys takes about half of that
constexpr int64_t kClockSlack = 2;    // s; memcached's own clock ticks once a second

std::string text_of(const Stats &stats, const std::string &name) {
  const auto found = stats.find(name);
  if (found == stats.end())
    return "";
  const std::string &text = found->second; // of whoever answers there
  const bool plain =
      std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; });
  return plain ? text : memcached::quoted_answer(text);
}

// A setting that this version does not have is not off.
bool is(const ServerFacts &f, const char *setting, const char *value) {
  return text_of(f.settings, setting) == value;
}

std::string bytes(uint64_t n) { return human_bytes(static_cast<int64_t>(n)); }
std::string count(uint64_t n) { return human_count(static_cast<int64_t>(n)); }

class Judge {
public:
  Judge(const ServerFacts &source, const ServerFacts &target) : s_(source), t_(target) {}

  std::vector<PairRow> rows() {
    versions();
    item_size();
    cas();
    listing();
    memory();
    limits();
    evictions();
    pending_flush();
    idle();
    flush();
    flags();
    access();
    transport();
    clocks();
    features();
    storage();
    admin();
    place();
    return std::move(rows_);
  }

private:
  void add(Level level, const char *about, std::string what, std::string remedy = {}) {
    rows_.push_back({level, about, std::move(what), std::move(remedy)});
  }

  void versions() {
    const std::string a = text_of(s_.general, "version"), b = text_of(t_.general, "version");
    add(Level::ok, "version", a == b ? "both " + a : "source " + a + ", target " + b);
  }

  void item_size() {
    const uint64_t a = number(s_.settings, "item_size_max");
    const uint64_t b = number(t_.settings, "item_size_max");
    if (b < a)
      add(Level::fail, "item size",
          "the target takes items up to " + bytes(b) + ", the source up to " + bytes(a) +
              ": a larger set removes the old value there",
          "start the target with -I " + std::to_string(a));
    else
      add(Level::ok, "item size", "the target takes items up to " + bytes(b));
  }

  void cas() {
    const char lost[] =
        " has no CAS (-C): whether a key changed meanwhile cannot be told, so that a "
        "deleted one may come back";
    if (is(s_, "cas_enabled", "no"))
      add(Level::fail, "cas", std::string("the source") + lost,
          "mirror without doppel warm, and wait until the target has filled");
    if (is(t_, "cas_enabled", "no"))
      add(Level::fail, "cas", std::string("the target") + lost, "start the target without -C");
    if (!is(s_, "cas_enabled", "no") && !is(t_, "cas_enabled", "no"))
      add(Level::ok, "cas", "on for both");
  }

  // Whether the keys can be listed.
  void listing() {
    const bool source =
        can_list(s_, "source", Level::fail,
                 "mirror without doppel warm, and wait until the target has filled");
    const bool target = can_list(t_, "target", Level::warn,
                                 "start the target without -X; until then doppel verify "
                                 "does not see what only the target has");
    if (source && target)
      add(Level::ok, "list of keys", "both tell it (lru_crawler metadump)");
  }

  bool can_list(const ServerFacts &f, const std::string &side, Level level, const char *otherwise) {
    if (is(f, "dump_enabled", "no")) {
      add(level, "list of keys", "the " + side + " does not tell its keys (-X)", otherwise);
      return false;
    }
    if (is(f, "lru_crawler", "no")) {
      add(level, "list of keys", "the LRU crawler of the " + side + " is off",
          "send it \"lru_crawler enable\"");
      return false;
    }
    if (!f.features.metadump) {
      add(level, "list of keys", "the " + side + " knows no lru_crawler metadump", otherwise);
      return false;
    }
    return true;
  }

  void memory() {
    const Fit fit = fit_of(class_loads(s_.items, s_.slabs), shape_of(t_.settings));
    const std::string need = "the source's " + count(number(s_.general, "curr_items")) +
                             " items will take " + bytes(fit.likely) +
                             (fit.at_most > fit.likely ? " to " + bytes(fit.at_most) : "") +
                             " of the target's " + bytes(fit.memory);
    const uint64_t megabytes = (fit.at_most >> 20) + 1;
    const std::string more = "start the target with -m " + std::to_string(megabytes) + " or more";
    const uint64_t flash = memcached::flash_limit(t_.general);
    if (fit.likely > fit.memory && fit.likely <= fit.memory + flash)
      add(Level::warn, "memory",
          need + " and " + bytes(flash) +
              " of flash: they fit if enough of them are large enough for flash (ext_item_size)",
          more + ", or watch its evictions");
    else if (fit.likely > fit.memory)
      add(Level::fail, "memory",
          need + (flash ? " and " + bytes(flash) + " of flash" : "") +
              ": they do not fit, and it will evict for ever",
          more);
    else if (fit.at_most > fit.memory)
      add(Level::warn, "memory", need + ": they may not fit", more);
    else
      add(Level::ok, "memory", need);
    const uint64_t a = number(s_.settings, "maxbytes"), b = number(t_.settings, "maxbytes");
    if (b < a)
      add(Level::warn, "room to grow",
          "the target may grow to " + bytes(b) + ", the source to " + bytes(a),
          "start the target with -m " + std::to_string(a >> 20));
  }

  void smaller(const char *about, const char *setting, const Stats &a, const Stats &b,
               const std::string &what, const std::string &remedy) {
    const uint64_t source = number(a, setting), target = number(b, setting);
    if (target < source)
      add(Level::warn, about,
          "the target has " + count(target) + " " + what + ", the source " + count(source),
          remedy + std::to_string(source));
  }

  void limits() {
    const size_t before = rows_.size();
    smaller("connections", "maxconns", s_.settings, t_.settings, "connections at most",
            "start the target with -c ");
    smaller("threads", "num_threads", s_.settings, t_.settings, "threads",
            "start the target with -t ");
    smaller("hash table", "hash_power_level", s_.general, t_.general,
            "bits of hash table (it grows while it fills, and can list no keys meanwhile)",
            "start the target with -o hashpower=");
    if (rows_.size() == before)
      add(Level::ok, "limits", "connections, threads and hash table are no smaller on the target");
  }

  void evictions() {
    if (is(t_, "evictions", "off") && !is(s_, "evictions", "off"))
      add(Level::fail, "evictions",
          "the target refuses stores when it is full (-M), the source evicts",
          "start the target without -M");
    else if (is(s_, "evictions", "off") && !is(t_, "evictions", "off"))
      add(Level::warn, "evictions",
          "the source refuses stores when it is full (-M), the target evicts",
          "start the target with -M");
    else
      add(Level::ok, "evictions", is(s_, "evictions", "off") ? "off for both" : "on for both");
  }

  void pending_flush() {
    const uint64_t ours = memcached::pending_flush_s(s_.general, s_.settings);
    const uint64_t theirs = memcached::pending_flush_s(t_.general, t_.settings);
    if (ours == 0 && theirs == 0)
      return;
    std::string what = ours ? "at the source" : "at the target";
    what += " one with a delay is pending: in ";
    what += count(ours ? ours : theirs);
    what += " s nothing that it holds now can be read any more, and a mirror that begins now does "
            "not see that";
    add(Level::fail, "flush_all", std::move(what), "wait until it is over");
  }

  void idle() {
    for (const auto *one : {&s_, &t_}) {
      const uint64_t s = number(one->settings, "idle_timeout");
      if (s == 0 || s >= kIdleSeconds)
        continue;
      std::string what = one == &s_ ? "the source" : "the target";
      what += " closes those that are quiet for ";
      what += count(s);
      what +=
          " s (-o idle_timeout), as one of doppel's own may be while the other server lists its "
          "keys";
      add(Level::warn, "idle connections", std::move(what),
          "start it without, or with " + count(kIdleSeconds) + " or more");
    }
  }

  void flush() {
    if (is(s_, "flush_enabled", "no") != is(t_, "flush_enabled", "no"))
      add(Level::warn, "flush_all", "one of the two refuses it (-F): after one they differ",
          is(t_, "flush_enabled", "no") ? "start the target without -F"
                                        : "start the target with -F");
  }

  void flags() {
    const uint64_t a = memcached::most_flags(s_.settings), b = memcached::most_flags(t_.settings);
    if (a == b)
      return;
    const auto bits = [](uint64_t most) { return std::to_string(std::bit_width(most)); };
    add(Level::fail, "client flags",
        "the source keeps " + bits(a) + " bits of them, the target " + bits(b),
        std::string("take a target that was built with") + (a < b ? "out" : "") +
            " --enable-large-client-flags");
  }

  void access() {
    for (const auto &one :
         {std::pair("auth_enabled_sasl", "-S"), std::pair("auth_enabled_ascii", "-Y FILE")}) {
      const char *setting = one.first, *option = one.second; // no binding: clang 14 captures none
      const std::string about = std::string("authentication (") + option + ")";
      // That of -Y is the name of its file (memcached 1.6.18).
      const auto on = [&](const ServerFacts &f) {
        return !text_of(f.settings, setting).empty() && !is(f, setting, "no");
      };
      const bool a = on(s_), b = on(t_);
      if (b && !a)
        add(Level::fail, about.c_str(),
            "the target asks for it, and clients send none to the source",
            std::string("start the target without ") + option);
      else if (a && !b)
        add(Level::warn, about.c_str(), "the source asks for it, the target takes it for a command",
            std::string("start the target with ") + option + " and the same users");
    }
  }

  void transport() {
    if (is(s_, "ssl_enabled", "yes"))
      add(Level::fail, "TLS", "the source speaks TLS, which cannot be mirrored",
          "copy with doppel warm alone");
    else if (is(t_, "ssl_enabled", "yes"))
      add(Level::fail, "TLS", "the target wants TLS, and the source's clients do without",
          "start the target without -Z");
    const std::string a = text_of(s_.settings, "binding_protocol");
    const std::string b = text_of(t_.settings, "binding_protocol");
    if (b != "auto-negotiate" && a != b)
      add(Level::fail, "protocol", "the source takes " + a + ", the target " + b,
          "start the target without -B");
    if (number(s_.settings, "udpport"))
      add(Level::warn, "UDP",
          "the source takes commands by UDP (-U), which no mapping of TCP mirrors",
          "where clients use it, add a mapping with \"protocol\": \"udp\"");
  }

  void clocks() {
    const int64_t apart = t_.ahead_s - s_.ahead_s;
    if (std::abs(apart) > kClockSlack)
      add(Level::warn, "clocks",
          "the target's clock is " + count(static_cast<uint64_t>(std::abs(apart))) + " s " +
              (apart > 0 ? "ahead" : "behind") +
              ": an absolute time of expiry comes at another moment there",
          "set the clocks, with NTP");
    else
      add(Level::ok, "clocks", "both tell the same time");
  }

  void features() {
    const size_t before = rows_.size();
    if (!s_.features.meta)
      add(Level::warn, "meta commands", "the source has none: reading its keys moves its LRU", "");
    if (!t_.features.meta)
      add(Level::fail, "meta commands",
          "the target has none: what doppel warm adds cannot be undone",
          "take a target of memcached 1.6 or later");
    if (rows_.size() == before)
      add(Level::ok, "meta commands",
          std::string("both know them") +
              (t_.features.set_cas ? "; a copy keeps the source's CAS"
                                   : "; a copy has a CAS of its own, so that a client's next cas "
                                     "fails there once"));
    if (s_.features.meta_base64 && !t_.features.meta_base64)
      add(Level::warn, "binary keys", "the target does not take them in meta commands",
          "take a target of memcached 1.6.10 or later");
  }

  void storage() {
    const uint64_t a = memcached::flash_limit(s_.general), b = memcached::flash_limit(t_.general);
    if (b && b < a)
      add(Level::warn, "extstore",
          "the target may take " + bytes(b) + " of flash, the source " + bytes(a),
          "give the target's -o ext_path as much");
    else if (a && !b)
      add(Level::warn, "extstore",
          "the source has items on flash, which \"memory\" does not count, the target has no flash",
          "start the target with -o ext_path, or with as much memory more");
  }

  // Told of a good pair as well: nobody expects it.
  void admin() {
    add(Level::ok, "admin commands",
        "what an admin sends to the source by the captured device reaches the target as well: "
        "flush_all, cache_memlimit, stats reset" +
            std::string(is(t_, "shutdown_command", "yes") ? ", shutdown (-A)" : "") +
            "; by 127.0.0.1 on the source's host it does not");
  }

  void place() {
    if (s_.here)
      add(Level::ok, "this host",
          "the source is here: what doppel reads of it by 127.0.0.1 is not captured");
    else
      add(Level::warn, "this host",
          "the source is on another host: what doppel reads of it is not mirrored there, but warm "
          "does not wait for that mirror, and ready does not see it",
          "run verify, warm and ready on the source's host");
  }

  const ServerFacts &s_, &t_;
  std::vector<PairRow> rows_;
};

const char *level_name(Level level) {
  return level == Level::ok ? "ok" : level == Level::warn ? "warn" : "fail";
}

} // namespace

std::vector<PairRow> judge_pair(const ServerFacts &source, const ServerFacts &target) {
  return Judge(source, target).rows();
}

bool is_fine(const std::vector<PairRow> &rows) {
  return std::all_of(rows.begin(), rows.end(),
                     [](const PairRow &r) { return r.level == Level::ok; });
}

Json to_json(const std::vector<PairRow> &rows) {
  Json list = Json::array();
  for (const PairRow &r : rows)
    list.push_back({{"level", level_name(r.level)},
                    {"about", r.about},
                    {"what", r.what},
                    {"do", r.remedy.empty() ? Json(nullptr) : Json(r.remedy)}});
  return {{"fine", is_fine(rows)}, {"rows", list}};
}

std::string to_text(const std::vector<PairRow> &rows) {
  Table table({"", "ABOUT", "WHAT"});
  for (const PairRow &r : rows) {
    table.row({level_name(r.level), r.about, r.what});
    if (!r.remedy.empty())
      table.row({"", "", "do: " + r.remedy});
  }
  return table.text();
}

std::string json_text(const std::vector<PairRow> &rows, bool one_line) {
  return dump(to_json(rows), one_line);
}

} // namespace doppel::migrate
