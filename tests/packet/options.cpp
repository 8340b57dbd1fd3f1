// SPDX-License-Identifier: Apache-2.0
#include "tests/packet/options.h"

#include <algorithm>

namespace doppel::packet {

namespace opt {

Bytes unknown(uint8_t kind, const Bytes &data) {
  return lying(kind, static_cast<uint8_t>(data.size() + 2), data);
}

Bytes lying(uint8_t kind, uint8_t length, const Bytes &data) {
  Bytes out{kind, length};
  append(out, data);
  return out;
}

Bytes end() { return {kEnd}; }
Bytes nop() { return {kNop}; }

Bytes mss(uint16_t value) {
  Bytes v;
  put16(v, value);
  return unknown(kMss, v);
}

Bytes wscale(uint8_t shift) { return unknown(kWscale, {shift}); }
Bytes sack_ok() { return unknown(kSackOk, {}); }

Bytes timestamps(uint32_t value, uint32_t echo) {
  Bytes v;
  put32(v, value);
  put32(v, echo);
  return unknown(kTimestamps, v);
}

Bytes sack(const std::vector<std::pair<uint32_t, uint32_t>> &blocks) {
  Bytes v;
  for (auto [from, to] : blocks) {
    put32(v, from);
    put32(v, to);
  }
  return unknown(kSack, v);
}

Bytes md5() { return unknown(kMd5, Bytes(16, 0xd5)); }
Bytes ao() { return unknown(kAo, Bytes(14, 0xa0)); }
Bytes mptcp_capable() { return unknown(kMptcp, {0x01, 0x81}); }
Bytes mptcp_join() { return unknown(kMptcp, {0x10, 0x01, 't', 'o', 'k', 'n', 'r', 'a', 'n', 'd'}); }
Bytes mptcp_data() { return unknown(kMptcp, {0x20, 0x01, 0, 0, 0, 1}); }
Bytes tfo(const Bytes &cookie) { return unknown(kTfo, cookie); }

std::vector<Bytes> linux_syn(uint32_t tsval, uint32_t tsecr, uint16_t mss_value, uint8_t shift) {
  return {mss(mss_value), sack_ok(), timestamps(tsval, tsecr), nop(), wscale(shift)};
}

std::vector<Bytes> linux_data(uint32_t tsval, uint32_t tsecr) {
  return {nop(), nop(), timestamps(tsval, tsecr)};
}

} // namespace opt

bool TcpOptions::has(uint8_t kind) const {
  return std::find(kinds.begin(), kinds.end(), kind) != kinds.end();
}

TcpOptions parse_options(const Bytes &raw) {
  TcpOptions out;
  for (size_t i = 0; i < raw.size();) {
    const uint8_t kind = raw[i];
    if (kind == opt::kEnd)
      break;
    if (kind == opt::kNop) {
      i++;
      continue;
    }
    if (i + 1 >= raw.size() || raw[i + 1] < 2 || i + raw[i + 1] > raw.size()) {
      out.broken = true;
      break;
    }
    const uint8_t length = raw[i + 1];
    const uint8_t *v = &raw[i] + 2;
    out.kinds.push_back(kind);
    if (kind == opt::kMss && length == 4)
      out.mss = get16(v);
    if (kind == opt::kWscale && length == 3)
      out.wscale = *v;
    if (kind == opt::kSackOk && length == 2)
      out.sack_ok = true;
    if (kind == opt::kTimestamps && length == 10)
      out.timestamps = {get32(v), get32(v + 4)};
    if (kind == opt::kSack && (length - 2) % 8 == 0)
      for (unsigned at = 0; at + 8 <= length - 2u; at += 8)
        out.sack.emplace_back(get32(v + at), get32(v + at + 4));
    i += length;
  }
  return out;
}

} // namespace doppel::packet
