// SPDX-License-Identifier: Apache-2.0
// TCP options, one by one as bytes; good, unwanted and broken ones.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <utility>
#include <vector>

#include "tests/packet/bytes.h"

namespace doppel::packet {

namespace opt {

enum Kind : uint8_t {
  kEnd = 0,
  kNop = 1,
  kMss = 2,
  kWscale = 3,
  kSackOk = 4,
  kSack = 5,
  kTimestamps = 8,
  kMd5 = 19,   // RFC 2385
  kAo = 29,    // RFC 5925
  kMptcp = 30, // RFC 8684
  kTfo = 34,   // RFC 7413
};

Bytes end();
Bytes nop();
Bytes mss(uint16_t value);
Bytes wscale(uint8_t shift);
Bytes sack_ok();
Bytes timestamps(uint32_t value, uint32_t echo);
Bytes sack(const std::vector<std::pair<uint32_t, uint32_t>> &blocks);
Bytes md5();
Bytes ao();
Bytes mptcp_capable();
Bytes mptcp_join();
Bytes mptcp_data();             // a data sequence signal
Bytes tfo(const Bytes &cookie); // empty: a request for one
Bytes unknown(uint8_t kind, const Bytes &data);
Bytes lying(uint8_t kind, uint8_t length, const Bytes &data); // length as told, not as is

// What Linux sends: MSS, SACK-permitted, timestamps, NOP, window scale.
std::vector<Bytes> linux_syn(uint32_t tsval, uint32_t tsecr = 0, uint16_t mss_value = 1460,
                             uint8_t shift = 7);
// NOP, NOP, timestamps.
std::vector<Bytes> linux_data(uint32_t tsval, uint32_t tsecr);

} // namespace opt

// Reads what is there as RFC 9293, 3.2 says; `broken` if a length runs out of the header.
struct TcpOptions {
  std::optional<uint16_t> mss;
  std::optional<uint8_t> wscale;
  bool sack_ok = false;
  std::optional<std::pair<uint32_t, uint32_t>> timestamps;
  std::vector<std::pair<uint32_t, uint32_t>> sack;
  std::vector<uint8_t> kinds; // in order, without NOP and END
  bool broken = false;

  bool has(uint8_t kind) const;
};

TcpOptions parse_options(const Bytes &raw);

} // namespace doppel::packet
