// SPDX-License-Identifier: Apache-2.0
// What capture tells of keys: the ring `key_notes` of those that may differ on the targets, with
// the map `converge` of what came of them, and the ring `key_samples` of those that requests name.
// One process at a time may read a ring.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "userspace/mirror/maps.h"

struct ring_buffer;

namespace doppel {

class KeyNotes {
public:
  using Take = std::function<void(const dp_key_note &)>;

  // `key_notes`. Errors: another process reads it. `take` must not throw.
  static Result<std::unique_ptr<KeyNotes>> open(const Pins &pins, Take take);
  // The same of `key_samples`, to which nothing is told before write_key_watch().
  static Result<std::unique_ptr<KeyNotes>> open_samples(const Pins &pins, Take take);
  KeyNotes(const KeyNotes &) = delete;
  KeyNotes &operator=(const KeyNotes &) = delete;

  // Hands over what is there, or comes within `timeout_ms`. A signal ends the wait.
  Status poll(int timeout_ms);
  // Hands over what is there.
  Status take_all();

private:
  KeyNotes(std::string name, Take take) : name_(std::move(name)), take_(std::move(take)) {}
  Status lock(const std::string &directory, const Error &taken);
  Status read(const std::string &path);
  static int note(void *self, void *data, size_t size);

  struct Closer {
    void operator()(ring_buffer *ring) const;
  };
  const std::string name_; // of the map
  Take take_;
  Fd lock_; // a flock on a directory of pins: it ends with the process
  std::unique_ptr<ring_buffer, Closer> ring_;
};

// `row`: of a mapping.
Result<dp_converge> read_converge(const MapTable &converge, uint32_t row);
Status write_converge(const MapTable &converge, uint32_t row, const dp_converge &value);

Status write_key_watch(const MapTable &watch, const dp_key_watch &value);
// Sum over all CPUs.
Result<dp_key_sampled> read_key_sampled(const MapTable &sampled);

} // namespace doppel
