// SPDX-License-Identifier: Apache-2.0
#include "userspace/config/config_reader.h"

#include <algorithm>

#include "userspace/util/units.h"

namespace doppel {
std::string ConfigReader::place(const JsonValue &at, const std::string &path) const {
  return file_ + ":" + std::to_string(at.line) + (path.empty() ? "" : ": " + path);
}

void ConfigReader::error(const JsonValue &at, const std::string &path, std::string what,
                         std::string hint) {
  errors.push_back({place(at, path), std::move(what), std::move(hint), Exit::usage});
}

bool ConfigReader::is(const JsonValue &v, const std::string &path, JsonValue::Kind kind) {
  if (v.kind == kind)
    return true;
  error(v, path, "must be " + kind_text(kind) + ", not " + kind_text(v.kind));
  return false;
}

void ConfigReader::object(const JsonValue &v, const std::string &path,
                          const std::vector<Field> &fields) {
  if (!is(v, path, JsonValue::Kind::object))
    return;
  std::vector<std::string> known, seen;
  for (const Field &f : fields)
    known.push_back(f.key);
  for (const JsonValue &item : v.items) {
    const bool plain = std::all_of(item.key.begin(), item.key.end(),
                                   [](unsigned char c) { return c > 0x20 && c < 0x7f; });
    const std::string item_path =
        (path.empty() ? "" : path + ".") + (plain && item.key.size() <= 64 ? item.key : "?");
    if (std::find(seen.begin(), seen.end(), item.key) != seen.end()) {
      error(item, item_path, "the key " + in_quotes(item.key) + " is given twice",
            "remove one of the two");
      continue;
    }
    seen.push_back(item.key);
    const auto field = std::find(known.begin(), known.end(), item.key);
    if (field == known.end()) {
      const auto near = nearest(item.key, known);
      error(item, item_path, "unknown key " + in_quotes(item.key),
            near ? "did you mean \"" + *near + "\"?" : "known here are " + quoted_list(known));
      continue;
    }
    fields[static_cast<size_t>(field - known.begin())].handler(item, item_path);
  }
  for (const Field &f : fields)
    if (f.required && std::find(seen.begin(), seen.end(), f.key) == seen.end())
      error(v, path, "the key \"" + f.key + "\" is missing");
}

void ConfigReader::array(const JsonValue &v, const std::string &path, const Handler &each) {
  if (!is(v, path, JsonValue::Kind::array))
    return;
  for (size_t i = 0; i < v.items.size(); i++)
    each(v.items[i], path + "[" + std::to_string(i) + "]");
}

bool ConfigReader::string(const JsonValue &v, const std::string &path, std::string &out) {
  if (!is(v, path, JsonValue::Kind::string))
    return false;
  out = v.string;
  return true;
}

bool ConfigReader::boolean(const JsonValue &v, const std::string &path, bool &out) {
  if (!is(v, path, JsonValue::Kind::boolean))
    return false;
  out = v.boolean;
  return true;
}

bool ConfigReader::number(const JsonValue &v, const std::string &path, uint64_t min, uint64_t max,
                          uint64_t &out) {
  if (!is(v, path, JsonValue::Kind::integer))
    return false;
  if (v.integer < 0 || static_cast<uint64_t>(v.integer) < min ||
      static_cast<uint64_t>(v.integer) > max) {
    error(v, path, std::to_string(v.integer) + " is out of range",
          "give a number from " + std::to_string(min) + " to " + std::to_string(max));
    return false;
  }
  out = static_cast<uint64_t>(v.integer);
  return true;
}

bool ConfigReader::ports(const JsonValue &v, const std::string &path, PortRange &out) {
  std::string text = v.string;
  if (v.kind == JsonValue::Kind::integer)
    text = std::to_string(v.integer);
  else if (v.kind != JsonValue::Kind::string) {
    error(v, path, "must be a port or a range of ports, not " + kind_text(v.kind),
          "write 11211 or \"11211-11212\"");
    return false;
  }
  const auto range = parse_ports(text);
  if (!range) {
    error(v, path, range.errors()[0].what, range.errors()[0].hint);
    return false;
  }
  out = *range;
  return true;
}

bool ConfigReader::size(const JsonValue &v, const std::string &path, uint64_t min, uint64_t max,
                        uint64_t &out) {
  if (v.kind == JsonValue::Kind::integer)
    return number(v, path, min, max, out);
  if (v.kind != JsonValue::Kind::string) {
    error(v, path, "must be a size, not " + kind_text(v.kind), "write bytes, or \"64MiB\"");
    return false;
  }
  const auto n = parse_measure(Measure::bytes, v.string);
  if (!n) {
    error(v, path, n.errors()[0].what, n.errors()[0].hint);
    return false;
  }
  if (*n < min || *n > max) {
    error(v, path, in_quotes(v.string) + " is out of range",
          "give from " + std::to_string(min) + " to " + std::to_string(max) + " bytes");
    return false;
  }
  out = *n;
  return true;
}

bool ConfigReader::not_a_choice(const JsonValue &v, const std::string &path,
                                const std::vector<std::string> &names) {
  if (!is(v, path, JsonValue::Kind::string))
    return false;
  const auto near = nearest(v.string, names);
  error(v, path, in_quotes(v.string) + " is none of " + quoted_list(names),
        near ? "did you mean \"" + *near + "\"?" : "");
  return false;
}

} // namespace doppel
