// SPDX-License-Identifier: Apache-2.0
// Has capture tell which keys requests name, for as long as this is there.
#pragma once

#include <memory>

#include "userspace/migrate/key_heat.h"
#include "userspace/migrate/key_misses.h"
#include "userspace/mirror/key_notes.h"

namespace doppel::migrate {

class KeyReader {
public:
  // How long what is told may wait in the ring, which has room for some thousands.
  static constexpr int kTakeMs = 50;

  // Errors: nothing is attached, or another process shows keys.
  // `access`: to the sources, which are asked for what reads found nothing.
  static Result<std::unique_ptr<KeyReader>> open(const memcached::Access &access);
  ~KeyReader(); // capture tells nothing from then on
  KeyReader(const KeyReader &) = delete;
  KeyReader &operator=(const KeyReader &) = delete;

  // Takes what was told, and has capture go on. After some seconds without this it stops by itself.
  Status take();
  // The keys since the last call. Fails where the mirror is another now.
  Result<KeyModel> finish();

private:
  KeyReader(Attached attached, const memcached::Access &access);
  Status start();
  Status watch(uint64_t now);
  void name_mappings(const Meta &meta);
  void choose_share(const dp_key_sampled &within, double interval_s);

  const Pins pins_;
  const uint32_t mirror_;
  MapTable watch_, sampled_;
  std::unique_ptr<KeyNotes> samples_;
  KeyHeat heat_;
  KeyMisses misses_;
  std::map<uint16_t, std::string> mappings_;
  dp_key_sampled before_{};
  uint64_t began_ns_ = 0, renewed_ns_ = 0;
  uint32_t every_ = 1;
};

} // namespace doppel::migrate
