// SPDX-License-Identifier: Apache-2.0
// What failed, on which object, and what to do next.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace doppel {

// Exit codes of the command line.
enum class Exit { ok = 0, failure = 1, usage = 2 };

struct Error {
  std::string
      where; // object or place: "doppel.json: mappings[0].ports", "device eth0"; may be empty
  std::string what; // what is wrong, a sentence without a full stop
  std::string hint; // what to do about it; may be empty
  Exit exit = Exit::failure;
};

using Errors = std::vector<Error>;

// A value, or at least one error.
template <typename T> class [[nodiscard]] Result {
public:
  Result(T value) : v_(std::move(value)) {}     // NOLINT: implicit on purpose
  Result(Error e) : v_(Errors{std::move(e)}) {} // NOLINT
  Result(Errors e) : v_(std::move(e)) {}        // NOLINT
  explicit operator bool() const { return std::holds_alternative<T>(v_); }
  T &operator*() & { return std::get<T>(v_); }
  const T &operator*() const & { return std::get<T>(v_); }
  T &&operator*() && { return std::get<T>(std::move(v_)); }
  T *operator->() { return &std::get<T>(v_); }
  const T *operator->() const { return &std::get<T>(v_); }
  const Errors &errors() const { return std::get<Errors>(v_); }

private:
  std::variant<T, Errors> v_;
};

struct Unit {};
using Status = Result<Unit>;

} // namespace doppel
