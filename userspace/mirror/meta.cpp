// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/meta.h"

#include <bpf/bpf.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "doppel/abi.h"
#include "userspace/config/settings.h"

namespace doppel {
namespace {
using SortedJson = nlohmann::json;

constexpr size_t kReloadRoom = DP_META_SIZE / 4; // the rest is for the mappings and programs

// A file name need not be UTF-8; JSON must be.
std::string dump(const SortedJson &j) {
  return j.dump(-1, ' ', false, SortedJson::error_handler_t::replace);
}

SortedJson to_json(const Error &e) {
  return {
      {"where", e.where}, {"what", e.what}, {"hint", e.hint}, {"exit", static_cast<int>(e.exit)}};
}

// The pins of another layout are in another directory.
template <typename T> using Words = std::array<uint32_t, sizeof(T) / sizeof(uint32_t)>;

template <typename T> Words<T> words_of(const T &row) {
  Words<T> words;
  static_assert(sizeof(words) == sizeof(row));
  std::memcpy(words.data(), &row, sizeof(row));
  return words;
}

template <typename T> void words_to(const SortedJson &j, T *row) {
  const auto words = j.get<Words<T>>();
  std::memcpy(row, words.data(), sizeof(*row));
}

SortedJson to_json(const NamedMapping &n) {
  SortedJson row{{"name", n.name},
                 {"devices", n.devices},
                 {"direction", n.direction},
                 {"protocol", n.protocol},
                 {"ports", n.ports},
                 {"targets", n.targets},
                 {"row", n.row}};
  if (n.since_ns) {
    row["since"] = n.since;
    row["since_ns"] = n.since_ns;
  }
  if (!n.clients.digest.empty())
    row["clients"] = {n.clients.include, n.clients.exclude, n.clients.digest, n.clients.number};
  if (!n.address.empty())
    row["address"] = n.address;
  if (n.converges_ns)
    row["converges_ns"] = n.converges_ns;
  return row;
}

SortedJson to_json(const Meta &m) {
  SortedJson j{{"complete", m.complete},
               {"changing", m.changing},
               {"since", m.since},
               {"since_ns", m.since_ns},
               {"config", m.config_source},
               {"mechanism", attach_mode_name(m.mechanism)},
               {"netns", {{"cookie", m.netns.cookie}, {"inode", m.netns.inode}}},
               {"clock", m.clock},
               {"data_plane", words_of(m.config)},
               {"made_qdisc", m.made_qdisc},
               {"limits", limits_text(m.limits)},
               {"removed_mappings", m.removed_mappings},
               {"removed", words_of(m.removed)},
               {"counted", m.counted},
               {"reloads", m.reloads},
               {"reload_errors", SortedJson::array()},
               {"reload_text", m.reload_text},
               {"mappings", SortedJson::array()},
               {"going", SortedJson::array()},
               {"programs", SortedJson::array()}};
  for (const Error &e : m.reload_errors)
    j["reload_errors"].push_back(to_json(e));
  for (const auto &n : m.mappings)
    j["mappings"].push_back(to_json(n));
  for (const auto &n : m.going)
    j["going"].push_back(to_json(n));
  for (const auto &p : m.programs)
    j["programs"].push_back({{"program", p.what.program},
                             {"device", p.what.device},
                             {"ifindex", p.what.ifindex},
                             {"hook", p.what.direction},
                             {"optional", p.what.optional},
                             {"prog_id", p.prog_id},
                             {"link_id", p.link_id},
                             {"priority", p.priority},
                             {"handle", p.handle}});
  return j;
}

struct Unreadable : std::runtime_error {
  using std::runtime_error::runtime_error;
};

ClientListId clients_from(const SortedJson &mapping) {
  if (!mapping.contains("clients"))
    return {};
  const SortedJson &c = mapping.at("clients");
  return {c.at(0), c.at(1), c.at(2), c.at(3)};
}

std::vector<std::string> devices_from(const SortedJson &mapping) {
  if (!mapping.contains("devices")) // attached by a doppel that had one for each mapping
    return {mapping.at("device").get<std::string>()};
  return mapping.at("devices").get<std::vector<std::string>>();
}

NamedMapping mapping_from(const SortedJson &n) {
  return {n.at("name"),
          devices_from(n),
          n.at("direction"),
          n.at("protocol"),
          n.at("ports"),
          n.at("targets").get<std::vector<std::string>>(),
          n.at("row"),
          n.value("since", std::time_t{0}),
          n.value("since_ns", uint64_t{0}),
          n.value("converges_ns", uint64_t{0}),
          clients_from(n),
          n.value("address", std::string())};
}

// Throws SortedJson::exception or Unreadable on anything unexpected.
Meta from_json(const SortedJson &j) {
  Meta m;
  j.at("complete").get_to(m.complete);
  m.changing = j.value("changing", false); // attached by a doppel that did not note it
  j.at("since").get_to(m.since);
  m.since_ns = j.value("since_ns", uint64_t{0}); // 0: attached by a doppel that did not note it
  j.at("config").get_to(m.config_source);
  m.mechanism = j.at("mechanism") == "tcx" ? AttachMode::tcx : AttachMode::clsact;
  j.at("netns").at("cookie").get_to(m.netns.cookie);
  j.at("netns").at("inode").get_to(m.netns.inode);
  j.at("clock").get_to(m.clock);
  words_to(j.at("data_plane"), &m.config);
  j.at("made_qdisc").get_to(m.made_qdisc);
  const auto limits = limits_from_text(j.at("limits").get<std::map<std::string, std::string>>());
  if (!limits)
    throw Unreadable("a setting has no value");
  m.limits = *limits;
  if (j.contains("removed")) { // attached by a doppel that did not keep it
    j.at("removed_mappings").get_to(m.removed_mappings);
    words_to(j.at("removed"), &m.removed);
    j.at("counted").get_to(m.counted);
  }
  j.at("reloads").get_to(m.reloads);
  j.at("reload_text").get_to(m.reload_text);
  for (const SortedJson &e : j.at("reload_errors"))
    m.reload_errors.push_back(
        {e.at("where"), e.at("what"), e.at("hint"), static_cast<Exit>(e.at("exit").get<int>())});
  for (const SortedJson &n : j.at("mappings"))
    m.mappings.push_back(mapping_from(n));
  for (const SortedJson &n : j.value("going", SortedJson::array()))
    m.going.push_back(mapping_from(n));
  for (const SortedJson &p : j.at("programs")) {
    AttachedProgram program;
    program.what = {p.at("program"), p.at("device"), p.at("ifindex"),
                    p.at("hook").get<int>() == DP_DIR_INGRESS ? DP_DIR_INGRESS : DP_DIR_EGRESS,
                    p.at("optional").get<bool>()};
    program.mechanism = m.mechanism;
    p.at("prog_id").get_to(program.prog_id);
    p.at("link_id").get_to(program.link_id);
    p.at("priority").get_to(program.priority);
    p.at("handle").get_to(program.handle);
    program.ours = true;
    m.programs.push_back(std::move(program));
  }
  return m;
}

} // namespace

Status write_reload(const Pins &pins, const Meta &meta) {
  Meta m = meta;
  m.reload_text.clear();
  m.reload_errors.clear();
  size_t room = kReloadRoom;
  const auto take = [&room](const SortedJson &more) {
    const size_t size = dump(more).size() + 1; // and a comma
    room -= std::min(room, size);
    return room > 0;
  };
  Error last{"", std::to_string(meta.reload_errors.size()) + " errors in all",
             "doppel check --config " + meta.config_source + " explains each of them"};
  for (const Error &e : meta.reload_errors) {
    last.exit = std::max(last.exit, e.exit);
    if (take(to_json(e)))
      m.reload_errors.push_back(e);
  }
  if (m.reload_errors.size() < meta.reload_errors.size())
    m.reload_errors.push_back(last);
  m.reload_text = take(meta.reload_text) ? meta.reload_text : "more changed than can be told here";
  return write_meta(pins, m);
}

Status write_meta(int meta_fd, const Meta &meta) {
  const std::string text = dump(to_json(meta));
  bpf_map_info info{};
  uint32_t len = sizeof(info);
  if (bpf_obj_get_info_by_fd(meta_fd, &info, &len))
    return sys_error("map meta", "cannot be inspected", errno);
  if (text.size() >= info.value_size)
    return Error{"map meta",
                 "the description of the mappings has " + std::to_string(text.size()) +
                     " bytes and does not fit",
                 "use fewer or shorter names, or attach with a larger \"max_mappings\""};
  std::string value = text;
  value.resize(info.value_size);
  const uint32_t key = 0;
  if (bpf_map_update_elem(meta_fd, &key, value.data(), BPF_ANY))
    return sys_error("map meta", "cannot be written", errno);
  return Unit{};
}

Status write_meta(const Pins &pins, const Meta &meta) {
  const std::string path = pins.map("meta");
  Fd map = open_pin(path);
  if (!map)
    return sys_error(path, "cannot be opened", errno);
  return write_meta(map.get(), meta);
}

uint32_t mirror_id(const Pins &pins) {
  const Fd map = open_pin_to_read(pins.map("meta"));
  bpf_map_info info{};
  uint32_t len = sizeof(info);
  return map && !bpf_obj_get_info_by_fd(map.get(), &info, &len) ? info.id : 0;
}

std::string source_name(const std::string &config_source) {
  std::error_code ec;
  if (!std::filesystem::exists(config_source, ec))
    return config_source;
  auto path = std::filesystem::absolute(config_source, ec);
  return ec ? config_source : path.lexically_normal().string();
}

Result<FoundMeta> find_meta(const Pins &pins) {
  const std::string path = pins.map("meta");
  const auto none = [&](const std::string &why) {
    return FoundMeta{std::nullopt, {path, why, "doppel detach removes what is left"}};
  };
  const Fd map = open_pin_to_read(path);
  if (!map && errno == ENOENT)
    return none(std::string("cannot be opened: ") + std::strerror(errno));
  if (!map)
    return sys_error(path, "cannot be opened", errno);
  uint32_t key = 0, len = sizeof(bpf_map_info);
  bpf_map_info info{};
  if (bpf_obj_get_info_by_fd(map.get(), &info, &len))
    return sys_error(path, "cannot be inspected", errno);
  if (info.value_size < dp_meta_size(1))
    return none("is not a map of this doppel");
  std::string value(info.value_size, '\0');
  if (bpf_map_lookup_elem(map.get(), &key, value.data()))
    return sys_error(path, "cannot be read", errno);
  value.resize(value.find('\0') == std::string::npos ? value.size() : value.find('\0'));
  try {
    Meta meta = from_json(SortedJson::parse(value));
    meta.id = info.id;
    return FoundMeta{std::move(meta), {}};
  } catch (const std::exception &e) {
    return none(std::string("holds no description of an attachment: ") + e.what());
  }
}

Result<Meta> read_meta(const Pins &pins) {
  auto found = TRY(find_meta(pins));
  if (!found.meta)
    return found.why;
  return std::move(*found.meta);
}

} // namespace doppel
