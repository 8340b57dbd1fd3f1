// SPDX-License-Identifier: Apache-2.0
// Reads typed values out of a JSON tree and collects an error, with its place, for each that is
// wrong.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "userspace/config/json_tree.h"
#include "userspace/util/error.h"
#include "userspace/util/text.h"

namespace doppel {

class ConfigReader {
public:
  using Handler = std::function<void(const JsonValue &value, const std::string &path)>;
  struct Field {
    std::string key;
    Handler handler;
    bool required = false;
  };

  // Members of an object, each handed to the handler of its key. Errors: not an object, unknown,
  // repeated and missing keys.
  void object(const JsonValue &v, const std::string &path, const std::vector<Field> &fields);

  // Elements of an array, in order. Error: not an array.
  void array(const JsonValue &v, const std::string &path, const Handler &each);

  // The rest return false, and leave `out` as it was, after an error.
  bool string(const JsonValue &v, const std::string &path, std::string &out);
  bool boolean(const JsonValue &v, const std::string &path, bool &out);
  bool ports(const JsonValue &v, const std::string &path, PortRange &out); // 11211, "11211-11212"
  bool size(const JsonValue &v, const std::string &path, uint64_t min, uint64_t max,
            uint64_t &out); // 65536, "64MiB"

  template <typename T>
  bool whole(const JsonValue &v, const std::string &path, uint64_t min, uint64_t max, T &out) {
    uint64_t n = 0;
    if (!number(v, path, min, max, n))
      return false;
    out = static_cast<T>(n);
    return true;
  }

  template <typename T>
  bool choice(const JsonValue &v, const std::string &path,
              const std::vector<std::pair<std::string, T>> &choices, T &out) {
    std::vector<std::string> names;
    for (const auto &c : choices) {
      names.push_back(c.first);
      if (v.kind == JsonValue::Kind::string && v.string == c.first) {
        out = c.second;
        return true;
      }
    }
    return not_a_choice(v, path, names);
  }

  // `path` empty: the whole file.
  void error(const JsonValue &at, const std::string &path, std::string what, std::string hint = "");
  // "doppel.json:12: mappings[0].ports"
  std::string place(const JsonValue &at, const std::string &path) const;

  explicit ConfigReader(std::string file) : file_(std::move(file)) {}
  Errors errors;

private:
  bool is(const JsonValue &v, const std::string &path, JsonValue::Kind kind);
  bool number(const JsonValue &v, const std::string &path, uint64_t min, uint64_t max,
              uint64_t &out);
  bool not_a_choice(const JsonValue &v, const std::string &path,
                    const std::vector<std::string> &names);
  std::string file_;
};

} // namespace doppel
