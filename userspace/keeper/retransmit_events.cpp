// SPDX-License-Identifier: Apache-2.0
#include "userspace/keeper/retransmit_events.h"

#include <bpf/libbpf.h>

#include <cerrno>

#include "userspace/mirror/maps.h"

namespace doppel {

void Wake::Closer::operator()(ring_buffer *ring) const { ring_buffer__free(ring); }

Result<std::unique_ptr<Wake>> Wake::open(const Pins &pins) {
  auto program = CommandProgram::open(pins);
  if (!program)
    return program.errors();
  std::unique_ptr<Wake> wake(new Wake(std::move(*program)));
  const std::string path = pins.map("events");
  Fd events = open_pin(path); // the ring has the map in its own mappings: this may be closed
  if (!events)
    return sys_error(path, "cannot be opened", errno);
  wake->ring_.reset(ring_buffer__new(events.get(), note, wake.get(), nullptr));
  if (!wake->ring_)
    return sys_error(path, "cannot be read", errno);
  if (auto s = wake->serve(); !s)
    return s.errors();
  if (auto s = wake->resend_what_is_due(pins); !s)
    return s.errors();
  return wake;
}

int Wake::fd() const { return ring_buffer__epoll_fd(ring_.get()); }

int Wake::note(void *self, void *data, size_t size) {
  const auto *wake = static_cast<const dp_retransmit *>(data);
  if (size >= sizeof(*wake) && wake->kind == DP_RETRANSMIT_DUE)
    static_cast<Wake *>(self)->due_[wake->slot] = wake->gen;
  return 0;
}

Status Wake::serve() {
  const int err = ring_buffer__consume(ring_.get());
  if (err < 0)
    return sys_error("map events", "cannot be read", -err);
  for (const auto &[slot, gen] : due_)
    if (auto s = program_.shadow(DP_CMD_RESEND, slot, gen); !s)
      return s;
  due_.clear();
  return Unit{};
}

Status Wake::resend_what_is_due(const Pins &pins) {
  auto table = open_table(pins, "shadows", sizeof(dp_shadow));
  if (!table)
    return table.errors();
  auto shadows = read_shadows(*table);
  if (!shadows)
    return shadows.errors();
  for (uint32_t slot = 0; slot < shadows->size(); slot++)
    if (const dp_shadow &s = (*shadows)[slot]; !is_over(s) && (s.tcp.flags & DP_SH_DUE))
      if (auto done = program_.shadow(DP_CMD_RESEND, slot, s.gen); !done)
        return done;
  return Unit{};
}

} // namespace doppel
