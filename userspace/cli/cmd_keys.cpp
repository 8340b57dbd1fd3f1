// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cctype>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <openssl/evp.h>
#include <optional>
#include <sstream>

#include "userspace/cli/command.h"
#include "userspace/cli/options.h"
#include "userspace/cli/output.h"
#include "userspace/cli/server_options.h"
#include "userspace/memcached/stats.h"
#include "userspace/migrate/key_list.h"
#include "userspace/migrate/walk.h"

namespace doppel {
namespace {
using memcached::DumpLine;

struct KeysCommand {
  std::string server, prefix;
  uint64_t limit = 0; // 0: none
  bool values = false, stale_ok = false;
  ServerOptions servers;
};

void add_options(CLI::App &app, KeysCommand &o) {
  add_server(app, "SERVER", o.server, "HOST, HOST:PORT, [IPV6]:PORT or /PATH of a Unix socket");
  add_text(app, "--prefix", o.prefix, "Only keys that begin like this", "TEXT");
  add_number(app, "--limit", o.limit, "Stop after so many keys", "N");
  add_flag(app, "--values", o.values, "Read the values, too, and their flags");
  add_flag(app, "--stale-ok", o.stale_ok,
           "Go on where reading a stale item took its application's token to renew it");
  add_server_options(app, o.servers);
}

// What was read of an item; nothing: it is gone, or cannot be read.
struct Value {
  uint64_t flags = 0;
  std::string bytes;
};

std::string base64(const std::string &bytes) {
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');
  text.resize(static_cast<size_t>(EVP_EncodeBlock(
      reinterpret_cast<unsigned char *>(text.data()),
      reinterpret_cast<const unsigned char *>(bytes.data()), static_cast<int>(bytes.size()))));
  return text;
}

// JSON is UTF-8. What is none is under NAME_base64 instead.
void put_bytes(Json &j, const std::string &name, const std::string &bytes) {
  try {
    (void)Json(bytes).dump();
    j[name] = bytes;
  } catch (const Json::type_error &) {
    j[name + "_base64"] = base64(bytes);
  }
}

// Letters, digits and signs as they are, all else as %XX: safe on a terminal, and without blanks.
std::string shown(const std::string &key) {
  std::string text;
  for (const char c : key)
    text += c != '%' && std::isgraph(static_cast<unsigned char>(c)) != 0
                ? std::string(1, c)
                : migrate::key_text({&c, 1});
  return text;
}

class Printer {
public:
  Printer(const KeysCommand &o, int64_t now) : o_(o), now_(now) {}

  void print(const DumpLine &d, const std::optional<Value> &value) {
    if (o_.servers.json)
      std::cout << json(d, value);
    else
      std::cout << text(d, value);
  }

private:
  int64_t ttl(const DumpLine &d) const {
    return d.exp < 0 ? -1 : std::max<int64_t>(0, d.exp - now_);
  }

  std::string json(const DumpLine &d, const std::optional<Value> &value) const {
    Json j;
    put_bytes(j, "key", d.key);
    j.update({{"exp", d.exp},
              {"ttl", ttl(d)},
              {"la", d.la},
              {"cas", d.cas},
              {"fetch", d.fetch},
              {"size", d.size},
              {"cls", d.cls}});
    if (value) {
      j["flags"] = value->flags;
      put_bytes(j, "value", value->bytes);
    }
    return j.dump() + "\n";
  }

