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
#include "userspace/config/settings.h"
#include "userspace/util/error.h"
#include "userspace/util/text.h"

namespace doppel {

class ConfigReader {
public:
  using Handler = std::function<void(const JsonValue &value, const std::string &path)>;
  struct Field {
    std::string key;
    Handler handler; // JsonValue::key tells which spelling it was
    bool required = false;
    std::string former = {}; // another spelling of the same key
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
  bool number(const JsonValue &v, const std::string &path, const NumberKey &key, uint64_t &out);
  bool choice(const JsonValue &v, const std::string &path, const std::string &key, int64_t &out);

  template <typename T>
  bool choice(const JsonValue &v, const std::string &path, const std::string &key, T &out) {
    int64_t value = 0;
    if (!choice(v, path, key, value))
      return false;
    out = static_cast<T>(value);
    return true;
  }

  // `path` empty: the whole file.
  void error(const JsonValue &at, const std::string &path, std::string what, std::string hint = "");
  // "doppel.json:12: mappings[0].ports"
  std::string place(const JsonValue &at, const std::string &path) const;

  explicit ConfigReader(std::string file) : file_(std::move(file)) {}
  Errors errors;
  std::vector<std::string> former; // what is spelt as in former versions: a sentence each

private:
  bool is(const JsonValue &v, const std::string &path, JsonValue::Kind kind);
  bool former_number(const JsonValue &v, const std::string &path, const NumberKey &key,
                     uint64_t &out);
  std::string file_;
};

} // namespace doppel
