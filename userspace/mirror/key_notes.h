// SPDX-License-Identifier: Apache-2.0
// What capture tells of keys that may differ on the targets: the ring `key_notes`, and the map
// `converge` with what came of them. One process at a time may read the ring.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "userspace/mirror/maps.h"

struct ring_buffer;

namespace doppel {

class KeyNotes {
public:
  using Take = std::function<void(const dp_key_note &)>;

  // Errors: another process reads it. `take` must not throw.
  static Result<std::unique_ptr<KeyNotes>> open(const Pins &pins, Take take);
  KeyNotes(const KeyNotes &) = delete;
  KeyNotes &operator=(const KeyNotes &) = delete;

  // Hands over what is there, or comes within `timeout_ms`. A signal ends the wait.
  Status poll(int timeout_ms);

private:
  explicit KeyNotes(Take take) : take_(std::move(take)) {}
  static int note(void *self, void *data, size_t size);

  struct Closer {
    void operator()(ring_buffer *ring) const;
  };
  Take take_;
  Fd lock_; // a flock on the directory of the maps: it ends with the process
  std::unique_ptr<ring_buffer, Closer> ring_;
};

// `row`: of a mapping.
Result<dp_converge> read_converge(const MapTable &converge, uint32_t row);
Status write_converge(const MapTable &converge, uint32_t row, const dp_converge &value);

} // namespace doppel
