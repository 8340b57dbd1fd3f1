// SPDX-License-Identifier: Apache-2.0
// What systemd is told (sd_notify(3)). Without systemd each function does nothing.
#pragma once

#include <cstdint>
#include <string>

namespace doppel {

void notify_ready(const std::string &status);
void notify_status(const std::string &status);
void notify_reloading();
void notify_stopping(bool leave); // true: the mirror stays
void notify_alive();

// How often systemd wants to hear from us; 0: never.
uint64_t watchdog_ms();

} // namespace doppel
