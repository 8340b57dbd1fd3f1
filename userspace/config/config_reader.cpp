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
  std::vector<std::string> known;
  known.reserve(fields.size());
  for (const Field &f : fields)
    known.push_back(f.key);
  std::vector<const Field *> seen;
  std::vector<std::string> unknown;
  for (const JsonValue &item : v.items) {
    const bool plain = std::all_of(item.key.begin(), item.key.end(),
                                   [](unsigned char c) { return c > 0x20 && c < 0x7f; });
    const std::string item_path =
        (path.empty() ? "" : path + ".") + (plain && item.key.size() <= 64 ? item.key : "?");
    const auto field = std::find_if(fields.begin(), fields.end(), [&](const Field &f) {
      return f.key == item.key || (!f.former.empty() && f.former == item.key);
    });
    const bool twice = field == fields.end()
                           ? std::find(unknown.begin(), unknown.end(), item.key) != unknown.end()
                           : std::find(seen.begin(), seen.end(), &*field) != seen.end();
    if (twice) {
      const bool same = field == fields.end() || item.key == field->key;
      error(item, item_path,
            "the key " + in_quotes(same ? item.key : field->key) + " is given twice",
            same ? "remove one of the two"
                 : in_quotes(item.key) + " is its former spelling: remove one of the two");
    } else if (field == fields.end()) {
      unknown.push_back(item.key);
      const auto near = nearest(item.key, known);
      error(item, item_path, "unknown key " + in_quotes(item.key),
            near ? "did you mean \"" + *near + "\"?" : "known here are " + quoted_list(known));
    } else {
      seen.push_back(&*field);
      field->handler(item, item_path);
    }
  }
  for (const Field &f : fields)
    if (f.required && std::find(seen.begin(), seen.end(), &f) == seen.end())
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

// A value that fits the field, as users would write it: for hints.
static std::string example(const NumberKey &key, uint64_t value) {
  return in_quotes(measure_text(key.measure, value));
}

// A plain number in the field's unit.
bool ConfigReader::former_number(const JsonValue &v, const std::string &path, const NumberKey &key,
                                 uint64_t &out) {
  if (v.kind != JsonValue::Kind::integer) {
    error(v, path, "must be a whole number, not " + kind_text(v.kind),
          "a value with a unit goes with the key " + in_quotes(key.name));
    return false;
  }
  if (v.integer < 0 || static_cast<uint64_t>(v.integer) < key.min ||
      static_cast<uint64_t>(v.integer) > key.max) {
    error(v, path, std::to_string(v.integer) + " is out of range",
          "give a number from " + std::to_string(key.min) + " to " + std::to_string(key.max));
    return false;
  }
  out = static_cast<uint64_t>(v.integer);
  former.push_back(place(v, path) +
                   (v.key == key.name
                        ? ": a number is the former spelling: write "
                        : ": this is the former spelling of " + in_quotes(key.name) + ": ") +
                   example(key, out));
  return true;
}

bool ConfigReader::number(const JsonValue &v, const std::string &path, const NumberKey &key,
                          uint64_t &out) {
  const bool time = key.measure == Measure::milliseconds || key.measure == Measure::seconds;
  const bool count = key.measure == Measure::count, plain = v.kind == JsonValue::Kind::integer;
  if (v.key == key.former && (plain || v.key != key.name))
    return former_number(v, path, key, out);
  if (plain ? time : count || v.kind != JsonValue::Kind::string) {
    std::string hint = count ? "" : "write " + example(key, key.max);
    if (plain && v.integer >= 0)
      hint = "say in which unit, as in " + example(key, static_cast<uint64_t>(v.integer));
    error(v, path, "must be " + measure_name(key.measure) + ", not " + kind_text(v.kind), hint);
    return false;
  }
  uint64_t n = plain ? static_cast<uint64_t>(v.integer) : 0;
  if (!plain) {
    const auto parsed = parse_measure(key.measure, v.string);
    if (!parsed) {
      error(v, path, parsed.errors()[0].what, parsed.errors()[0].hint);
      return false;
    }
    n = *parsed;
  }
  if ((plain && v.integer < 0) || n < key.min || n > key.max) {
    error(v, path, (plain ? std::to_string(v.integer) : in_quotes(v.string)) + " is out of range",
          count ? "give a number from " + std::to_string(key.min) + " to " + std::to_string(key.max)
                : "give " + measure_name(key.measure) + " from " + example(key, key.min) + " to " +
                      example(key, key.max));
    return false;
  }
  out = n;
  return true;
}

bool ConfigReader::choice(const JsonValue &v, const std::string &path, const std::string &key,
                          int64_t &out) {
  if (!is(v, path, JsonValue::Kind::string))
    return false;
  std::vector<std::string> names;
  for (const Choice &c : all_choices()) {
    if (c.key != key)
      continue;
    names.push_back(c.name);
    if (c.name != v.string)
      continue;
    out = c.value;
    return true;
  }
  const auto near = nearest(v.string, names);
  error(v, path, in_quotes(v.string) + " is none of " + quoted_list(names),
        near ? "did you mean \"" + *near + "\"?" : "");
  return false;
}

} // namespace doppel
