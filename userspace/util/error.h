// SPDX-License-Identifier: Apache-2.0
// What failed, on which object, and what to do next.
//
//     Result<Plan> plan_of(const std::string &file) {
//       auto config = TRY(read_config(file)); // returns the errors of read_config(), if it has any
//       if (config.mappings.empty())
//         return Error{file, "has no mappings", "name at least one"};
//       return make_plan(config, host);
//     }
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace doppel {

// Exit codes of the command line.
enum class Exit {
#define DP_EXIT(name, code, help) name = code,
#include "doppel/exits.def"
};

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

// Done, if there are none.
inline Status status_of(Errors errors) {
  if (errors.empty())
    return Unit{};
  return errors;
}

inline void collect(const Errors &more, Errors &errors) {
  errors.insert(errors.end(), more.begin(), more.end());
}

// The errors of `result`, if it has any, are added to `errors`.
template <typename T> void collect(const Result<T> &result, Errors &errors) {
  if (!result)
    collect(result.errors(), errors);
}

// The value of a Result. Where it has none, the function that this stands in returns its errors.
//
//     auto nl = TRY(Rtnl::open());
//     TRY(check_devices());
//
// A statement expression, which g++ and clang++ know (GCC manual, 6.1).
#define TRY(...)                                                                                   \
  ({                                                                                               \
    auto &&result_of_try = (__VA_ARGS__);                                                          \
    if (!result_of_try)                                                                            \
      return result_of_try.errors();                                                               \
    *std::move(result_of_try);                                                                     \
  })

} // namespace doppel
