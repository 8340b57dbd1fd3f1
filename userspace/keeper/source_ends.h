// SPDX-License-Identifier: Apache-2.0
// Ends the flows that the source has ended by itself. Capture looks at the client's packets only,
// and what the source ends by RST (a process killed, a time-out, a socket closed with bytes unread)
// makes the client send nothing more. All sockets are listed at once, so this costs as much for one
// flow as for all, and packets pay nothing.
#pragma once

#include <cstdint>
#include <map>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "userspace/kernel/sock_diag.h"
#include "userspace/mirror/command.h"
#include "userspace/mirror/flow_walk.h"
#include "userspace/mirror/maps.h"

namespace doppel {

class Rtnl;

struct FlowKeyHash {
  size_t operator()(const dp_flow_key &key) const;
};
struct FlowKeyEqual {
  bool operator()(const dp_flow_key &a, const dp_flow_key &b) const;
};

// A sweep asks for the sockets, then looks at every flow. A flow that had no socket in two sweeps
// in a row is ended: its shadow sends what it holds and a FIN, as after the client's own. Two, as
// the first may have come before the socket, or may have missed it (each_tcp_socket()).
//
// Only flows of which a socket of this network namespace is the source are touched: none of a
// mapping with "promiscuous"; of the others, those whose socket an earlier sweep saw, and on
// ingress also those that are addressed to this host and have no other destination by its
// connection tracking, since a socket that lived shortly was never seen.
class SourceEnds {
public:
  static Result<SourceEnds> open(const Pins &pins);

  // The next piece of a sweep: the sockets, or some hundred flows. True: the sweep goes on. After a
  // failure the next call begins a new sweep. `mappings`: those that are attached now.
  Result<bool> step(const std::vector<NamedMapping> &mappings);
  bool under_way() const { return under_way_; }

private:
  struct Conversation { // a flow, as long as it is bound to one shadow
    uint32_t slot, gen;
    uint32_t sweep;       // the last one that found it in the table
    bool seen = false;    // its socket was seen
    bool missed = false;  // the last sweep did not see it
    bool foreign = false; // its socket is not to be expected here
  };
  SourceEnds(CommandProgram program, MapTable flows, MapTable shadows, MapTable mappings)
      : program_(std::move(program)), flows_(std::move(flows)), shadows_(std::move(shadows)),
        mappings_(std::move(mappings)) {}

  Status list_sockets(const std::vector<NamedMapping> &mappings);
  Result<bool> look_at_flows();
  Status judge(const dp_flow_key &key, const dp_flow &flow);
  Result<bool> is_ours(const dp_flow_key &key);
  bool client_ended(const dp_flow &flow) const;

  CommandProgram program_;
  MapTable flows_, shadows_, mappings_;
  FlowWalk walk_;
  bool under_way_ = false;
  uint32_t sweep_ = 0;
  std::vector<uint16_t> flags_;                                        // dp_mapping.flags by row
  std::unordered_set<dp_flow_key, FlowKeyHash, FlowKeyEqual> sockets_; // by ends()
  std::unordered_map<dp_flow_key, Conversation, FlowKeyHash, FlowKeyEqual> known_;
  std::map<Address, bool> local_; // is it this host's?
};

} // namespace doppel
