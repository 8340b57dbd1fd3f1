// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/other_version.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "doppel/abi.h"
#include "userspace/mirror/command.h"

namespace doppel {
namespace {
constexpr auto kPoll = std::chrono::milliseconds(20);

struct OpenMap {
  std::string path;
  Fd fd;
  bpf_map_info info{};
};

Result<OpenMap> open_map(const Pins &pins, const std::string &name) {
  OpenMap map{pins.map(name), open_pin(pins.map(name))};
  uint32_t len = sizeof(map.info);
  if (!map.fd || bpf_obj_get_info_by_fd(map.fd.get(), &map.info, &len))
    return sys_error(map.path, "cannot be opened", errno);
  return map;
}

struct BtfCloser {
  void operator()(btf *b) const { btf__free(b); }
};
using Btf = std::unique_ptr<btf, BtfCloser>;

struct Member {
  uint32_t type = 0, offset = 0; // offset: bytes
};

std::optional<Member> find_member(const btf *b, uint32_t type, const std::string &name) {
  const int id = btf__resolve_type(b, type);
  const btf_type *t = id < 0 ? nullptr : btf__type_by_id(b, static_cast<uint32_t>(id));
  if (!t || !btf_is_struct(t))
    return {};
  const btf_member *members = btf_members(t);
  for (uint32_t i = 0; i < btf_vlen(t); i++)
    if (name == btf__name_by_offset(b, members[i].name_off))
      return Member{members[i].type, btf_member_bit_offset(t, i) / 8};
  return {};
}

// Where a row of `shadows` has what a command needs.
struct Layout {
  uint32_t gen, state;
};

Result<Layout> layout_of(const OpenMap &shadows) {
  const Btf b(btf__load_from_kernel_by_id(shadows.info.btf_id));
  if (!b) { // that takes CAP_SYS_ADMIN; and no command does harm to a slot of another generation
    if (shadows.info.value_size < sizeof(dp_shadow))
      return Error{shadows.path, "has rows of an unknown kind", {}};
    return Layout{offsetof(dp_shadow, gen),
                  offsetof(dp_shadow, tcp) + offsetof(dp_tcp_state, state)};
  }
  const auto gen = find_member(b.get(), shadows.info.btf_value_type_id, "gen");
  const auto tcp = find_member(b.get(), shadows.info.btf_value_type_id, "tcp");
  const auto state = tcp ? find_member(b.get(), tcp->type, "state") : std::nullopt;
  if (!gen || !state)
    return Error{shadows.path, "has rows of an unknown kind", {}};
  return Layout{gen->offset, tcp->offset + state->offset};
}

struct OpenShadow {
  uint32_t slot, gen;
};

class Shadows {
public:
  Shadows(OpenMap map, Layout layout)
      : map_(std::move(map)), layout_(layout), row_(map_.info.value_size) {}

  // Nothing: the slot is over.
  std::optional<OpenShadow> look(uint32_t slot) {
    if (bpf_map_lookup_elem(map_.fd.get(), &slot, row_.data()))
      return {};
    const uint8_t state = row_[layout_.state];
    OpenShadow shadow{slot, 0};
    std::memcpy(&shadow.gen, &row_[layout_.gen], sizeof(shadow.gen));
    if (state == DP_CLOSED || state == DP_TIME_WAIT)
      return {};
    return shadow;
  }

  std::vector<OpenShadow> all() {
    std::vector<OpenShadow> open;
    for (uint32_t slot = 0; slot < map_.info.max_entries; slot++)
      if (const auto shadow = look(slot))
        open.push_back(*shadow);
    return open;
  }

private:
  OpenMap map_;
  Layout layout_;
  std::vector<uint8_t> row_;
};

} // namespace

Status pause_other_version(const Pins &pins) {
  const auto control = TRY(open_map(pins, "control"));
  std::vector<uint8_t> value(std::max<size_t>(control.info.value_size, sizeof(uint32_t)));
  const uint32_t key = 0, paused = 1;
  std::memcpy(value.data(), &paused, sizeof(paused));
  if (bpf_map_update_elem(control.fd.get(), &key, value.data(), BPF_ANY))
    return sys_error(control.path, "cannot be written", errno);
  return Unit{};
}

Result<Drained> drain_other_version(const Pins &pins, uint32_t wait_ms, const Pause &pause) {
  auto map = TRY(open_map(pins, "shadows"));
  const auto layout = TRY(layout_of(map));
  const auto program = TRY(CommandProgram::open(pins));
  Shadows shadows(std::move(map), layout);
  auto open = shadows.all();
  for (const OpenShadow &s : open)
    TRY(program.shadow(DP_CMD_CLOSE, s.slot, s.gen));
  const auto over = [&](const OpenShadow &s) {
    const auto now = shadows.look(s.slot);
    return !now || now->gen != s.gen;
  };
  Drained drained;
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(wait_ms);
  for (;;) {
    drained.closed += static_cast<uint32_t>(std::erase_if(open, over));
    if (open.empty() || std::chrono::steady_clock::now() >= until)
      break;
    pause_for(pause, kPoll);
  }
  for (const OpenShadow &s : open) {
    TRY(program.shadow(DP_CMD_RESET, s.slot, s.gen));
    drained.reset++;
  }
  return drained;
}

} // namespace doppel
