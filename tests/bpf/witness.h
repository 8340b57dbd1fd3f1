// SPDX-License-Identifier: Apache-2.0
// A neighbour's program behind ours on cap0's ingress: it clones whatever reaches it to tap0, so a
// test sees which packets went on, and with which bytes.
#pragma once

namespace doppel::bpftest {

class World;

// Once for each world; clsact, with a priority behind any that doppel would choose.
void attach_witness(const World &world);

} // namespace doppel::bpftest
