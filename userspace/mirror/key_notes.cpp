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

#include "userspace/kernel/cpus.h"

namespace doppel {

void KeyNotes::Closer::operator()(ring_buffer *ring) const { ring_buffer__free(ring); }

namespace {
std::string directory_of(const std::string &path) { return path.substr(0, path.rfind('/')); }
} // namespace

Status KeyNotes::lock(const std::string &directory, const Error &taken) {
  lock_ = Fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!lock_)
    return sys_error(directory, "cannot be opened", errno);
  if (::flock(lock_.get(), LOCK_EX | LOCK_NB))
    return taken;
  return Unit{};
}

Status KeyNotes::read(const std::string &path) {
  Fd map = open_pin(path); // the ring has the map in its own mappings: this may be closed
  if (!map)
    return sys_error(path, "cannot be opened", errno);
  ring_.reset(ring_buffer__new(map.get(), note, this, nullptr));
  if (!ring_)
    return sys_error(path, "cannot be read", errno);
  return Unit{};
}

Result<std::unique_ptr<KeyNotes>> KeyNotes::open(const Pins &pins, Take take) {
  std::unique_ptr<KeyNotes> notes(new KeyNotes("key_notes", std::move(take)));
  const std::string path = pins.map(notes->name_), directory = directory_of(path);
  TRY(notes->lock(directory,
                  Error{directory, "is locked: another process lets this mirror's servers converge",
                        "doppel run does it by itself where a mapping says \"converge\": true"}));
  TRY(notes->read(path));
  return notes;
}

// The directory of the programs is the lock: that of the maps is who lets the servers converge's.
Result<std::unique_ptr<KeyNotes>> KeyNotes::open_samples(const Pins &pins, Take take) {
  std::unique_ptr<KeyNotes> notes(new KeyNotes("key_samples", std::move(take)));
  const std::string directory = directory_of(pins.prog("any"));
  TRY(notes->lock(directory,
                  Error{directory, "is locked: another doppel top shows this mirror's keys",
                        "one at a time can"}));
  TRY(notes->read(pins.map(notes->name_)));
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
    return sys_error("map " + name_, "cannot be read", -err);
  return Unit{};
}

Status KeyNotes::take_all() {
  if (const int err = ring_buffer__consume(ring_.get()); err < 0 && err != -EINTR)
    return sys_error("map " + name_, "cannot be read", -err);
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

Status write_key_watch(const MapTable &watch, const dp_key_watch &value) {
  const uint32_t zero = 0;
  if (bpf_map_update_elem(watch.fd.get(), &zero, &value, BPF_ANY))
    return sys_error("map key_watch", "cannot be written", errno);
  return Unit{};
}

Result<dp_key_sampled> read_key_sampled(const MapTable &sampled) {
  const uint32_t zero = 0;
  std::vector<dp_key_sampled> cpus(TRY(possible_cpus()));
  if (bpf_map_lookup_elem(sampled.fd.get(), &zero, cpus.data()))
    return sys_error("map key_sampled", "cannot be read", errno);
  dp_key_sampled sum{};
  for (const dp_key_sampled &cpu : cpus) {
    sum.keys += cpu.keys;
    sum.told += cpu.told;
    sum.dropped += cpu.dropped;
  }
  return sum;
}

} // namespace doppel
