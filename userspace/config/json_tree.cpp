// SPDX-License-Identifier: Apache-2.0
#include "userspace/config/json_tree.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <nlohmann/json.hpp>

namespace doppel {
namespace {
constexpr size_t kMaxDepth = 32; // the tree is destroyed recursively

// Tells how far the library's lexer has read: its SAX events carry no place.
class Cursor {
public:
  using iterator_category = std::forward_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char *;
  using reference = const char &;

  Cursor(const char *at, const char **read) : at_(at), read_(read) {}
  reference operator*() const { return *at_; }
  Cursor &operator++() {
    *read_ = ++at_;
    return *this;
  }
  Cursor operator++(int) {
    Cursor old = *this;
    ++*this;
    return old;
  }
  friend bool operator==(const Cursor &a, const Cursor &b) { return a.at_ == b.at_; }

private:
  const char *at_;
  const char **read_;
};

struct Place {
  unsigned line = 1, column = 1;
};

Place place_of(const std::string &text, size_t offset) {
  Place p;
  for (size_t i = 0; i < offset && i < text.size(); i++) {
    p.column++;
    if (text[i] == '\n') {
      p.line++;
      p.column = 1;
    }
  }
  return p;
}

class Builder : public nlohmann::json_sax<nlohmann::json> {
public:
  Builder(const std::string &text, const std::string &file) : text_(text), file_(file) {
    read_ = text.data();
    line_from_ = text.data();
  }
  Cursor begin() { return {text_.data(), &read_}; }
  Cursor end() { return {text_.data() + text_.size(), &read_}; }

  JsonValue root;
  Error error;

  bool null() override {
    add(JsonValue::Kind::null);
    return true;
  }
  bool boolean(bool v) override {
    add(JsonValue::Kind::boolean).boolean = v;
    return true;
  }
  bool number_integer(number_integer_t v) override {
    add(JsonValue::Kind::integer, true).integer = v;
    return true;
  }
  bool number_unsigned(number_unsigned_t v) override {
    const bool fits = v <= static_cast<number_unsigned_t>(INT64_MAX);
    JsonValue &added = add(fits ? JsonValue::Kind::integer : JsonValue::Kind::number, true);
    added.integer = fits ? static_cast<int64_t>(v) : 0;
    return true;
  }
  bool number_float(number_float_t, const string_t &) override {
    add(JsonValue::Kind::number, true);
    return true;
  }
  bool string(string_t &v) override {
    add(JsonValue::Kind::string).string = std::move(v);
    return true;
  }
  bool binary(binary_t &) override { return false; } // never in text
  bool start_object(std::size_t) override { return open(JsonValue::Kind::object); }
  bool start_array(std::size_t) override { return open(JsonValue::Kind::array); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(string_t &v) override {
    key_ = std::move(v);
    return true;
  }
  bool parse_error(std::size_t position, const std::string &,
                   const nlohmann::detail::exception &ex) override {
    // "[json.exception.parse_error.101] parse error at line 3, column 4: syntax error while ..."
    std::string what = ex.what();
    const size_t column = what.find(", column ");
    if (column != std::string::npos && what.find(": ", column) != std::string::npos)
      what = what.substr(what.find(": ", column) + 2);
    else if (what.starts_with('[') && what.find("] ") != std::string::npos)
      what = what.substr(what.find("] ") + 2);
    // The library quotes what it read, and escapes all control characters but one.
    std::replace(what.begin(), what.end(), '\x7f', '?');
    fail(position == 0 ? 0 : position - 1, "not JSON: " + what,
         "a comma too many or too few before this place is the usual cause");
    return false;
  }

private:
  void fail(size_t offset, const std::string &what, const std::string &hint) {
    const Place p = place_of(text_, offset);
    error = {file_ + ":" + std::to_string(p.line) + ":" + std::to_string(p.column), what, hint,
             Exit::usage};
  }

  // No token spans lines. The end of a number shows only at the byte after it, maybe a newline.
  unsigned line(bool one_ahead) {
    const char *at = read_;
    if (one_ahead && at > text_.data() && at[-1] == '\n')
      at--;
    for (; line_from_ < at; line_from_++)
      line_ += *line_from_ == '\n';
    return line_;
  }

  JsonValue &add(JsonValue::Kind kind, bool one_ahead = false) {
    JsonValue *v = &root;
    if (!open_.empty())
      v = &open_.back()->items.emplace_back();
    v->kind = kind;
    v->line = line(one_ahead);
    v->key = std::move(key_);
    key_.clear();
    return *v;
  }

  bool open(JsonValue::Kind kind) {
    if (open_.size() >= kMaxDepth) {
      fail(static_cast<size_t>(read_ - text_.data()) - 1, "nested too deeply",
           "a configuration has at most 4 levels");
      return false;
    }
    open_.push_back(&add(kind));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  const std::string &text_;
  const std::string &file_;
  const char *read_;      // first byte not read yet
  const char *line_from_; // lines up to here are counted in line_
  unsigned line_ = 1;
  std::string key_;
  std::vector<JsonValue *> open_; // an open value is its parent's last item: pointers stay valid
};

} // namespace

std::string kind_text(JsonValue::Kind kind) {
  switch (kind) {
  case JsonValue::Kind::null:
    return "null";
  case JsonValue::Kind::boolean:
    return "true or false";
  case JsonValue::Kind::integer:
    return "a whole number";
  case JsonValue::Kind::number:
    return "a number with a fraction or out of range";
  case JsonValue::Kind::string:
    return "a string";
  case JsonValue::Kind::array:
    return "an array";
  case JsonValue::Kind::object:
    return "an object";
  }
  return "";
}

Result<JsonValue> parse_json_tree(const std::string &text, const std::string &file_name) {
  Builder builder(text, file_name);
  const bool strict = true, comments = true;
  if (!nlohmann::json::sax_parse(builder.begin(), builder.end(), &builder,
                                 nlohmann::json::input_format_t::json, strict, comments))
    return builder.error;
  return std::move(builder.root);
}

} // namespace doppel
