// SPDX-License-Identifier: Apache-2.0
// What becomes of a connection that the user leaves out, whatever the reason.
#pragma once

#include <string>

#include "tests/bpf/session.h"

namespace doppel::bpftest {

class LeftOut : public Session {
protected:
  // By its name in the ledger.
  virtual std::string reason() const = 0;
  void expect_left_out(int64_t bytes) {
    expect_account({{"observed", bytes}, {"excluded." + reason(), bytes}});
  }
  void expect_not_mirrored() {
    capture(client_.syn()).none();
    capture(client_.ack()).none();
    capture(client_.data(kGet)).none();
    expect_left_out(7);
  }
  void expect_each_byte_once() {
    expect_not_mirrored();
    capture(client_.data(kGet)).none();
    capture(client_.segment(client_.next - 7, packet::PSH, kGet)).none(); // again
    expect_left_out(14);
    expect_flows({{"waiting", 1}});
    client_.answered(5);
    capture(client_.data(kGet)).none(); // any other may join here
    expect_left_out(21);
    capture(client_.fin()).none();
    expect_left_out(21);
    EXPECT_EQ(new_flow_entries(), 0);
  }
  void expect_no_join() {
    for (int i = 0; i < 6; i++) {
      capture(client_.data(kGet)).none();
      client_.answered(5);
    }
    expect_left_out(42);
  }
  void expect_unreadable_as_well() {
    packet::Packet p = client_.data(filler(368));
    p.fragment(0, true);
    capture(p).none();
    for (int i = 0; i < 3; i++) {
      client_.answered(5);
      capture(client_.data(kGet)).none();
    }
    expect_left_out(368 + 21);
  }
};

} // namespace doppel::bpftest
