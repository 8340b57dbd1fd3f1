// SPDX-License-Identifier: Apache-2.0
// JSON text as a tree in which every value knows its line, and every key is still there, also a
// repeated one. For messages that point at the place of an error.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "userspace/util/error.h"

namespace doppel {

struct JsonValue {
  enum class Kind { null, boolean, integer, number, string, array, object };
  Kind kind = Kind::null;
  unsigned line = 1; // of the value's first byte, from 1
  std::string key;   // member of an object: its name
  bool boolean = false;
  int64_t integer = 0; // whole numbers beyond int64_t are Kind::number
  std::string string;
  std::vector<JsonValue> items; // elements of an array, members of an object, in their order
};

// "a string", "an object": for messages.
std::string kind_text(JsonValue::Kind kind);

// Comments are allowed. The error has the place "FILE:LINE:COLUMN". Nesting is bounded.
Result<JsonValue> parse_json_tree(const std::string &text, const std::string &file_name);

} // namespace doppel
