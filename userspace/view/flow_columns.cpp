// SPDX-License-Identifier: Apache-2.0
#include "userspace/view/flow_columns.h"

#include <iterator>

#include "userspace/view/table.h"

namespace doppel {
namespace {
// At the index that is enum dp_state.
constexpr const char *kStates[] = {"CLOSED",     "SYN-SENT", "ESTABLISHED", "FIN-WAIT",
                                   "CLOSE-WAIT", "LAST-ACK", "TIME-WAIT",   "DATAGRAMS"};

const std::string &shown(const std::string &text) { return text; }
std::string shown(const Endpoint &e) { return e.text(); }

int sign(std::strong_ordering o) { return std::is_lt(o) ? -1 : std::is_gt(o) ? 1 : 0; }

// Of a member of FlowRow.
template <auto member> std::string shown_of(const FlowRow &f) { return shown(f.*member); }
template <auto member> uint64_t value_of(const FlowRow &f) { return f.*member; }
template <auto member> int order_of(const FlowRow &a, const FlowRow &b) {
  return sign(a.*member <=> b.*member);
}

template <auto member> FlowColumn text(const char *name, const char *heading) {
  return {name, heading, FlowUnit::text, shown_of<member>, nullptr, order_of<member>};
}

template <auto member> FlowColumn number(const char *name, const char *heading, FlowUnit unit) {
  return {name, heading, unit, nullptr, value_of<member>, order_of<member>};
}

} // namespace

const std::vector<FlowColumn> &flow_columns() {
  static const std::vector<FlowColumn> list = {
      text<&FlowRow::mapping>("mapping", "MAPPING"),
      text<&FlowRow::client>("client", "CLIENT"),
      text<&FlowRow::server>("server", "SERVER"),
      text<&FlowRow::target>("target", "TARGET"),
      number<&FlowRow::copy>("copy", "", FlowUnit::count),
      text<&FlowRow::shadow>("shadow", "SHADOW"),
      text<&FlowRow::state>("state", "STATE"),
      text<&FlowRow::reason>("reason", "REASON"),
      number<&FlowRow::observed>("observed", "OBSERVED", FlowUnit::bytes),
      number<&FlowRow::delivered>("delivered", "DELIVERED", FlowUnit::bytes),
      number<&FlowRow::in_flight>("in_flight", "IN FLIGHT", FlowUnit::bytes),
      number<&FlowRow::waiting_to_send>("waiting_to_send", "TO SEND", FlowUnit::bytes),
      number<&FlowRow::window>("window", "WINDOW", FlowUnit::bytes),
      number<&FlowRow::cwnd>("cwnd", "CWND", FlowUnit::bytes),
      number<&FlowRow::ssthresh>("ssthresh", "", FlowUnit::bytes),
      number<&FlowRow::resent>("resent", "RESENT", FlowUnit::count),
      number<&FlowRow::srtt_us>("srtt_us", "RTT", FlowUnit::microseconds),
      number<&FlowRow::rto_ms>("rto_ms", "RTO", FlowUnit::milliseconds),
      number<&FlowRow::age_ms>("age_ms", "AGE", FlowUnit::milliseconds),
      number<&FlowRow::idle_ms>("idle_ms", "IDLE", FlowUnit::milliseconds)};
  return list;
}

void add(FlowSum &sum, const FlowRow &f) {
  sum.flows++;
  sum.observed += f.observed;
  sum.delivered += f.delivered;
  sum.in_flight += f.in_flight;
  sum.waiting_to_send += f.waiting_to_send;
  sum.resent += f.resent;
}

const std::vector<FlowSumColumn> &flow_sum_columns() {
  static const std::vector<FlowSumColumn> list = {
      {"flows", "FLOWS", FlowUnit::count, &FlowSum::flows},
      {"observed", "OBSERVED", FlowUnit::bytes, &FlowSum::observed},
      {"delivered", "DELIVERED", FlowUnit::bytes, &FlowSum::delivered},
      {"in_flight", "IN FLIGHT", FlowUnit::bytes, &FlowSum::in_flight},
      {"waiting_to_send", "TO SEND", FlowUnit::bytes, &FlowSum::waiting_to_send},
      {"resent", "RESENT", FlowUnit::count, &FlowSum::resent}};
  return list;
}

const char *shadow_state_name(uint8_t state) {
  return state < std::size(kStates) ? kStates[state] : "UNKNOWN";
}

std::vector<std::string> flow_states() {
  std::vector<std::string> names = {kWaiting};
  names.insert(names.end(), std::begin(kStates), std::end(kStates));
  return names;
}

std::string human(FlowUnit unit, uint64_t value) {
  const auto n = static_cast<int64_t>(value);
  switch (unit) {
  case FlowUnit::bytes:
    return human_bytes(n);
  case FlowUnit::milliseconds:
    return human_ms(value);
  case FlowUnit::microseconds:
    return human_count(n) + " us";
  case FlowUnit::count:
  case FlowUnit::text:
    break;
  }
  return human_count(n);
}

} // namespace doppel