  std::string text(const DumpLine &d, const std::optional<Value> &value) {
    std::ostringstream line;
    const auto cell = [&](const std::string &s, int width) {
      line << std::setw(width) << s << "  ";
    };
    if (!std::exchange(headed_, true)) {
      cell("EXPIRES IN", 10), cell("IDLE", 8), cell("READ", 4), cell("CLASS", 5), cell("SIZE", 9);
      cell("CAS", 12);
      line << (o_.values ? "     FLAGS  KEY  VALUE\n" : "KEY\n");
    }
    const int64_t idle = std::max<int64_t>(0, now_ - static_cast<int64_t>(d.la));
    cell(d.exp < 0 ? "never" : std::to_string(ttl(d)) + " s", 10);
    cell(std::to_string(idle) + " s", 8);
    cell(d.fetch ? "yes" : "no", 4);
    cell(std::to_string(d.cls), 5);
    cell(std::to_string(d.size), 9);
    cell(std::to_string(d.cas), 12);
    if (o_.values)
      cell(value ? std::to_string(value->flags) : "?", 10);
    line << shown(d.key);
    if (o_.values)
      line << "  " << (value ? memcached::quoted_answer(value->bytes) : "?");
    line << "\n";
    return line.str();
  }

  const KeysCommand &o_;
  int64_t now_; // by the server's clock
  bool headed_ = false;
};

// Reads the values of some keys, and prints them.
class ValuePrinter {
public:
  ValuePrinter(memcached::Connection &c, const KeysCommand &o, Printer &printer)
      : c_(c), o_(o), printer_(printer) {}

  Status add(DumpLine d) {
    if (!batch_.add(d.key, d.size)) {
      TRY(finish());
      batch_.add(d.key, d.size);
    }
    lines_.push_back(std::move(d));
    return Unit{};
  }

  Status finish() {
    if (batch_.empty())
      return Unit{};
    bool won = false;
    TRY(migrate::read_items({{&c_,
                              [&](size_t i, const migrate::Seen &s) {
                                won = won || s.meta.W;
                                std::optional<Value> value;
                                if (s.state == migrate::Seen::State::present)
                                  value = Value{s.meta.f.value_or(0), std::string(s.value)};
                                printer_.print(lines_[i], value);
                              }}},
                            batch_.keys()));
    batch_.clear();
    lines_.clear();
    if (won && !o_.stale_ok)
      return migrate::token_error(c_);
    return Unit{};
  }

private:
  memcached::Connection &c_;
  const KeysCommand &o_;
  Printer &printer_;
  migrate::Batch batch_;
  std::vector<DumpLine> lines_;
};

Status print_keys(const KeysCommand &o) {
  auto c = TRY(connect(o.server, o.servers));
  if (o.values)
    TRY(migrate::readable(*c));
  const auto list = TRY(migrate::list_keys(*c));
  const auto stats = TRY(memcached::stats(*c));
  Printer printer(o, static_cast<int64_t>(memcached::number(stats, "time")));
  ValuePrinter values(*c, o, printer);
  migrate::ListReader reader(list.file.get(), list.start);
  uint64_t printed = 0;
  for (DumpLine d; (o.limit == 0 || printed < o.limit) && reader.next(d);) {
    if (!d.key.starts_with(o.prefix))
      continue;
    printed++;
    if (o.values)
      TRY(values.add(std::move(d)));
    else
      printer.print(d, {});
    if (!std::cout)
      return Unit{}; // say_the_rest() tells
  }
  TRY(reader.status());
  return values.finish();
}

int run(const KeysCommand &o) {
  const auto done = print_keys(o);
  return done ? exit_code(Exit::ok) : fail(done.errors(), o.servers.json);
}

} // namespace

const Command keys_command = {
    "keys", "List the keys of a memcached",
    "A line for each key, with --json an object for each: exp (Unix time, -1: never), ttl and la "
    "(last access) by the server's clock, cas, fetch (it was read), size (of the whole item) and "
    "cls, the slab class. With --values also flags and the value, which are read without a trace "
    "on the item; a key or value that is no UTF-8 is under key_base64 or value_base64. The server "
    "makes the list at full speed, without stopping its work; its hash table does not grow "
    "meanwhile.",
    "doppel keys cache1\n"
    "doppel keys --json --values --limit 10 --prefix user: /run/memcached.sock",
    declare<KeysCommand, add_options, run>};

} // namespace doppel
