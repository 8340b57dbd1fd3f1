// SPDX-License-Identifier: Apache-2.0
// What the data plane tells the keeper: shadows on which a retransmission is due.
#pragma once

#include <cstdint>
#include <map>
#include <memory>

#include "userspace/mirror/command.h"

struct ring_buffer;

namespace doppel {

class RetransmitEvents {
public:
  // Resends at once what is due already: its event may have gone unheard.
  static Result<std::unique_ptr<RetransmitEvents>> open(const Pins &pins);
  RetransmitEvents(const RetransmitEvents &) = delete;
  RetransmitEvents &operator=(const RetransmitEvents &) = delete;

  int fd() const; // readable: serve() has something to do
  // Empties the ring, then has each shadow that it named resend, once.
  Status serve();

private:
  explicit RetransmitEvents(CommandProgram program) : program_(std::move(program)) {}
  Status resend_what_is_due(const Pins &pins);
  static int note(void *self, void *data, size_t size);

  struct Closer {
    void operator()(ring_buffer *ring) const;
  };
  CommandProgram program_;
  std::unique_ptr<ring_buffer, Closer> ring_;
  std::map<uint32_t, uint32_t> due_; // slot to generation
};

} // namespace doppel
