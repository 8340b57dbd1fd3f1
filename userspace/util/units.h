// SPDX-License-Identifier: Apache-2.0
// Values with a unit, as users write them: "250ms", "64MiB", "100Mbit".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "userspace/util/error.h"

namespace doppel {

// What a number measures, and the unit in which it is kept.
enum class Measure { count, bytes, milliseconds, seconds, bits_per_second };

// "a whole number", "a size", "a time", "a rate"
std::string measure_name(Measure measure);

// Decimal digits and a unit, without a blank: ms, s, min, h, d; B, KiB, MiB, GiB; bit, kbit, Mbit,
// Gbit, Tbit. Sizes and rates may do without, a count has none. Nothing is rounded: "1500ms" is no
// whole number of seconds. Only Error.what and .hint are filled in.
Result<uint64_t> parse_measure(Measure measure, std::string_view text);

// The largest unit that leaves a whole number: "2h", "64MiB", "1500bit". Of a count the digits.
// parse_measure() reads it back exactly.
std::string measure_text(Measure measure, uint64_t value);

} // namespace doppel
