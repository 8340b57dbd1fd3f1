// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/key_notes.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

namespace doppel {

void KeyNotes::Closer::operator()(ring_buffer *ring) const { ring_buffer__free(ring); }

Result<std::unique_ptr<KeyNotes>> KeyNotes::open(const Pins &pins, Take take) {
  std::unique_ptr<KeyNotes> notes(new KeyNotes(std::move(take)));
  const std::string path = pins.map("key_notes"), directory = path.substr(0, path.rfind('/'));
  notes->lock_ = Fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!notes->lock_)
    return sys_error(directory, "cannot be opened", errno);
  if (::flock(notes->lock_.get(), LOCK_EX | LOCK_NB))
    return Error{directory, "is locked: another process lets this mirror's servers converge",
                 "doppel run does it by itself where a mapping says \"converge\": true"};
  Fd map = open_pin(path); // the ring has the map in its own mappings: this may be closed
  if (!map)
    return sys_error(path, "cannot be opened", errno);
  notes->ring_.reset(ring_buffer__new(map.get(), note, notes.get(), nullptr));
  if (!notes->ring_)
    return sys_error(path, "cannot be read", errno);
  return notes;
}

int KeyNotes::note(void *self, void *data, size_t size) {
  dp_key_note n{};
  std::memcpy(&n, data, std::min(size, sizeof(n)));
  if (size >= offsetof(dp_key_note, key) + n.length)
    static_cast<KeyNotes *>(self)->take_(n);
  return 0;
}

Status KeyNotes::poll(int timeout_ms) {
  const int err = ring_buffer__poll(ring_.get(), timeout_ms);
  if (err < 0 && err != -EINTR)
    return sys_error("map key_notes", "cannot be read", -err);
  return Unit{};
}

Result<dp_converge> read_converge(const MapTable &converge, uint32_t row) {
  dp_converge value{};
  if (bpf_map_lookup_elem(converge.fd.get(), &row, &value))
    return sys_error("map converge", "cannot be read", errno);
  return value;
}

Status write_converge(const MapTable &converge, uint32_t row, const dp_converge &value) {
  if (bpf_map_update_elem(converge.fd.get(), &row, &value, BPF_ANY))
    return sys_error("map converge", "cannot be written", errno);
  return Unit{};
}

} // namespace doppel
