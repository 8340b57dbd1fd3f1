// SPDX-License-Identifier: Apache-2.0
// The pins of one data plane: <bpffs>/doppel/v<ABI>/{maps,progs,links}/, and the lock on them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "doppel/abi.h"
#include "doppel/names.h"
#include "userspace/util/error.h"
#include "userspace/util/fd.h"
#include "userspace/util/pause.h"

namespace doppel {

// The mount point of bpffs to use in this process from now on; empty: none is chosen.
void use_bpffs(std::string dir);

// Mount point of bpffs: the chosen one, else $DOPPEL_BPFFS, else /sys/fs/bpf, else the first one in
// /proc/self/mounts. An error tells how to mount one.
Result<std::string> find_bpffs();

// The mount point in this mount namespace of what Pins::file_system() names; empty: there is none.
std::string mount_of(const std::string &file_system);

class Pins {
public:
  // Touches nothing. Fails without bpffs, and where top() is somebody else's: anybody may make a
  // directory in bpffs, whose root usually is like /tmp.
  static Result<Pins> locate();

  // Which BPF file system it is, in words: the same for every mount of it, and another's in a mount
  // namespace that has its own. Until it is unmounted everywhere.
  std::string file_system() const;

  const std::string &top() const { return top_; } // <bpffs>/doppel
  std::string map(const std::string &name) const { return dir_ + "/" DP_PIN_MAPS "/" + name; }
  std::string prog(const std::string &name) const { return dir_ + "/" DP_PIN_PROGS "/" + name; }
  std::string keeper() const { return top_ + "/keeper"; } // locked by `doppel run`
  // bpffs reserves dots in names (bpf_lookup()), so that a device appears by its ifindex.
  std::string link(const std::string &prog, uint32_t ifindex, dp_direction direction) const;

  bool exist() const; // anything of this ABI, as far as this user may see
  // Fails where that cannot be seen: pins are for their owner only.
  Status require_sight() const;
  bool are_read_only() const; // the BPF file system is: nothing can be pinned, removed or written
  std::vector<std::string> links() const;          // paths
  std::vector<std::string> progs() const;          // paths
  std::vector<std::string> maps() const;           // paths
  std::vector<std::string> other_versions() const; // "v2", pinned by another doppel

  Pins of_version(const std::string &name) const; // one of other_versions(), as if it were ours

  // Exclusive lock on top(), which is created. Waits for a few seconds, by `pause`, then fails.
  Result<Fd> lock(const Pause &pause = {}) const;
  bool is_locked() const; // at this moment, by anybody
  // "process 123", "process 123, which is stopped"; empty: nobody holds it, or not known who.
  std::string lock_holder() const;
  Status check_owner() const;
  Status make_directories() const;
  Status pin(int fd, const std::string &path) const;
  // Removes everything of this ABI, and top() if nothing of another version is left there.
  Status remove() const;
  // Leaves it while a keeper runs, who removes it when it ends.
  void remove_top_if_empty() const;
  // The same for who does not hold the lock: not while somebody does, who may be about to pin.
  void remove_top_if_idle() const;

private:
  Error locked_by(const std::string &holder) const;
  explicit Pins(const std::string &bpffs);
  std::string top_, dir_;
};

// A pinned object. Without a value: errno is set.
Fd open_pin(const std::string &path);
// A pinned map to read, or a program to run: that works on a BPF file system that is read-only as
// well, which gives nothing that can be written.
Fd open_pin_to_read(const std::string &path);

} // namespace doppel
