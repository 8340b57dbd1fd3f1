// SPDX-License-Identifier: Apache-2.0
// Packets for people: one line, a field by field difference, a Scapy expression.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tests/packet/view.h"

namespace doppel::packet {

using Fields = std::vector<std::pair<std::string, std::string>>;

// Every field by its name: "eth.src", "ip.ttl", "tcp.seq", "opt.mss", "payload", ...
Fields fields(const View &v);

// "10.0.0.1:40000 > 10.0.0.2:11211 SA seq 1 ack 2 win 65535 <mss 1460> 10 B"
std::string summary(const View &v);
std::string flag_letters(unsigned flags); // as Scapy writes them: "SA", "PA", ...

// A Scapy (2.5) expression that makes this very frame. Structured when the frame is well formed,
// else made of its bytes.
std::string scapy(const View &v);

// Empty if the frames agree in all fields but those in `ignore`. Else the fields that differ, both
// frames in hexadecimal, and how to make each with Scapy.
std::string diff(const View &expected, const View &got,
                 const std::vector<std::string> &ignore = {});

} // namespace doppel::packet
