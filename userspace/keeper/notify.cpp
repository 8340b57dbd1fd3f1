// SPDX-License-Identifier: Apache-2.0
#include "userspace/keeper/notify.h"

#include <systemd/sd-daemon.h>

#include "userspace/util/clock.h"

namespace doppel {
namespace {
void notify(const std::string &text) { sd_notify(0, text.c_str()); }

} // namespace

void notify_ready(const std::string &status) { notify("READY=1\nSTATUS=" + status); }
void notify_status(const std::string &status) { notify("STATUS=" + status); }

// Type=notify-reload (systemd 253) also wants the time.
void notify_reloading() {
  notify("RELOADING=1\nMONOTONIC_USEC=" + std::to_string(monotonic_ns() / 1000));
}

void notify_stopping(bool leave) {
  notify(std::string("STOPPING=1\nSTATUS=") +
         (leave ? "Leaving the mirror to the next keeper" : "Draining and detaching"));
}
void notify_alive() { notify("WATCHDOG=1"); }

uint64_t watchdog_ms() {
  uint64_t us = 0;
  return sd_watchdog_enabled(0, &us) > 0 ? us / 1000 : 0;
}

} // namespace doppel
