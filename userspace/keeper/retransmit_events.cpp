// SPDX-License-Identifier: Apache-2.0
#include "userspace/keeper/retransmit_events.h"

#include <bpf/libbpf.h>

#include <cerrno>

#include "userspace/mirror/maps.h"

namespace doppel {
void RetransmitEvents::Closer::operator()(ring_buffer *ring) const { ring_buffer__free(ring); }

Result<std::unique_ptr<RetransmitEvents>> RetransmitEvents::open(const Pins &pins) {
  auto program = TRY(CommandProgram::open(pins));
  std::unique_ptr<RetransmitEvents> events(new RetransmitEvents(std::move(program)));
  const std::string path = pins.map("events");
  Fd map = open_pin(path); // the ring has the map in its own mappings: this may be closed
  if (!map)
    return sys_error(path, "cannot be opened", errno);
  events->ring_.reset(ring_buffer__new(map.get(), note, events.get(), nullptr));
  if (!events->ring_)
    return sys_error(path, "cannot be read", errno);
  TRY(events->serve());
  TRY(events->resend_what_is_due(pins));
  return events;
}

int RetransmitEvents::fd() const { return ring_buffer__epoll_fd(ring_.get()); }

int RetransmitEvents::note(void *self, void *data, size_t size) {
  const auto *event = static_cast<const dp_retransmit *>(data);
  if (size >= sizeof(*event) && event->kind == DP_RETRANSMIT_DUE)
    static_cast<RetransmitEvents *>(self)->due_[event->slot] = event->gen;
  return 0;
}

Status RetransmitEvents::serve() {
  const int err = ring_buffer__consume(ring_.get());
  if (err < 0)
    return sys_error("map events", "cannot be read", -err);
  for (const auto &[slot, gen] : due_)
    TRY(program_.shadow(DP_CMD_RESEND, slot, gen));
  due_.clear();
  return Unit{};
}

Status RetransmitEvents::resend_what_is_due(const Pins &pins) {
  auto table = TRY(open_table(pins, "shadows", sizeof(dp_shadow), Access::read));
  return each_shadow(table, [&](uint32_t slot, const dp_shadow &s) -> Status {
    if (is_over(s) || !(s.tcp.flags & DP_SH_DUE))
      return Unit{};
    return program_.shadow(DP_CMD_RESEND, slot, s.gen);
  });
}

} // namespace doppel
